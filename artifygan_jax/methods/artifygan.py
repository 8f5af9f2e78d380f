"""ArtifyGAN and CartoonGAN: unpaired photo-to-cartoon training with an edge-promoting adversary.

CartoonGAN: Chen, Lai, Liu, CVPR 2018. The discriminator tells cartoons (real) from generated pictures
and from cartoons without clear edges (both fake); the generator fools it and keeps the content of the
photo. Training starts with the content loss alone.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax import losses
from artifygan_jax.content import Content
from artifygan_jax.errors import UserError
from artifygan_jax.nets.cartoongan import (
    Discriminator,
    DiscriminatorOptions,
    Generator,
    GeneratorOptions,
    choose,
)
from artifygan_jax.phases import Phase


class ImagePool(nnx.Module):
    """The last generated pictures (Shrivastava et al., arXiv:1612.07828): D sees half old, half new.

    `size` pictures; the first `size` that come in fill it.
    """

    def __init__(self, size: int, shape: tuple[int, int, int]):
        self.images = nnx.Variable(jnp.zeros((size, *shape), jnp.float16))
        self.filled = nnx.Variable(jnp.zeros((), jnp.int32))

    def swap(self, fresh: jax.Array, key: jax.Array) -> jax.Array:
        """`fresh` `[B, H, W, 3]` with half of it exchanged for stored pictures, at random.

        `UserError` where the pool is smaller than the batch or holds pictures of another size.
        """
        images, filled = self.images[...], self.filled[...]
        size, count = len(images), len(fresh)
        if count > size or fresh.shape[1:] != images.shape[1:]:
            raise UserError(
                f"a batch of {count} pictures of {fresh.shape[1:]} does not go through a pool of"
                f" {size} of {images.shape[1:]}: method.pool is at least the batch size (part of an"
                " accumulated one), method.pool_px the side of the pictures after the crop"
            )
        k_slot, k_old = jax.random.split(key)
        # Random slots, filled ones first: a batch that only partly fills may not draw empty ones.
        empty = jnp.arange(size) >= filled
        slots = jnp.argsort(jax.random.uniform(k_slot, (size,)) + empty)[:count]
        filling = filled + jnp.arange(count) < size
        slots = jnp.where(filling, (filled + jnp.arange(count)) % size, slots)
        old = jax.random.bernoulli(k_old, 0.5, (count,)) & ~filling
        chosen = old[:, None, None, None]
        out = jnp.where(chosen, images[slots].astype(fresh.dtype), fresh)
        stored = filling | old
        fresh16 = jnp.where(stored[:, None, None, None], fresh.astype(jnp.float16), images[slots])
        self.images[...] = images.at[slots].set(fresh16)
        self.filled[...] = jnp.minimum(filled + count, size)
        return out


@dataclasses.dataclass
class ArtifyGAN:
    """Hyper-parameters of the method; batches hold `photo`, `cartoon` and `smooth`.

    `adversarial` is "bce" (the papers) or "lsgan" (CartoonGAN's released code). The content loss alone
    runs for `content_steps`; the discriminator joins with the adversarial loss, or at step 0 with
    `d_from_start`. `pool` pictures of history for the discriminator (0: none), of `pool_px` a side.
    """

    generator: GeneratorOptions = dataclasses.field(
        default_factory=lambda: GeneratorOptions(blocks=10, decoder="lean")
    )
    discriminator: DiscriminatorOptions = dataclasses.field(default_factory=DiscriminatorOptions)
    content: Content = dataclasses.field(default_factory=Content)
    adversarial: str = "bce"
    content_weight: float = 21.0
    content_steps: int = 10_000
    d_from_start: bool = False
    pool: int = 0
    pool_px: int = 256

    def nets(self, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The trained nets."""
        choose("adversarial", self.adversarial, ("bce", "lsgan"))
        nets: dict[str, nnx.Module] = {
            "g": Generator(self.generator, rngs=rngs),
            "d": Discriminator(self.discriminator, rngs=rngs),
        }
        if self.pool:
            nets["pool"] = ImagePool(self.pool, (self.pool_px, self.pool_px, 3))
        return nets

    def frozen(self) -> dict[str, nnx.Module]:
        """The content network."""
        return {"content": self.content.load()}

    def phases(self) -> tuple[Phase, ...]:
        """Content alone, then D and G in turn."""
        n = self.content_steps
        return (
            Phase("content", ("g",), self.content_loss, stop=n),
            Phase("d", ("d",), self.d_loss, start=0 if self.d_from_start else n),
            Phase("g", ("g",), self.g_loss, start=n),
        )

    def content_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """The initialisation phase (Sec. 3.3): reconstruct the content of the photo."""
        out = nets["g"](batch["photo"], train=True)
        return self.content.loss(nets["content"], out, batch["photo"]), {}

    def d_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """Cartoons are real; edge-smoothed and generated pictures are not (Eq. 3)."""
        fake = jax.lax.stop_gradient(nets["g"](batch["photo"], train=True))
        if self.pool:
            fake = nets["pool"].swap(fake, key)
        maps = {k: nets["d"](batch[k], train=True) for k in ("cartoon", "smooth")}
        maps["fake"] = nets["d"](fake, train=True)
        terms = {k: self._gan(m, float(k == "cartoon")).mean() for k, m in maps.items()}
        logits = {f"logit_{k}": m.astype(jnp.float32).mean() for k, m in maps.items()}
        return terms["cartoon"] + terms["smooth"] + terms["fake"], {**terms, **logits}

    def g_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """Fool D, keep the content: adversarial + `content_weight` x content (Eq. 1)."""
        out = nets["g"](batch["photo"], train=True)
        adversarial = self._gan(nets["d"](out, train=True), 1.0).mean()
        content = self.content.loss(nets["content"], out, batch["photo"])
        total = adversarial + self.content_weight * content
        return total, {"adversarial": adversarial, "content": content}

    def generate(self, nets: Mapping, photo: jax.Array) -> jax.Array:
        """Cartoons of photos `[B, H, W, 3]` in [-1, 1]."""
        return nets["g"](photo)

    def _gan(self, logits: jax.Array, label: float) -> jax.Array:
        return (losses.bce if self.adversarial == "bce" else losses.lsgan)(logits, label)
