"""VGG-16 and VGG-19 without batch norm, from torchvision or from a conversion of the Caffe models.

torchvision: `features.N.weight`, OIHW, normalised RGB. Caffe: `conv1_1/weight` and `conv1_1/bias`,
HWIO, BGR minus means. Fully connected layers are left out: the net here is features only.
"""

from artifygan_jax.errors import UserError
from artifygan_jax.weights.rules import Plan, Source, conv, same, size

CONVS = {13: (16, (2, 2, 3, 3, 3)), 16: (19, (2, 2, 4, 4, 4))}  # count: depth, convolutions a block
IGNORE = (r"classifier\..*", r"fc\d/.*")


def plan(source: Source) -> Plan:
    """VGG with `depth`, `channels` and `preprocess` read off the names and shapes."""
    torchvision = any(key.startswith("features.") for key in source)
    count = sum(key.startswith(("features.", "conv")) and key.endswith("weight") for key in source)
    if count not in CONVS:
        raise UserError(
            f"no weights of VGG: {count} kernels called features.N.weight or convI_J/weight,"
            " wanted 13 (VGG-16) or 16 (VGG-19), without batch norm"
        )
    depth, blocks = CONVS[count]
    if torchvision:
        channels = size("VGG", source, "features.0.weight", 0)
        preprocess, rules, index = "imagenet", {}, 0
        for block, convs in enumerate(blocks, start=1):
            for i in range(1, convs + 1):
                rules |= conv(rf"features\.{index}", f"conv{block}_{i}")
                index += 2  # a ReLU follows each
            index += 1  # and a pool each block
    else:
        channels = size("VGG", source, "conv1_1/weight", 3)
        preprocess = "caffe"
        rules = {
            r"(conv\d_\d)/weight": (r"\1/kernel", same),
            r"(conv\d_\d)/bias": (r"\1/bias", same),
        }
    options = {"depth": depth, "preprocess": preprocess, "channels": channels}
    return Plan("vgg", "vgg", options, rules, source, IGNORE)
