"""Encoders of faces to StyleGAN2's codes: pSp, e4e and ReStyle's.

Richardson et al., arXiv:2008.00951 (pSp); Tov et al., arXiv:2102.02766 (e4e); Alaluf et al.,
arXiv:2104.02699 (ReStyle). A residual network with squeeze and excitation (IR-SE50: 30,950,080
parameters with its first layer) on aligned faces of 256 px, then one head for each code: on maps of
16, 32 and 64 px for coarse, middle and fine codes, or all on the last (ReStyle). 18 codes: 267,136,704
parameters, ReStyle's 205,585,792; the mean code comes on top.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets.animegan import chosen
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.mtcnn import PReLU
from artifygan_jax.nets.ops import BatchNorm, Buffer, Conv
from artifygan_jax.nets.stylegan2 import Dense

SIDE = 256  # of a face
STAGES = (3, 4, 14, 3)  # blocks of IR-50
COARSE, MIDDLE = 3, 7  # the first codes of the middle and of the fine heads


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """`styles` codes of `w_size` numbers.

    `kind` "psp": each head gives a code; "e4e": the first head gives one for all, the others what is
    added to it. `pyramid`: heads look at three resolutions; else all at the last, and `inputs` is 6
    where the net sees its last attempt beside the face (ReStyle). `channels`: of the first layer.
    """

    kind: str = "e4e"
    styles: int = 18
    pyramid: bool = True
    inputs: int = 3
    channels: int = 64
    w_size: int = 512

    def __post_init__(self):
        choose("kind", self.kind, ("psp", "e4e"))


class Block(nnx.Module):
    """Norm, 3x3, PReLU, 3x3 with the stride, norm, squeeze and excitation; plus the input.

    Where widths differ the input goes through 1x1 and norm, else every `stride`-th pixel is taken.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, excite: bool = True, rngs):
        self.norm1, self.norm2 = BatchNorm(inputs), BatchNorm(outputs)
        self.prelu = PReLU(outputs)
        self.conv1 = Conv(inputs, outputs, 3, bias=False, rngs=rngs)
        self.conv2 = Conv(outputs, outputs, 3, stride=stride, bias=False, rngs=rngs)
        self.squeeze = Conv(outputs, outputs // 16, 1, bias=False, rngs=rngs) if excite else None
        self.excite = Conv(outputs // 16, outputs, 1, bias=False, rngs=rngs) if excite else None
        widens = inputs != outputs
        self.shortcut = (
            Conv(inputs, outputs, 1, stride=stride, bias=False, rngs=rngs) if widens else None
        )
        self.shortcut_norm = BatchNorm(outputs) if widens else None
        self.stride = stride

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """`[N, H, W, inputs]` to `[N, H / stride, W / stride, outputs]`."""
        y = self.conv1(self.norm1(x, train=train))
        y = self.norm2(self.conv2(self.prelu(y)), train=train)
        if self.squeeze is not None and self.excite is not None:
            mean = jax.nn.relu(self.squeeze(y.mean((1, 2), keepdims=True)))
            y = y * jax.nn.sigmoid(self.excite(mean))
        if self.shortcut is None or self.shortcut_norm is None:
            return y + x[:, :: self.stride, :: self.stride]
        return y + self.shortcut_norm(self.shortcut(x), train=train)


class Head(nnx.Module):
    """A map of `side` px to a code: convolutions that halve it to one pixel, then a dense layer."""

    def __init__(self, inputs: int, outputs: int, side: int, *, rngs: nnx.Rngs):
        widths = [inputs] + [outputs] * int(math.log2(side))
        self.convs = nnx.List(
            Conv(a, b, 3, stride=2, rngs=rngs) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.dense = Dense(outputs, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, side, side, inputs]` to `[N, outputs]`."""
        for conv in self.convs:
            x = jax.nn.leaky_relu(conv(x), 0.01)
        return self.dense(x.reshape(len(x), -1))


class Encoder(nnx.Module):
    """Aligned faces to codes; a new one has random weights."""

    side = SIDE

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        self.options = o = options
        c = o.channels
        self.conv, self.norm = Conv(o.inputs, c, 3, bias=False, rngs=rngs), BatchNorm(c)
        self.prelu = PReLU(c)
        blocks, inputs = [], c
        for count, outputs in zip(STAGES, (c, 2 * c, 4 * c, 8 * c), strict=True):
            for i in range(count):
                blocks.append(Block(inputs, outputs, 1 if i else 2, rngs=rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.heads = nnx.List(
            Head(8 * c, o.w_size, self.head_side(i), rngs=rngs) for i in range(o.styles)
        )
        if o.pyramid:
            self.lateral1 = Conv(4 * c, 8 * c, 1, rngs=rngs)
            self.lateral2 = Conv(2 * c, 8 * c, 1, rngs=rngs)
        self.latent_avg = Buffer(jnp.zeros((o.styles, o.w_size)))

    def head_side(self, i: int) -> int:
        """The side of the map that head `i` looks at."""
        return 16 if not self.options.pyramid or i < COARSE else 32 if i < MIDDLE else 64

    def __call__(self, x: jax.Array) -> jax.Array:
        """Codes `[N, styles, w_size]` of faces `[N, 256, 256, inputs]` in [-1, 1].

        The mean code is not added: pSp and e4e add `latent_avg`, ReStyle its last codes.
        """
        if x.ndim != 4 or x.shape[1:] != (SIDE, SIDE, self.options.inputs):
            raise UserError(
                f"faces of shape {tuple(x.shape)}; this net takes"
                f" [N, {SIDE}, {SIDE}, {self.options.inputs}]"
            )
        maps = dict(self.maps(x))
        codes = jnp.stack(
            [head(maps[self.head_side(i)]) for i, head in enumerate(self.heads)], axis=1
        )
        if self.options.kind == "e4e":
            return jnp.concatenate([codes[:, :1], codes[:, :1] + codes[:, 1:]], axis=1)
        return codes

    def maps(self, x: jax.Array) -> Iterator[tuple[int, jax.Array]]:
        """(side, map) that the heads look at, the coarsest first."""
        steps = dict(self.steps(x))
        coarse = steps["blocks.23"]
        yield 16, coarse
        if self.options.pyramid:
            middle = enlarged_sum(coarse, self.lateral1(steps["blocks.20"]))
            yield 32, middle
            yield 64, enlarged_sum(middle, self.lateral2(steps["blocks.6"]))

    def steps(self, x: jax.Array) -> Iterator[tuple[str, jax.Array]]:
        """(name, array) of the first layer and of every block."""
        x = self.prelu(self.norm(self.conv(x)))
        yield "input", x
        for i, block in enumerate(self.blocks):
            x = block(x)
            yield f"blocks.{i}", x


def enlarged_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x` enlarged to the size of `y`, corners on corners (torch's `align_corners=True`), plus `y`."""
    rows, columns = (_between(x.shape[k], y.shape[k]) for k in (1, 2))
    return jnp.einsum("ah,bw,nhwc->nabc", rows, columns, x) + y


def _between(small: int, large: int) -> np.ndarray:
    """`[large, small]`: how much of each pixel goes into each of the larger axis."""
    at = np.arange(large) * (small - 1) / max(large - 1, 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(small))).astype(np.float32)


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> Encoder:
    """The net called `net` (only "encoder") with `options` as in `Options`."""
    choose("net", net, ("encoder",))
    return Encoder(chosen("psp encoder", Options, options), rngs=rngs)
