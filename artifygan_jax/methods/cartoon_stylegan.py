"""Cartoon StyleGAN2: a face generator fine-tuned on cartoons, close to where it came from.

Back, "Fine-tuning StyleGAN2 for cartoon face generation", arXiv:2106.12445: StyleGAN2-ADA from the
weights of a face generator (`init_from`), with layers of G and D frozen (`optim...freeze_until`), the
coarse styles taken from the source's mapping network (FreezeSG), or a structure loss against it.

Differs: the source generator holds the source's weights, where the released code never loads them and
compares with a random network; source and target share latents, the layer where they mix, and noise, where
the released code draws each anew.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.methods.stylegan2_ada import Latents, StyleGAN2ADA, mix
from artifygan_jax.nets import stylegan2
from artifygan_jax.nets.cartoongan import choose


@dataclasses.dataclass
class CartoonStyleGAN(StyleGAN2ADA):
    """Hyper-parameters beyond StyleGAN2-ADA's.

    `source` is the bundle of the face generator. The first `source_styles` codes come from its mapping
    network (FreezeSG; 2: the blocks of 4 and 8 px, 4: up to 16). `structure_weight` multiplies the
    mean squared difference to its `structure` at 8, 16, ... px, `structure_layers` of them: "image" is
    the picture so far (the paper), "features" the maps after the second convolution (the code).
    """

    source: str = ""
    source_styles: int = 0
    structure_weight: float = 0.0
    structure_layers: int = 3
    structure: str = "image"

    def frozen(self) -> dict[str, nnx.Module]:
        """The source generator, where something is taken from it."""
        choose("structure", self.structure, ("image", "features"))
        if not (self.source_styles or self.structure_weight):
            return {}
        net, card = bundle.load(self.source)
        if not isinstance(net, stylegan2.Generator):
            raise UserError(
                f"source {self.source!r} is a {card['architecture']} {card['net']}, wanted a"
                " stylegan2 generator"
            )
        if net.num_ws != 2 * len(self.generator.channels):
            raise UserError(
                f"source {self.source!r} is of {net.resolution} px, the generator of"
                f" {4 * 2 ** (len(self.generator.channels) - 1)}: they must be the same"
            )
        return {"source": net}

    def codes(self, nets: Mapping, latents: Latents) -> jax.Array:
        """As StyleGAN2-ADA's, the first of them from the source."""
        ws = super().codes(nets, latents)
        if not self.source_styles:
            return ws
        coarse = mix(nets["source"].mapping, latents)
        return jnp.where((jnp.arange(ws.shape[1]) < self.source_styles)[None, :, None], coarse, ws)

    def g_loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """Fool D, and keep the structure of the source's pictures."""
        if not self.structure_weight:
            return super().g_loss(nets, batch, key)
        keys = jax.random.split(key, 3)
        real, g = batch["real"], nets["g"]
        latents = self.latents(len(real), keys[0])
        how = dict(noise="random", key=keys[1], dtype=real.dtype)
        kind = "image" if self.structure == "image" else "conv1"
        compared = [f"b{8 * 2**i}/{kind}" for i in range(self.structure_layers)]
        last = f"b{g.resolution}/image"
        found = g.synthesis.features(self.codes(nets, latents), [*compared, last], **how)
        wanted = nets["source"].synthesis.features(
            mix(nets["source"].mapping, latents), compared, **how
        )
        logits = nets["d"](self.seen(nets, found[last].astype(real.dtype), keys[2]))
        structure = sum(
            (
                jnp.square(found[k].astype(jnp.float32) - wanted[k].astype(jnp.float32)).mean()
                for k in compared
            ),
            start=jnp.zeros(()),
        )
        adversarial = jax.nn.softplus(-logits).mean()
        total = adversarial + self.structure_weight * structure
        return total, {"logit_fake": logits.mean(), "structure": structure}
