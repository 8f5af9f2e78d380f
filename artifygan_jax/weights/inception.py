"""The FID Inception-v3 of 2015-12-05, with its batch norms folded in or as pytorch-fid names them.

Folded: `Mixed_5b.branch1x1/kernel`, HWIO, and `.../bias`; kernels may be lacking, and the net then
refuses the layers behind them. pytorch-fid: `Mixed_5b.branch1x1.conv.weight`, OIHW, and `.bn.*`.
"""

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.nets.inception import fold
from artifygan_jax.weights.rules import Plan, Source, oihw, same, size

RULES = {
    r"(Conv2d_\w+)/(kernel|bias)": (r"\1/\2", same),
    r"(Mixed_\w+)\.(branch\w+)/(kernel|bias)": (r"\1/\2/\3", same),
}
IGNORE = (r".*\.num_batches_tracked", r"fc\.(weight|bias)")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def plan(source: Source) -> Plan:
    """`normalise` follows the source: pytorch-fid feeds 2x - 1, the graph (x - 128) / 128."""
    unfolded = "Conv2d_1a_3x3.conv.weight" in source
    arrays = _folded(source) if unfolded else source
    size("the FID Inception", arrays, "Conv2d_1a_3x3/kernel", 3)
    layers = [key.removesuffix("/bias") for key in arrays if key.endswith("/bias")]
    missing = () if unfolded else tuple(n for n in layers if f"{n}/kernel" not in arrays)
    options = {"normalise": "pytorch" if unfolded else "tensorflow", "missing": missing}
    paths = [f"{name.replace('.', '/')}/kernel" for name in missing]
    return Plan("inception", "inception", options, RULES, arrays, IGNORE, paths)


def _folded(source: Source) -> dict[str, np.ndarray]:
    """The arrays with each convolution and its batch norm made one; other arrays as they are."""
    if any(key.startswith("AuxLogits.") for key in source):
        raise UserError(
            "this is torchvision's inception_v3, another training run with other pools than the FID"
            " network: distances from it are not FID; give pytorch-fid's pt_inception-2015-12-05"
        )
    out, wrong = dict(source), []
    for name in [
        key.removesuffix(".conv.weight") for key in source if key.endswith(".conv.weight")
    ]:
        kernel = out.pop(f"{name}.conv.weight")
        scale, shift, mean, variance = norm = [
            out.pop(f"{name}.bn.{leaf}", np.zeros(0)) for leaf in BATCH_NORM
        ]
        if kernel.ndim == 4 and all(x.shape == kernel.shape[:1] for x in norm):
            kernel, bias = fold(oihw(kernel), scale, shift, mean, variance)
            out |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
        else:
            wrong.append(f"{name}.bn")
    if wrong:
        raise UserError(
            f"{len(wrong)} layers without all of {', '.join(BATCH_NORM)} in the length of their"
            f" convolution: {', '.join(wrong)}; get the file again"
        )
    return out
