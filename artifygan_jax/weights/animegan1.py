"""AnimeGAN as `ptran1203/pytorch-animeGAN` and its forks save it, generator or discriminator.

The generator has 49 kernels, such as `encode_blocks.2.conv1.depthwise.weight`, and nothing else. The
discriminator has `discriminate.N.weight`, or with spectral norm `.weight_orig`, `.weight_u` and
`.weight_v`. Every rule renames or permutes axes, so the table can be read backwards.
"""

import re

import numpy as np

from artifygan_jax.weights.rules import Plan, Rules, Source, oihw, same, size


def plan(source: Source) -> Plan:
    """The discriminator (it has a `discriminate.0`) or the generator, sizes read off the arrays."""
    if any(key.startswith("discriminate.0.") for key in source):
        return _discriminator(source)
    found = (re.fullmatch(r"res_blocks\.(\d+)\.conv\.weight", key) for key in source)
    options = {
        "channels": size("AnimeGAN", source, "encode_blocks.0.conv.weight", 0),
        "blocks": sum(match is not None for match in found),
        "variant": "port",
        "upsampling": "half",
    }
    return Plan("animegan", "generator", options, _generator(), source)


def _generator() -> Rules:
    leaf = r"(depthwise|pointwise)\.weight"
    names = {
        r"encode_blocks\.([0136])\.conv\.weight": r"encoder/\1/conv",
        r"encode_blocks\.([25])\.conv1\." + leaf: r"encoder/\1/strided/\2",
        r"encode_blocks\.([25])\.conv2\." + leaf: r"encoder/\1/resized/\2",
        r"encode_blocks\.4\." + leaf: r"encoder/4/\1",
        r"res_blocks\.(\d+)\.conv_block\.conv\.weight": r"blocks/\1/expand/conv",
        r"res_blocks\.(\d+)\.depthwise_conv\.weight": r"blocks/\1/depthwise",
        r"res_blocks\.(\d+)\.conv\.weight": r"blocks/\1/project",
        r"decode_blocks\.([0356])\.conv\.weight": r"decoder/\1/conv",
        r"decode_blocks\.([14])\.conv\." + leaf: r"decoder/\1/conv/\2",
        r"decode_blocks\.2\." + leaf: r"decoder/2/\1",
        r"decode_blocks\.7\.weight": "out",
    }
    return {pattern: (f"{path}/kernel", oihw) for pattern, path in names.items()}


def _discriminator(source: Source) -> Plan:
    spectral = "discriminate.0.weight_orig" in source
    leaf = "weight_orig" if spectral else "weight"
    indices = sorted(
        int(match[1])
        for key in source
        if (match := re.fullmatch(rf"discriminate\.(\d+)\.{leaf}", key))
    )
    channels = size("AnimeGAN's discriminator", source, f"discriminate.0.{leaf}", 0)
    stages = (len(indices) - 3) // 2
    growth = 2
    if stages > 1:
        second = size("AnimeGAN's discriminator", source, f"discriminate.7.{leaf}", 0)
        growth = second // (2 * channels)
    options = {
        "channels": channels,
        "norm": "plain",
        "spectral": spectral,
        "stages": stages,
        "growth": growth,
    }
    rules: Rules = {}
    for i, index in enumerate(indices):
        target = "out/conv" if index == indices[-1] else f"layers/{i}/conv"
        rules |= _spectral(index, target) if spectral else _kernel(index, target)
    return Plan("animegan", "discriminator", options, rules, source)


def _kernel(index: int, target: str, leaf: str = "weight") -> Rules:
    return {rf"discriminate\.{index}\.{leaf}": (f"{target}/kernel", oihw)}


def _spectral(index: int, target: str) -> Rules:
    return {
        **_kernel(index, target, "weight_orig"),
        rf"discriminate\.{index}\.weight_u": (f"{target}/u", same),
        rf"discriminate\.{index}\.weight_v": (f"{target}/v", right_vector),
    }


def right_vector(v: np.ndarray) -> np.ndarray:
    """torch's `[I * 3 * 3]` to `[3, 3, I]` of `nets.ops.SpectralConv`."""
    return v.reshape(-1, 3, 3).transpose(1, 2, 0)
