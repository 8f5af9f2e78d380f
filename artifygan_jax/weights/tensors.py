"""Tensors of PyTorch and arrays of numpy as their pickles describe them, and the names allowed there.

Nothing is read or made before it is asked for: a `Tensor` is a view of a `Storage` that has been
checked to lie inside of it. Names and arguments as torch 0.4-2.13 and numpy 1 and 2 write them.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from artifygan_jax.weights.pickles import (
    Budget,
    Damaged,
    Name,
    Record,
    Refused,
    mapping,
    shown,
    unordered,
)

MAX_AXES = 32

DTYPES = {
    **{f"float{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    **{f"int{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"uint{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "bool": np.dtype(bool),
}
STORAGES = {
    "Half": "float16",
    "Float": "float32",
    "Double": "float64",
    "BFloat16": "bfloat16",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Byte": "uint8",
    "Bool": "bool",
}
TYPES = {
    **{f"torch.{storage}Storage": DTYPES[dtype] for storage, dtype in STORAGES.items()},
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
    "torch.storage.UntypedStorage": np.dtype(np.uint8),
}


@dataclasses.dataclass(eq=False)
class Storage:
    """`count` numbers in a row, somewhere. `read` gives their bytes as uint8, when first asked."""

    dtype: np.dtype
    count: int
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.dtype.itemsize

    @functools.cached_property
    def data(self) -> np.ndarray:
        """The bytes, held from now on; raises `Damaged` where there are fewer or more."""
        data = self.read()
        if data.size != self.size:
            raise Damaged(f"a storage of {self.size} bytes holds {data.size}")
        return data


@dataclasses.dataclass(eq=False)
class Tensor:
    """A view of a storage: `shape`, `strides` and `offset` in numbers of type `dtype`."""

    dtype: np.dtype
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    offset: int = 0
    storage: Storage | None = None

    def check(self) -> "Tensor":
        """Itself, if it lies inside of its storage; raises `Refused` where it does not."""
        numbers = (*self.shape, *self.strides, self.offset)
        if any(type(n) is not int for n in numbers):
            raise Damaged("a tensor has a shape that is none")
        if len(self.shape) != len(self.strides) or min(numbers) < 0:
            raise Refused(f"a tensor has the negative or unfit strides {shown(str(self.strides))}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        room = self.storage.size if self.storage is not None else 0
        if 0 not in self.shape and (last + 1) * self.dtype.itemsize > room:
            raise Refused(f"a tensor of shape {shown(str(self.shape))} reaches outside its storage")
        return self

    def build(self, state: Any) -> None:
        """numpy's state of an array: version, shape, dtype, whether column-major, bytes."""
        if self.storage is not None:
            raise Refused("the file changes a tensor, which weights never do")
        _, shape, dtype, fortran, data = state
        self._fill(shape, dtype, bool(fortran), data)

    def _fill(self, shape: Any, dtype: Any, fortran: bool, data: Any) -> None:
        if not isinstance(dtype, _Dtype):
            raise Damaged("an array of numpy has no type")
        self.dtype, self.shape = dtype.dtype, _axes(shape)
        self.storage = _in_memory(dtype.dtype, data)
        turned = contiguous(self.shape[::-1])[::-1]
        self.strides = turned if fortran else contiguous(self.shape)
        self.check()
        if math.prod(self.shape) != self.storage.count:
            raise Damaged("an array of numpy has other bytes than its shape says")

    def numpy(self, budget: Budget) -> np.ndarray:
        """The numbers, in the machine's byte order; bfloat16 as float32.

        Views of one whole storage share their memory; what must be copied goes to the budget.
        """
        if self.storage is None:
            raise Damaged("an array of numpy has no numbers")
        size = math.prod(n for n in self.shape if n) * self.dtype.itemsize
        if 0 in self.shape:
            budget.spend(size=size)  # numpy makes no empty array of too large an other axis
            return self._native(np.empty(self.shape, self.dtype))
        data, step = self.storage.data, self.dtype.itemsize
        whole = size == data.size and self.strides == contiguous(self.shape)
        if not (whole and data.flags.writeable):
            budget.spend(size=size)
        strides = tuple(step * s for s in self.strides)
        view = np.ndarray(self.shape, self.dtype, data, step * self.offset, strides)
        return self._native(view if whole and data.flags.writeable else view.copy(order="C"))

    @staticmethod
    def _native(x: np.ndarray) -> np.ndarray:
        if x.dtype == ml_dtypes.bfloat16:
            return x.astype(np.float32)
        return x.astype(x.dtype.newbyteorder("="), copy=False)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in numbers, of a row-major array."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _axes(values: Any) -> tuple[int, ...]:
    """A shape or strides; what they hold is for `Tensor.check` to say."""
    if not isinstance(values, tuple | list) or len(values) > MAX_AXES:
        raise Damaged("a tensor has a shape that is none")
    return tuple(values)


