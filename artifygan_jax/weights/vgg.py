"""What `weights.vgg16` and `weights.vgg19` share: the tables of VGG without batch norm.

torchvision: `features.N.weight`, OIHW, normalised RGB. Conversions of the Caffe models:
`conv1_1/weight` and `conv1_1/bias`, HWIO, BGR minus means. Fully connected layers are left out: the
net here is features only.
"""

from collections.abc import Mapping
from typing import Any

from artifygan_jax.errors import UserError
from artifygan_jax.nets.vgg import CONVS
from artifygan_jax.weights.rules import Plan, Rules, Source, conv, same, size

IGNORE = (r"classifier\..*", r"fc\d/.*")
COUNTS = {sum(convs): depth for depth, convs in CONVS.items()}  # of convolutions: 13 and 16
CAFFE: Rules = {
    r"(conv\d_\d)/weight": (r"\1/kernel", same),
    r"(conv\d_\d)/bias": (r"\1/bias", same),
}


def plan_of(depth: int, source: Source) -> Plan:
    """VGG of `depth` 16 or 19; `channels` and `preprocess` are read off the shapes and names."""
    count = sum(key.startswith(("features.", "conv")) and key.endswith("weight") for key in source)
    if COUNTS.get(count) != depth:
        other = COUNTS.get(count)
        advice = f"it is VGG-{other}: use --arch=vgg{other}" if other else "without batch norm"
        raise UserError(
            f"no weights of VGG-{depth}: {count} kernels called features.N.weight or"
            f" convI_J/weight, wanted {sum(CONVS[depth])}; {advice}"
        )
    if any(key.startswith("features.") for key in source):
        channels = size("VGG", source, "features.0.weight", 0)
        preprocess, rules = "imagenet", torchvision(depth)
    else:
        channels = size("VGG", source, "conv1_1/weight", 3)
        preprocess, rules = "caffe", CAFFE
    options = {"depth": depth, "preprocess": preprocess, "channels": channels}
    return Plan("vgg", "vgg", options, rules, source, IGNORE)


def torchvision(depth: int) -> Rules:
    """The rules of torchvision's names: a ReLU follows each convolution, a pool each block."""
    rules, index = {}, 0
    for block, convs in enumerate(CONVS[depth], start=1):
        for i in range(1, convs + 1):
            rules |= conv(rf"features\.{index}", f"conv{block}_{i}")
            index += 2
        index += 1
    return rules


def layout_of(depth: int, net: str, options: Mapping[str, Any]) -> Rules:
    """torchvision's names for a net of ours; `UserError` where its weights are not torchvision's."""
    if options["depth"] != depth:
        raise UserError(f"the {net} is VGG-{options['depth']}: use --arch=vgg{options['depth']}")
    if options["preprocess"] == "caffe":
        raise UserError(
            "the weights want Caffe's input (BGR minus means), which nets with torchvision's names"
            " do not give them"
        )
    return torchvision(depth)
