"""StyleGAN2-ADA: an unconditional generator from few pictures, and what fine-tunings build on.

Karras et al., arXiv:1912.04958 (StyleGAN2) and arXiv:2006.06676 (ADA), and the authors' PyTorch code:
non-saturating logistic loss, style mixing, lazy R1 and path length, and augmentation of all that D
sees by a probability that follows how sure D is of real pictures.

Differs: R1 and path length are gradients of directional derivatives, equal to the authors' gradients of
gradients at a third of the time; a step that is not finite ends the run, where the authors set its
gradients to finite numbers; everything is in the checkpoint (p, mean path length, optimisers, w_avg).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax import ada
from artifygan_jax.nets import stylegan2
from artifygan_jax.nets.ops import Buffer
from artifygan_jax.phases import Phase


class Latents(NamedTuple):
    """What a batch of pictures is made from: from layer `cut` on the codes are those of `second`."""

    first: jax.Array
    second: jax.Array
    cut: jax.Array


def mix(mapping: stylegan2.LatentMapping, latents: Latents, *, train: bool = False) -> jax.Array:
    """Codes `[N, num_ws, w]` of both latents, mixed (arXiv:1812.04948, section 3.1)."""
    ws, other = mapping(latents.first, train=train), mapping(latents.second)
    return jnp.where((jnp.arange(mapping.num_ws) < latents.cut)[None, :, None], ws, other)


class PathLength(nnx.Module):
    """The running mean of path lengths."""

    def __init__(self):
        self.mean = Buffer(jnp.zeros(()))


@dataclasses.dataclass
class StyleGAN2ADA:
    """Hyper-parameters of the method; batches hold `real`.

    `r1_gamma` multiplies the penalty of D's gradient at real pictures, every `r1_every` steps;
    `path_weight` that of path lengths, every `path_every` steps on 1 / `path_shrink` of a batch (0: no
    such phase). `mixing` is the probability of two codes for each picture of a batch, cut at one layer
    for all, as in the authors' code. `augment` None is no augmentation.
    """

    generator: stylegan2.GeneratorOptions = dataclasses.field(
        default_factory=stylegan2.GeneratorOptions
    )
    discriminator: stylegan2.DiscriminatorOptions = dataclasses.field(
        default_factory=stylegan2.DiscriminatorOptions
    )
    r1_gamma: float = 10.0
    r1_every: int = 16
    path_weight: float = 2.0
    path_every: int = 4
    path_shrink: int = 2
    path_decay: float = 0.01
    mixing: float = 0.9
    augment: ada.AdaptiveOptions | None = None
    adapt_every: int = 4

    def nets(self, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """G and D, and what else is remembered: the mean path length, and the augmentation's p."""
        nets: dict[str, nnx.Module] = {
            "g": stylegan2.Generator(self.generator, rngs=rngs),
            "d": stylegan2.Discriminator(self.discriminator, rngs=rngs),
        }
        if self.path_weight:
            nets["path"] = PathLength()
        if self.augment is not None:
            nets["ada"] = ada.Adaptive(self.augment)
        return nets

    def phases(self) -> tuple[Phase, ...]:
        """G, its path lengths, D, its R1, then the augmentation's p, as the authors order them."""
        table = [Phase("g", ("g",), self.g_loss)]
        if self.path_weight:
            table.append(Phase("path", ("g",), self.path_loss, every=self.path_every))
        table.append(Phase("d", ("d",), self.d_loss))
        if self.r1_gamma:
            table.append(Phase("r1", ("d",), self.r1_loss, every=self.r1_every))
        if self.augment is not None:
            # from the first step on that has something to adapt to
            table.append(
                Phase("ada", (), self.adapt, every=self.adapt_every, start=self.adapt_every - 1)
            )
        return tuple(table)

    def g_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """G is good where D takes its pictures for real."""
        keys = jax.random.split(key, 3)
        real = batch["real"]
        ws = self.codes(nets, self.latents(len(real), keys[0]))
        fake = nets["g"].synthesis(ws, noise="random", key=keys[1], dtype=real.dtype)
        logits = nets["d"](self.seen(nets, fake.astype(real.dtype), keys[2]))
        return jax.nn.softplus(-logits).mean(), {"logit_fake": logits.mean()}

    def d_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """D tells real pictures from G's; the augmentation watches the signs of the real ones."""
        keys = jax.random.split(key, 4)
        real = batch["real"]
        ws = self.codes(nets, self.latents(len(real), keys[0]))
        fake = nets["g"].synthesis(ws, noise="random", key=keys[1], dtype=real.dtype)
        fake = jax.lax.stop_gradient(fake).astype(real.dtype)
        logits_fake = nets["d"](self.seen(nets, fake, keys[2]))
        logits_real = nets["d"](self.seen(nets, real, keys[3]))
        self.observe(nets, logits_real, len(real))
        loss = jax.nn.softplus(logits_fake).mean() + jax.nn.softplus(-logits_real).mean()
        return loss, {
            "logit_fake": logits_fake.mean(),
            "logit_real": logits_real.mean(),
            "sign_real": jnp.sign(logits_real).mean(),
        }

    def r1_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """gamma / 2 |gradient of D at real pictures|^2, as they are before augmentation."""
        real = batch["real"]
        penalty, moves, logits = r1(lambda x: nets["d"](self.seen(nets, x, key)), real)
        self.observe(nets, logits, 0)
        return moves * (self.r1_gamma / 2 * self.r1_every), {"penalty": penalty}

    def path_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """Moves of a code of one length should move the picture by one length (StyleGAN2, eq. 4)."""
        keys = jax.random.split(key, 3)
        real, g, state = batch["real"], nets["g"], nets["path"]
        ws = self.codes(nets, self.latents(max(1, len(real) // self.path_shrink), keys[0]))
        y = jax.random.normal(keys[1], (len(ws), *real.shape[1:])) / real.shape[1]

        def along(ws):
            image = g.synthesis(ws, noise="random", key=keys[2], dtype=real.dtype)
            return (image * y).sum()

        lengths, mean, penalty, moves = path_lengths(along, ws, state.mean[...], self.path_decay)
        state.mean[...] = mean
        return moves * (self.path_weight * self.path_every), {
            "penalty": penalty,
            "length": lengths.mean(),
        }

    def adapt(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """Moves the probability of augmentation."""
        nets["ada"].adapt()
        return jnp.zeros(()), {"p": nets["ada"].p[...]}

    def latents(self, count: int, key: jax.Array) -> "Latents":
        """Fresh latents `[count, z]`: two for each picture, and where the second takes over."""
        first, second, which, where = jax.random.split(key, 4)
        size, layers = self.generator.z_size, 2 * len(self.generator.channels)
        cut = jax.random.randint(where, (), 1, layers)
        return Latents(
            jax.random.normal(first, (count, size)),
            jax.random.normal(second, (count, size)),
            jnp.where(jax.random.bernoulli(which, self.mixing), cut, layers),
        )

    def codes(self, nets: Mapping, latents: "Latents") -> jax.Array:
        """Codes `[N, num_ws, w]` of the generator under training; moves its mean code."""
        return mix(nets["g"].mapping, latents, train=True)

    def seen(self, nets: Mapping, images: jax.Array, key: jax.Array) -> jax.Array:
        """Pictures as D sees them."""
        return images if self.augment is None else nets["ada"](images, key)

    def observe(self, nets: Mapping, logits: jax.Array, shown: int) -> None:
        """Lets the augmentation know D's opinion of real pictures."""
        if self.augment is not None:
            nets["ada"].observe(jax.lax.stop_gradient(logits), shown)

    def generate(self, nets: Mapping, latents: jax.Array) -> jax.Array:
        """Pictures of latents `[N, z]`, with the net's own noise."""
        return nets["g"](latents)


def r1(critic: Callable, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(P, P with its gradient, logits) for P = mean over pictures of |gradient of `critic` at `x`|^2.

    The gradient of P by weights is that of 2 / N times the derivative of the logits' sum along that
    very gradient, held fixed: one forward-mode pass in place of a second reverse one.
    """
    total = lambda x: (lambda logits: (logits.sum(), logits))(critic(x))  # noqa: E731
    slope, logits = jax.grad(total, has_aux=True)(x)
    slope = jax.lax.stop_gradient(slope)
    value = jnp.square(slope.astype(jnp.float32)).sum() / len(x)
    along = jax.jvp(lambda x: critic(x).sum(), (x,), (slope,))[1] * (2 / len(x))
    return value, value + along - jax.lax.stop_gradient(along), logits


def path_lengths(along: Callable, ws: jax.Array, mean: jax.Array, decay: float):
    """(lengths `[N]`, new running mean, penalty, penalty with its gradient) for codes `ws`.

    `along(ws)` is the sum of the pictures times a direction for each. A length is the root of the mean
    over layers of the squared gradient by a layer's code; the penalty, the mean squared distance of
    lengths to the new running mean, of which the batch is a part: its gradient goes through both.
    """
    slope = jax.lax.stop_gradient(jax.grad(along)(jax.lax.stop_gradient(ws)))
    count, layers = ws.shape[:2]
    lengths = jnp.sqrt(jnp.square(slope).sum(2).mean(1))
    moved = mean + decay * (lengths.mean() - mean)
    penalty = jnp.square(lengths - moved).mean()
    pull = 2 * (lengths - moved) / count
    pull = pull - decay / count * pull.sum()
    tangent = slope * (pull / (jnp.maximum(lengths, 1e-12) * layers))[:, None, None]
    moves = jax.jvp(along, (ws,), (tangent,))[1]
    return lengths, moved, penalty, penalty + moves - jax.lax.stop_gradient(moves)
