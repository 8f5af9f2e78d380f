"""A PyTorch file of state dicts, written without PyTorch: the zip that `torch.save` makes.

`archive/data.pkl` is a pickle of an OrderedDict of tensors and of such dicts, whose numbers are the members
`archive/data/0` and on. Only the few instructions that such a pickle needs are written, so that
`torch.load(weights_only=True)` takes it.
"""

import io
import itertools
import struct
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from artifygan_jax.weights.tensors import contiguous

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}
ALIGN = 64  # bytes: where torch lets numbers begin, for `torch.load(mmap=True)`
Tree = Mapping[str, "np.ndarray | Tree"]
_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"  # import it, call it without arguments


def dumps(arrays: Tree) -> bytes:
    """The file with these tensors (float32, float16 or int64) and dicts of such, in their order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, "data.pkl", b"\x80\x02" + _pickle(arrays, itertools.count()) + b".")
        _write(archive, "byteorder", b"little")
        for n, x in enumerate(_leaves(arrays)):
            _write(archive, f"data/{n}", x.astype(x.dtype.newbyteorder("<")).tobytes())
        _write(archive, "version", b"3\n")
    return out.getvalue()


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """A member whose contents begin at a multiple of `ALIGN`, by a field of padding before them."""
    info = zipfile.ZipInfo(f"archive/{name}")  # dated 1980: the same file every time
    head = archive.start_dir + 30 + len(info.filename) + 4
    info.extra = struct.pack("<2sH", b"FB", -head % ALIGN) + b"Z" * (-head % ALIGN)
    archive.writestr(info, data)


def _leaves(arrays: Tree) -> Iterator[np.ndarray]:
    for x in arrays.values():
        if isinstance(x, Mapping):
            yield from _leaves(x)
        else:
            yield x


def _pickle(arrays: Tree, numbers: Iterator[int]) -> bytes:
    """Protocol 2: an OrderedDict `{name: torch._utils._rebuild_tensor_v2(...)}`."""
    items = (
        _text(name) + (_pickle(x, numbers) if isinstance(x, Mapping) else _tensor(next(numbers), x))
        for name, x in arrays.items()
    )
    return _ORDERED_DICT + b"(" + b"".join(items) + b"u"


def _tensor(n: int, x: np.ndarray) -> bytes:
    storage = f"ctorch\n{STORAGES[x.dtype.name]}\n".encode()
    where = _tuple(_text("storage"), storage, _text(str(n)), _text("cpu"), _int(x.size)) + b"Q"
    shape, strides = (_tuple(*map(_int, t)) for t in (x.shape, contiguous(x.shape)))
    no = b"\x89"  # no gradient
    call = _tuple(where, _int(0), shape, strides, no, _ORDERED_DICT)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + call + b"R"


def _tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)
