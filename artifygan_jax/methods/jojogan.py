"""JoJoGAN: a face generator that draws everybody as one reference picture is drawn.

Chong & Forsyth, "JoJoGAN: One Shot Face Stylization", arXiv:2112.11641, and the authors' program: the
reference is inverted; its code with the fine styles of random faces makes many codes that differ
little but in style; the generator is fine-tuned until all of them come out as the reference, in
the features of a frozen discriminator.

Differs: the reference's features are computed once; the identity term is the paper's, which the
program leaves out.
"""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax import augment, bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent import references, render
from artifygan_jax.latent.identity import embedding, face_net
from artifygan_jax.methods.stylegan2_ada import r1
from artifygan_jax.nets import stylegan2
from artifygan_jax.nets.ops import Buffer
from artifygan_jax.phases import Phase


class Reference(nnx.Module):
    """What is known of the references: `images` `[R, S, S, 3]`, `ws`, and features `taps`."""

    def __init__(self, images: jax.Array, ws: jax.Array, taps: Mapping[str, jax.Array]):
        self.images, self.ws = Buffer(images), Buffer(ws)
        self.taps = nnx.Dict({name: Buffer(x) for name, x in taps.items()})


@dataclasses.dataclass
class JoJoGAN:
    """Hyper-parameters; needs no data besides the references.

    `source` is the bundle of the face generator, `critic` that of its discriminator, `reference` a
    picture or several (`latent.references`), `aligned` where they are squares of faces already,
    `latents` their codes where they are known, else `inversion_steps` of the projector find them.

    `mixed` are the codes that take random faces' styles, `alpha` how much of them (1: all); those that
    keep the reference's colours are `COLOUR`. `identity_weight` multiplies 1 - cosine of face
    embeddings by the bundle `identity`, before and after, of the reference's code.
    """

    source: str = ""
    critic: str = ""
    reference: str = ""
    aligned: bool = False
    latents: str = ""
    inversion_steps: int = 400
    perceptual: str = "auto"
    mixed: tuple[int, ...] = tuple(range(7, 18))
    alpha: float = 1.0
    identity_weight: float = 0.0
    identity: str = "mobilefacenet"

    def nets(self, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The source's generator, to be trained, and what is known of the references."""
        if not self.reference:
            raise UserError("--config.method.reference=PICTURE is required: the style to learn")
        renderer = render.load(self.source)
        critic = critic_of(self.critic, renderer)
        found = references.find(
            renderer,
            self.reference,
            aligned=self.aligned,
            latents=self.latents,
            steps=self.inversion_steps,
            perceptual=self.perceptual,
        )
        layers, names = clipped(self.mixed, renderer.num_ws), taps(critic.resolution)
        for line in notes(self.mixed, layers, names, renderer):
            logging.info(line)
        images = augment.to_float(jnp.asarray(found.images))
        features = nnx.jit(lambda d, x: d.features(x, names))(critic, images)
        reference = Reference(images, jnp.asarray(found.ws), features)
        return {"g": self.generator(renderer.net, rngs), "reference": reference}

    def generator(self, source: stylegan2.Generator, rngs: nnx.Rngs) -> nnx.Module:
        """The generator to be trained, at first the same as the source's."""
        return source

    def frozen(self) -> dict[str, nnx.Module]:
        """The critic; the source and the face network, where identity is asked for."""
        nets: dict[str, nnx.Module] = {"critic": critic_of(self.critic, render.load(self.source))}
        if self.identity_weight:
            nets["source"] = render.load(self.source).net
            nets["identity"] = face_net(self.identity)
        return nets

    def phases(self) -> tuple[Phase, ...]:
        """G alone."""
        return (Phase("g", ("g",), self.g_loss),)

    def codes(self, nets: Mapping, key: jax.Array) -> jax.Array:
        """`[R, num_ws, w]`: each reference's code with the fine styles of a face of its own."""
        ws, mapping = nets["reference"].ws[...], nets["g"].mapping
        z = jax.random.normal(key, (len(ws), mapping.inputs))
        return mix(ws, jax.lax.stop_gradient(mapping(z)), self.mixed, self.alpha)

    def g_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """Pictures of all codes look like the reference to the critic."""
        image, found, style = self.styled(nets, key)
        loss, numbers = style, {"style": style, **found}
        if self.identity_weight:
            numbers["identity"] = self.identity_loss(nets, key)
            loss = loss + self.identity_weight * numbers["identity"]
        return loss, numbers

    def styled(self, nets: Mapping, key: jax.Array):
        """(pictures, {tap: loss}, the mean of them)."""
        keys = jax.random.split(key)
        image = nets["g"].synthesis(self.codes(nets, keys[0]), noise="random", key=keys[1])
        wanted = {name: x[...] for name, x in nets["reference"].taps.items()}
        found = feature_losses(nets["critic"].features(image, tuple(wanted)), wanted)
        return image, found, sum(found.values(), start=jnp.zeros(())) / len(found)

    def identity_loss(self, nets: Mapping, key: jax.Array) -> jax.Array:
        """1 - cosine of embeddings of the references' codes, drawn by the source and by G."""
        ws = nets["reference"].ws[...]
        mine, before = (nets[k].synthesis(ws, noise="const") for k in ("g", "source"))
        a, b = (embedding(nets["identity"], x) for x in (mine, before))
        return (1 - (a * jax.lax.stop_gradient(b)).sum(1)).mean()

    def generate(self, nets: Mapping, latents: jax.Array) -> jax.Array:
        """Pictures of latents `[N, z]`, or of codes `[N, num_ws, w]`, with the net's own noise."""
        return nets["g"](latents) if latents.ndim == 2 else nets["g"].synthesis(latents)


COLOUR = (9, 11, 15, 16, 17)  # codes to mix so that the reference's colours do not take over


def critic_of(where: str, renderer: render.Renderer) -> stylegan2.Discriminator:
    """The discriminator of the bundle `where`, of the renderer's size; else a `UserError`."""
    net, card = bundle.load(where)
    if not isinstance(net, stylegan2.Discriminator):
        raise UserError(
            f"critic {where!r} is a {card['architecture']} {card['net']}, wanted the"
            " stylegan2 discriminator that belongs to the source"
        )
    if net.resolution != renderer.resolution:
        raise UserError(
            f"critic {where!r} is of {net.resolution} px, source {renderer.where!r} of"
            f" {renderer.resolution}: they must be a pair"
        )
    return net


def clipped(mixed: tuple[int, ...], num_ws: int) -> tuple[int, ...]:
    """The codes of `mixed` that a net has; those beyond its last code mean the last.

    A `UserError` for a negative number, or none at all.
    """
    if not mixed or min(mixed) < 0:
        raise UserError(f"mixed codes {mixed}; give numbers of codes from 0, such as 7 to 17")
    return tuple(dict.fromkeys(min(i, num_ws - 1) for i in mixed))


def mix(ws: jax.Array, other: jax.Array, mixed: tuple[int, ...], alpha: float) -> jax.Array:
    """`ws` `[R, L, w]`, its codes of `mixed` moved by `alpha` towards `other`'s (the paper's eq. 2)."""
    chosen = jnp.asarray([i in clipped(mixed, ws.shape[1]) for i in range(ws.shape[1])])
    return jnp.where(chosen[None, :, None], (1 - alpha) * ws + alpha * other, ws)


def taps(resolution: int) -> tuple[str, ...]:
    """The critic's blocks that are compared: outputs of 1/2, 1/8, 1/16 and 1/32 of the side.

    At 1024 px those of 512, 128, 64 and 32 px: the authors' convs 1, 3, 4 and 5. A small critic
    has no block for the last of them.
    """
    return tuple(f"b{resolution // k}" for k in (1, 4, 8, 16) if resolution // k >= 8)


def notes(mixed, layers, names, renderer) -> list[str]:
    """What a generator smaller than the paper's 1024 px changes, as lines."""
    lines = []
    if layers != tuple(mixed):
        told = f"codes {list(layers)} are mixed, of the {list(mixed)} asked for"
        lines.append(f"{renderer.where} has {renderer.num_ws} codes: {told}")
    sides = ", ".join(str(int(name[1:]) // 2) for name in names)
    lines.append(f"{len(names)} of 4 features are compared: those of {sides} px")
    return lines


def feature_losses(found: Mapping, wanted: Mapping) -> dict[str, jax.Array]:
    """Mean absolute difference at each tap; features `[R, h, w, C]`."""
    return {name: jnp.abs(found[name] - x).mean() for name, x in wanted.items()}


@dataclasses.dataclass
class JoJoGANDeck(JoJoGAN):
    """The slide deck's variant: an adversary learns too, and both nets have layers more.

    `layers` are put into G at `layers_px`, and into D at 16, 8 and 4 px, the first so many. D has the
    critic's widths up to `full_px`, beyond them 1/`narrower`; it starts fresh. `adversarial` weighs
    the non-saturating logistic loss of G beside the features', `r1_gamma` the penalty of D's
    gradient at the reference, in every step.
    """

    layers: int = 3
    layers_px: int = 32
    narrower: int = 2
    full_px: int = 32
    adversarial: float = 0.1
    r1_gamma: float = 10.0

    def nets(self, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """G with its added layers, D, and the references."""
        nets: dict[str, Any] = {**super().nets(rngs)}
        options = critic_of(self.critic, render.load(self.source)).options
        widths = tuple(
            c if 4 * 2**i <= self.full_px else max(1, c // self.narrower)
            for i, c in enumerate(options.channels)
        )
        sides = [s for s in (16, 8, 4) if s <= nets["g"].resolution // 2]
        added = tuple(sides[i % len(sides)] for i in range(self.layers))
        options = dataclasses.replace(options, channels=widths, added=added)
        nets["d"] = stylegan2.Discriminator(options, rngs=rngs)
        return nets

    def generator(self, source: stylegan2.Generator, rngs: nnx.Rngs) -> nnx.Module:
        """The source with `layers` more, which change nothing at first."""
        side = min(self.layers_px, source.resolution)
        options = dataclasses.replace(source.options, added=(side,) * self.layers)
        net = stylegan2.Generator(options, rngs=rngs)
        nnx.update(net, nnx.state(source))
        return net

    def phases(self) -> tuple[Phase, ...]:
        """D, then G."""
        return (Phase("d", ("d",), self.d_loss), Phase("g", ("g",), self.g_loss))

    def d_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """D tells the reference from G's pictures; its gradient at the reference is kept small."""
        keys = jax.random.split(key)
        real = nets["reference"].images[...]
        fake = nets["g"].synthesis(self.codes(nets, keys[0]), noise="random", key=keys[1])
        logits = nets["d"](jax.lax.stop_gradient(fake))
        _, penalty, at_real = r1(nets["d"], real)
        loss = jax.nn.softplus(logits).mean() + jax.nn.softplus(-at_real).mean()
        numbers = {"logit_fake": logits.mean(), "logit_real": at_real.mean()}
        return loss + self.r1_gamma / 2 * penalty, numbers

    def g_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """The reference's features, and D taken in."""
        image, found, style = self.styled(nets, key)
        logits = nets["d"](image)
        numbers = {"style": style, "logit_fake": logits.mean(), **found}
        loss = style + self.adversarial * jax.nn.softplus(-logits).mean()
        if self.identity_weight:
            numbers["identity"] = self.identity_loss(nets, key)
            loss = loss + self.identity_weight * numbers["identity"]
        return loss, numbers
