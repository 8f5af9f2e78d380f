"""pSp's encoder as its authors save it; ReStyle's are of the same layout.

A file holds `state_dict` with `encoder.*` (and `decoder.*`, a generator in rosinality's layout, which
`--arch=rosinality --part=state_dict.decoder` converts), `latent_avg` and options. An encoder's own state
dict is read too; its mean code is then zero.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.nets.psp import STAGES
from artifygan_jax.weights import readers
from artifygan_jax.weights.rules import (
    Plan,
    Rules,
    Source,
    batch_norm,
    conv,
    linear,
    oihw,
    same,
    size,
)

WHAT, MEAN = "pSp's or e4e's encoder", "latent_avg"
IGNORE = (r".*\.num_batches_tracked",)


def read(path: str | os.PathLike, part: str | None = None) -> Plan:
    """The plan of a file, or of its part."""
    return plan(with_mean(path, part))


def plan(source: Source, kind: str = "psp") -> Plan:
    """Sizes and the number of codes are read off the shapes; `kind` is not to be seen in them."""
    own = {k: x for k, x in source.items() if not k.startswith(("encoder.", "decoder."))}
    own |= {k.removeprefix("encoder."): x for k, x in source.items() if k.startswith("encoder.")}
    heads = {int(m[1]) for k in own if (m := re.match(r"styles\.(\d+)\.", k))}
    blocks = {int(m[1]) for k in own if (m := re.match(r"body\.(\d+)\.", k))}
    if len(blocks) != sum(STAGES) or "body.0.res_layer.5.fc1.weight" not in own:
        raise UserError(
            f"no weights of {WHAT}: {len(blocks)} blocks, wanted {sum(STAGES)} of IR-SE50"
        )
    if not heads or heads != set(range(len(heads))):
        raise UserError(
            f"no weights of {WHAT}: heads {sorted(heads)}, wanted styles.0, styles.1, ..."
        )
    options = {
        "kind": kind,
        "styles": len(heads),
        "pyramid": "latlayer1.weight" in own,
        "inputs": size(WHAT, own, "input_layer.0.weight", 1),
        "channels": size(WHAT, own, "input_layer.0.weight", 0),
        "w_size": size(WHAT, own, "styles.0.linear.weight", 0, axes=2),
    }
    if MEAN in own and own[MEAN].ndim == 1:  # one for all
        own[MEAN] = np.repeat(own[MEAN][None], len(heads), axis=0)
    missing = () if MEAN in own else (MEAN,)
    rules = layout("encoder", options)
    return Plan("psp", "encoder", options, rules, own, IGNORE, missing)


def with_mean(path: str | os.PathLike, part: str | None) -> dict[str, np.ndarray]:
    """The arrays of a file, and the mean code that lies beside them."""
    net = readers.net(path, part=part, prefer=("state_dict",), beside=(MEAN,))
    return {**net.beside, **net.arrays}


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The names of the source."""
    del net
    block, ours = r"body\.(\d+)", r"blocks/\1"
    rules: Rules = {
        r"input_layer\.0\.weight": ("conv/kernel", oihw),
        r"input_layer\.2\.weight": ("prelu/slope", same),
        **batch_norm(r"input_layer\.1", "norm"),
        **batch_norm(rf"{block}\.res_layer\.0", f"{ours}/norm1"),
        **batch_norm(rf"{block}\.res_layer\.4", f"{ours}/norm2"),
        rf"{block}\.res_layer\.1\.weight": (f"{ours}/conv1/kernel", oihw),
        rf"{block}\.res_layer\.2\.weight": (f"{ours}/prelu/slope", same),
        rf"{block}\.res_layer\.3\.weight": (f"{ours}/conv2/kernel", oihw),
        rf"{block}\.res_layer\.5\.fc1\.weight": (f"{ours}/squeeze/kernel", oihw),
        rf"{block}\.res_layer\.5\.fc2\.weight": (f"{ours}/excite/kernel", oihw),
        rf"{block}\.shortcut_layer\.0\.weight": (f"{ours}/shortcut/kernel", oihw),
        **batch_norm(rf"{block}\.shortcut_layer\.1", f"{ours}/shortcut_norm"),
        r"styles\.(\d+)\.linear\.weight": (r"heads/\1/dense/kernel", linear),
        r"styles\.(\d+)\.linear\.bias": (r"heads/\1/dense/bias", same),
        MEAN: (MEAN, same),
    }
    for n in range(6):  # 64 px to one
        rules |= conv(rf"styles\.(\d+)\.convs\.{2 * n}", rf"heads/\1/convs/{n}")
    if options["pyramid"]:
        rules |= conv(r"latlayer([12])", r"lateral\1")
    return rules


def wrapped(net: str, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The file that the authors' programs load an encoder from, without a decoder and options."""
    del net
    own = {f"encoder.{name}": x for name, x in tensors.items() if name != MEAN}
    return {"state_dict": own, MEAN: tensors[MEAN]}
