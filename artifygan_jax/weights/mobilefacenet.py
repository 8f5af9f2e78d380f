"""MobileFaceNet as `Xiaoccer/MobileFaceNet_Pytorch` saves it: `net_state_dict`, 333 tensors.

Layers and names after the notes beside the file in the shared data: a convolution without bias, a
batch norm `bn` and mostly a PReLU each; those of a block are numbered, `blocks.0.conv.0` to `.7`.
"""

from collections.abc import Mapping
from typing import Any

from artifygan_jax.weights.rules import Plan, Rules, Source, batch_norm, oihw, same, size

IGNORE = (r".*\.num_batches_tracked",)


def plan(source: Source) -> Plan:
    """`channels` and `embedding` are read off the first and the last kernel."""
    options = {
        "channels": size("MobileFaceNet", source, "conv1.conv.weight", 0),
        "embedding": size("MobileFaceNet", source, "linear1.conv.weight", 0),
    }
    rules = layout("mobilefacenet", options)
    return Plan("mobilefacenet", "mobilefacenet", options, rules, source, IGNORE)


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The names of the source, which are the same for every size."""
    del net, options
    unit = "(conv1|dw_conv1|conv2|linear7|linear1)"
    rules: Rules = {
        rf"{unit}\.conv\.weight": (r"\1/conv/kernel", oihw),
        **batch_norm(rf"{unit}\.bn", r"\1/norm"),
        rf"{unit}\.prelu\.weight": (r"\1/prelu/slope", same),
    }
    for n, part in ((0, "expand"), (3, "depthwise"), (6, "project")):
        block = r"blocks\.(\d+)\.conv"
        rules |= {
            rf"{block}\.{n}\.weight": (rf"blocks/\1/{part}/conv/kernel", oihw),
            **batch_norm(rf"{block}\.{n + 1}", rf"blocks/\1/{part}/norm"),
        }
        if part != "project":
            rules |= {rf"{block}\.{n + 2}\.weight": (rf"blocks/\1/{part}/prelu/slope", same)}
    return rules
