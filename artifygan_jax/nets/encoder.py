"""An encoder of pictures to a StyleGAN2's codes, shaped like its discriminator.

ReStyle's loop (Alaluf et al., arXiv:2104.02699): the net sees a picture beside what the codes found so
far draw, and says how the codes should move. Its blocks are those of the discriminator that learnt with
the generator (bryandlee's stylegan2-encoder-pytorch does so too), not a face recogniser's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets.animegan import chosen
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.ops import Buffer
from artifygan_jax.nets.stylegan2 import Dense, ResidualBlock, ScaledConv, lrelu, widths


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """`channels[i]` belongs to the block of 4 * 2**i px; `styles` codes of `w_size` numbers.

    `inputs` are the colours of picture and attempt.
    """

    channels: tuple[int, ...] = widths(256)
    styles: int = 14
    w_size: int = 512
    inputs: int = 6


class Trunk(nnx.Module):
    """The discriminator's blocks, without its look at whole batches, and a dense layer."""

    def __init__(self, channels: tuple[int, ...], inputs: int, *, rngs: nnx.Rngs):
        c, n = channels, len(channels)
        self.inputs, self.side = inputs, 4 * 2 ** (n - 1)
        self.rgb = ScaledConv(inputs, c[-1], 1, rngs=rngs)
        how: dict[str, Any] = dict(rgb=False, clamp=0.0, added=0, rngs=rngs)
        self.blocks = nnx.List(ResidualBlock(c[i], c[i - 1], **how) for i in range(n - 1, 0, -1))
        self.conv = ScaledConv(c[0], c[0], 3, rngs=rngs)
        self.dense = Dense(16 * c[0], c[0], rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """`[N, channels[0]]`, float32, of pictures `[N, S, S, inputs]` in [-1, 1]."""
        if x.ndim != 4 or x.shape[1:] != (self.side, self.side, self.inputs):
            raise UserError(
                f"pictures of shape {tuple(x.shape)}; this net takes"
                f" [N, {self.side}, {self.side}, {self.inputs}]"
            )
        x = self.rgb(x)
        for block in self.blocks:
            x = block(x)
        x = self.conv(x).astype(jnp.float32)
        return lrelu(self.dense(x.reshape(len(x), -1)))


class Encoder(Trunk):
    """Pictures and attempts to moves of codes; a new one has random weights."""

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        self.options = o = options
        super().__init__(o.channels, o.inputs, rngs=rngs)
        self.out = Dense(o.channels[0], o.styles * o.w_size, rngs=rngs)
        self.latent_avg = Buffer(jnp.zeros((o.styles, o.w_size)))
        self.deviation = Buffer(jnp.ones(()))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Moves of codes `[N, styles, w_size]` for pictures and attempts `[N, S, S, 6]` in [-1, 1].

        Moves are in units of `deviation`, that of one number of a code. Codes start at `latent_avg`.
        """
        moves = self.out(self.features(x)) * self.deviation[...]
        return moves.reshape(-1, self.options.styles, self.options.w_size)


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> Encoder:
    """The net called `net` (only "encoder") with `options` as in `Options`."""
    choose("net", net, ("encoder",))
    return Encoder(chosen("encoder", Options, options), rngs=rngs)
