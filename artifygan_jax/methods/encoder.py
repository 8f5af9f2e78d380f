"""Trains an encoder of pictures to codes for a StyleGAN2 generator that stays as it is.

ReStyle (Alaluf et al., arXiv:2104.02699): some passes over a batch, each of which moves the codes that
the last one left and learns on its own. Half of the pictures are the generator's own, whose codes are
known; the other half are real.

Differs: what pictures have in common is seen by the generator's discriminator, so that no other
weights are needed (ReStyle: LPIPS and a face recogniser); codes of samples are compared themselves.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax.latent import projector, render
from artifygan_jax.methods.jojogan import critic_of, feature_losses
from artifygan_jax.nets.encoder import Encoder, Options
from artifygan_jax.phases import Phase


@dataclasses.dataclass
class EncoderTraining:
    """Hyper-parameters; batches hold `real`, pictures of the generator's size.

    `source` is the generator's bundle, `critic` that of its discriminator. Weights are of the mean
    square of differences in [-1, 1], of the discriminator's features' mean difference, of the mean
    squared distance of samples' codes, and of real ones' codes from their own mean over layers, both
    in variances of codes.
    """

    source: str = ""
    critic: str = ""
    channels: tuple[int, ...] = ()
    passes: int = 3
    pixels: float = 1.0
    features: float = 0.5
    latents: float = 0.1
    spread: float = 0.01

    def nets(self, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The encoder; of the critic's widths, where none are given."""
        renderer = render.load(self.source)
        channels = self.channels or critic_of(self.critic, renderer).options.channels
        options = Options(tuple(channels), renderer.num_ws, renderer.options.w_size)
        net = Encoder(options, rngs=rngs)
        mean, deviation = projector.code_statistics(renderer)
        net.latent_avg.set_value(jnp.tile(jnp.asarray(mean)[None], (renderer.num_ws, 1)))
        net.deviation.set_value(jnp.asarray(deviation / np.sqrt(len(mean)), jnp.float32))
        return {"encoder": net}

    def frozen(self) -> dict[str, nnx.Module]:
        """The generator and its discriminator."""
        renderer = render.load(self.source)
        return {"g": renderer.net, "critic": critic_of(self.critic, renderer)}

    def phases(self) -> tuple[Phase, ...]:
        """One."""
        return (Phase("encoder", ("encoder",), self.loss),)

    def loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """The mean over passes; each learns by itself, from where the last one left off."""
        real, mapping = batch["real"], nets["g"].mapping
        known = mapping(jax.random.normal(key, (len(real), mapping.inputs)))
        samples = nets["g"].synthesis(known, noise="const")
        images = jnp.concatenate([real, samples.astype(real.dtype)])
        wanted = nets["critic"].features(images, self._taps(nets))
        state, terms = self._start(nets, len(images)), []
        for _ in range(self.passes):
            state = self._pass(nets, images, *jax.lax.stop_gradient(state))
            terms.append(self._terms(nets, images, known, wanted, *state))
        mean = jax.tree.map(lambda *x: jnp.stack(x).mean(), *terms)
        loss = jnp.stack([getattr(self, name) * x for name, x in mean.items()]).sum()
        return loss, {**mean, "last_pixels": terms[-1]["pixels"]}

    def _terms(self, nets, images, known, wanted, ws, drawn) -> dict[str, jax.Array]:
        count, variance = len(known), jnp.square(nets["encoder"].deviation[...])
        found = feature_losses(nets["critic"].features(drawn, tuple(wanted)), wanted)
        own = ws[:count]
        return {
            "pixels": jnp.square(drawn - images).mean(),
            "features": sum(found.values(), start=jnp.zeros(())) / len(found),
            "latents": jnp.square(ws[count:] - known).mean() / variance,
            "spread": jnp.square(own - own.mean(1, keepdims=True)).mean() / variance,
        }

    def _taps(self, nets: Mapping) -> tuple[str, ...]:
        """The outputs of all blocks of the critic but the last."""
        return tuple(f"b{r}" for r in nets["critic"].resolutions[:-1])

    def _start(self, nets: Mapping, count: int) -> tuple[jax.Array, jax.Array]:
        """The mean code and its picture, `count` times."""
        ws = nets["encoder"].latent_avg[...][None]
        drawn = nets["g"].synthesis(ws, noise="const")
        return jnp.repeat(ws, count, axis=0), jnp.repeat(drawn, count, axis=0)

    def _pass(self, nets: Mapping, images, ws, drawn) -> tuple[jax.Array, jax.Array]:
        """Codes moved once, and what they draw."""
        ws = ws + nets["encoder"](jnp.concatenate([images, drawn.astype(images.dtype)], axis=3))
        return ws, nets["g"].synthesis(ws, noise="const")

    def generate(self, nets: Mapping, images: jax.Array) -> jax.Array:
        """Pictures `[N, S, S, 3]` as the codes found of them draw them."""
        state = self._start(nets, len(images))
        for _ in range(self.passes):
            state = self._pass(nets, images, *state)
        return state[1]
