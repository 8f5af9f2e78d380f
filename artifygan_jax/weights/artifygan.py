"""ArtifyGAN as its notebook trained it: PyTorch state dicts of the generator and discriminator.

Batch norm, zero padding, pictures in [0, 1] in RGB. `conv_7` and `conv_9` are transposed
convolutions of stride 1, which are ordinary ones with the kernel turned by 180 degrees. Without
running statistics the norms are instance norms: no notebook wrote such a file, but nets trained here
with the defaults of `nets.cartoongan` are exported so, and are read back as such.
"""

import re
from collections.abc import Mapping
from typing import Any

from artifygan_jax.errors import UserError
from artifygan_jax.weights.rules import (
    Plan,
    Rules,
    Source,
    batch_norm,
    conv,
    iohw,
    iohw_stride1,
    size,
)

IGNORE = (r".*\.num_batches_tracked",)


def plan(source: Source) -> Plan:
    """The generator (it has a `conv_10`) or the discriminator, sizes read off the arrays."""
    channels = size("ArtifyGAN", source, "conv_1.weight", 0)
    batch = any(key.endswith(".running_mean") for key in source)
    if "conv_10.weight" not in source:
        options = {
            "channels": channels,
            "norm": "batch" if batch else "instance",
            "plain_slope": 0.01 if batch else 0.2,
        }
        return Plan("cartoongan", "discriminator", options, _discriminator(), source, IGNORE)
    options = {
        "channels": channels,
        "blocks": sum(re.fullmatch(r"res\.\d+\.conv_1\.weight", key) is not None for key in source),
        "decoder": "full" if "conv_7.weight" in source else "lean",
        "norm": "batch" if batch else "instance",
        "padding": "zero" if batch else "mixed",
        "output": "sigmoid" if batch else "tanh",
    }
    return Plan("cartoongan", "generator", options, _generator(), source, IGNORE)


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The notebook's names for a net of ours; `UserError` where it has a layer of another kind."""
    if options.get("upsampling") == "resize":
        raise UserError("it resizes and convolves where the notebook has transposed convolutions")
    return _generator() if net == "generator" else _discriminator()


def _discriminator() -> Rules:
    return {**conv("conv_([1-7])", r"conv\1"), **batch_norm("norm_([123])", r"norm\1")}


def _generator() -> Rules:
    return {
        **conv("conv_1", "stem"),
        **batch_norm("norm_1", "stem_norm"),
        **conv("conv_2", "down/0/conv1"),
        **conv("conv_3", "down/0/conv2"),
        **batch_norm("norm_2", "down/0/norm"),
        **conv("conv_4", "down/1/conv1"),
        **conv("conv_5", "down/1/conv2"),
        **batch_norm("norm_3", "down/1/norm"),
        **conv(r"res\.(\d+)\.conv_([12])", r"blocks/\1/conv\2"),
        **batch_norm(r"res\.(\d+)\.norm_([12])", r"blocks/\1/norm\2"),
        **conv("conv_6", "up/0/conv1", iohw),
        **conv("conv_7", "up/0/conv2", iohw_stride1),
        **batch_norm("norm_4", "up/0/norm"),
        **conv("conv_8", "up/1/conv1", iohw),
        **conv("conv_9", "up/1/conv2", iohw_stride1),
        **batch_norm("norm_5", "up/1/norm"),
        **conv("conv_10", "out"),
    }