def _in_memory(dtype: np.dtype, data: Any) -> Storage:
    """A storage of bytes as Python 3 pickles them, or as the text that Python 2 had for them."""
    if not isinstance(data, bytes | bytearray | str):
        raise Refused(f"an array is made of a {shown(data)}, not of bytes: it holds objects")
    if len(data) % dtype.itemsize:
        raise Damaged("an array of numpy ends within a number")

    def read() -> np.ndarray:
        try:
            raw = data.encode("latin1") if isinstance(data, str) else data
        except UnicodeEncodeError as error:
            raise Damaged("an array of numpy is made of text") from error
        return np.frombuffer(raw, np.uint8)

    return Storage(dtype, len(data) // dtype.itemsize, read)


# ------------------------------------------------------------------------------------- torch


def dtype_of(name: Any) -> np.dtype:
    """The type of numbers that a name such as `torch.FloatStorage` or `torch.uint16` stands for."""
    if not isinstance(name, Name) or name.text not in TYPES:
        raise Refused(f"a tensor's type is {shown(name.text if isinstance(name, Name) else name)}")
    return TYPES[name.text]


def _tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise Damaged("a tensor has no storage")
    return Tensor(storage.dtype, _axes(shape), _axes(strides), offset, storage).check()


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_: Any,
) -> Tensor:
    if not isinstance(storage, Storage):
        raise Damaged("a tensor has no storage")
    return Tensor(dtype_of(dtype), _axes(shape), _axes(strides), offset, storage).check()


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _from_type(function: Any, _type: Any, args: Any, _state: Any) -> Tensor:
    """A tensor with attributes of its own, which are left out."""
    rebuilds = (_tensor_v2, _tensor_v3, _parameter)
    make = function.make if isinstance(function, Name) else None
    if make is None or make not in rebuilds or not isinstance(args, tuple):
        raise Refused("a tensor is made by another function than torch's own")
    return make(*args)


def _first(value: Any = (), *_: Any) -> Any:
    return value


def _quantised(*_: Any) -> Any:
    raise Refused("the file holds quantised tensors; save them dequantised (tensor.dequantize())")


# ------------------------------------------------------------------------------------- numpy


class _Dtype:
    """A type of numpy; only plain numbers."""

    def __init__(self, text: Any, *_: Any):
        if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?(f[248]|[iu][1248]|b1)", text):
            raise Refused(f"an array of numpy holds {shown(text)}, not plain numbers")
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> None:
        """Byte order; fields and sub-arrays, which plain numbers have not, are refused."""
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or any(x is not None for x in rest[:3]):
            raise Refused("an array of numpy holds records, not plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    if not isinstance(dtype, _Dtype):
        raise Damaged("a number of numpy has no type")
    storage = _in_memory(dtype.dtype, data)
    if storage.count != 1:
        raise Damaged("a number of numpy has other bytes than its type")
    return storage.data.view(dtype.dtype)[0].item()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Tensor:
    array = _empty_array()
    array._fill(shape, dtype, order == "F", data)
    return array


def _empty_array(*_: Any) -> Tensor:
    return Tensor(np.dtype(np.float32))


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("the file encodes text, which weights never do")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes no bytes."""
    return b""


# ------------------------------------------------------------------------------ the allow-list


def _default_mapping(_factory: Any = None, pairs: Any = ()) -> dict:
    return mapping(pairs)


def _nvidia(meta: Any) -> Record:
    """An object of a StyleGAN snapshot: class and state. Its program text is dropped unread."""
    meta = meta.items if isinstance(meta, Record) else meta
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise Damaged("an object of the snapshot has no class_name")
    return Record(meta["class_name"], state=meta.get("state"))


_BUILTINS = ("builtins", "__builtin__")  # of Python 3 and 2
_FUNCTIONS: dict[str, Callable[..., Any] | None] = {
    **dict.fromkeys(TYPES),
    **dict.fromkeys(("torch.nn.parameter.Parameter", "torch.Tensor", "torch._tensor.Tensor")),
    **dict.fromkeys(f"{b}.{x}" for b in _BUILTINS for x in ("dict", "list", "int", "float")),
    **dict.fromkeys((f"{b}.set" for b in _BUILTINS), unordered),
    **dict.fromkeys((f"{b}.bytes" for b in _BUILTINS), _no_bytes),
    "numpy.ndarray": None,
    "numpy.dtype": _Dtype,
    "collections.OrderedDict": mapping,
    "collections.defaultdict": _default_mapping,
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor": _tensor_v2,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _first,
    "torch._utils._rebuild_qtensor": _quantised,
    **{f"torch.{x}Storage": _quantised for x in ("QInt8", "QUInt8", "QInt32")},
    **{
        f"torch.jit._pickle.{x}": _first
        for x in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
    },
    "torch.jit._pickle.restore_type_tag": _first,
    "torch_utils.persistence._reconstruct_persistent_obj": _nvidia,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _empty_array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}
_RECORDS = {
    *("argparse.Namespace", "types.SimpleNamespace", "torch.device"),
    *("dnnlib.util.EasyDict", "dnnlib.EasyDict", "easydict.EasyDict"),
    *("pathlib.PosixPath", "pathlib.WindowsPath"),
}


def find(text: str) -> Name | None:
    """Our stand-in for a name of a weights file, None for one that is not allowed.

    Classes of TorchScript (`__torch__...`) become records like the few of `argparse` and others
    that training scripts keep beside the weights.
    """
    if text in _RECORDS or text.startswith("__torch__."):
        return Name(text, lambda *args: Record(text, args))
    return Name(text, _FUNCTIONS[text]) if text in _FUNCTIONS else None
