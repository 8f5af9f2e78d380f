"""Pickles read as data, by an interpreter of our own: it imports nothing and runs nothing of a file.

A pickle is a program for a small stack machine. Python's own interpreters import whatever module it
names and call what they find there. This one asks `find` for each name; what `find` does not know is
refused, what it knows stands for one of our own inert functions. The instructions are decoded by the
standard library's `pickletools`, which makes numbers, text and bytes only.
"""

import dataclasses
import io
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

MAX_STEPS = 500_000  # of one file; a StyleGAN snapshot takes some 20,000
MAX_SHOWN = 80  # characters of a name from a file that go into a message


class Refused(Exception):
    """A file does or asks for what weights never need; `str` says what."""


class Damaged(Exception):
    """A file is cut short or its parts contradict each other; `str` says where."""


# What foreign bytes make of Python's conversions and of the interpreter's stack.
TROUBLE = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError)


@dataclasses.dataclass
class Budget:
    """What reading one file may still cost: instructions, and bytes made of what it holds."""

    size: int
    steps: int = MAX_STEPS

    def spend(self, steps: int = 0, size: int = 0) -> None:
        """Takes off what the next step costs, before it is done; raises `Refused` when it is gone.

        Small pickles can describe large things, by naming one part again and again.
        """
        self.steps -= steps
        self.size -= size
        if self.steps < 0:
            raise Refused(f"the file takes more than {MAX_STEPS} steps to read, as no weights do")
        if self.size < 0:
            raise Refused("the file unpacks to many times its size, as no weights do")


class Window:
    """A binary stream that never reads, nor makes room for, more than is there."""

    def __init__(self, stream: BinaryIO, size: int):
        self.stream, self.size = stream, size

    @classmethod
    def of(cls, data: bytes) -> "Window":
        """A window on bytes in memory."""
        return cls(io.BytesIO(data), len(data))

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; raises `Damaged` where fewer are left."""
        if not 0 <= count <= self.size - self.tell():
            raise Damaged("it is cut short")
        return self.stream.read(count)

    def readline(self) -> bytes:
        """Up to and with the next line feed."""
        return self.stream.readline()

    def tell(self) -> int:
        """Place of the next byte."""
        return self.stream.tell()

    def skip(self, count: int) -> int:
        """Leaves out `count` bytes and returns where they start; `Damaged` where fewer are left."""
        place = self.tell()
        if not 0 <= count <= self.size - place:
            raise Damaged("it is cut short")
        self.stream.seek(place + count)
        return place


@dataclasses.dataclass(eq=False)
class Name:
    """A class or function that a pickle names. `make` is ours; None where it is but a name."""

    text: str
    make: Callable[..., Any] | None = None


@dataclasses.dataclass(eq=False)
class Record:
    """Stands for an object of a class that is never imported: its arguments, state and items."""

    name: str
    args: tuple = ()
    state: Any = None
    items: dict = dataclasses.field(default_factory=dict)

    def build(self, state: Any) -> None:
        """What would be the object's `__setstate__`: the state is kept as it is."""
        self.state = state


Find = Callable[[str], Name | None]
Persistent = Callable[[Any], Any]


def shown(text: object) -> str:
    """Words of a file fit for a message: printable ASCII, on one line, not too long."""
    plain = ascii(text)[1:-1] if isinstance(text, str) else ascii(type(text).__name__)[1:-1]
    return plain if len(plain) <= MAX_SHOWN else plain[:MAX_SHOWN] + "..."


def load(stream: Window, find: Find, budget: Budget, persistent: Persistent | None = None) -> Any:
    """What the next pickle of `stream` describes, and leaves the stream behind its end.

    Gives None, bool, int, float, str, bytes, list, tuple, set, dict and what the functions of `find`
    and `persistent` (the pickle's references to data outside of it) make. `find` gets a name such
    as `collections.OrderedDict`. Raises `Refused` or `Damaged`, and no other exception.
    """
    machine = _Machine(find, budget, persistent)
    source: Any = stream  # has what `genops` uses of a file: read, readline, tell
    try:
        for opcode, value, _ in pickletools.genops(source):
            budget.spend(1)
            if opcode.name not in _ACTIONS:
                raise Refused(
                    f"the file uses the pickle instruction {opcode.name}, which weights never need"
                )
            _ACTIONS[opcode.name](machine, value)
        return machine.pop()
    except TROUBLE as error:
        raise Damaged(f"no pickle of weights: {shown(str(error))}") from error


class _Machine:
    """The stack, the marks in it and the memo of a pickle that is being read."""

    def __init__(self, find: Find, budget: Budget, persistent: Persistent | None):
        self.find, self.budget, self.persistent = find, budget, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.marks.pop()
        self.budget.spend(len(values))
        return values

    def top(self, count: int) -> tuple:
        if len(self.stack) < count:
            raise Damaged("no pickle of weights: its stack is empty")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.put(len(self.memo))

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def name(self, module: Any, attribute: Any) -> None:
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise Damaged("no pickle of weights: a name is no text")
        found = self.find(f"{module}.{attribute}")
        if found is None:
            asked = shown(f"{module}.{attribute}")
            raise Refused(f"the file asks for {asked}, which weights never need")
        self.push(found)

    def stack_global(self, _: Any) -> None:
        self.name(*self.top(2))

    def call(self, _: Any) -> None:
        callee, args = self.top(2)
        if not (isinstance(callee, Name) and callee.make and isinstance(args, tuple)):
            what = callee.text if isinstance(callee, Name) else callee
            raise Refused(f"the file calls {shown(what)}, which weights never do")
        self.charge(args)
        self.push(callee.make(*args))

    def charge(self, args: tuple) -> None:
        """What our functions do with their arguments grows with these, which may be memoised."""
        for arg in args:
            if isinstance(arg, str | bytes | bytearray):
                self.budget.spend(size=len(arg))
            elif isinstance(arg, list | tuple | dict | set):
                self.budget.spend(len(arg))

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, dict):  # attributes of an OrderedDict, such as _metadata
            return
        if not hasattr(target, "build"):
            raise Refused(f"the file sets the state of a {shown(target)}, which weights never do")
        self.charge((state,))
        target.build(state)

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Refused(f"the file appends to a {shown(self.stack[-1])}, which weights never do")
        self.stack[-1].extend(values)

    def add(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], set):
            raise Refused(f"the file adds to a {shown(self.stack[-1])}, which weights never do")
        self.stack[-1].update(unordered(values))

    def set(self, values: list[Any]) -> None:
        target = self.stack[-1]
        target = target.items if isinstance(target, Record) else target
        if not isinstance(target, dict):
            raise Refused(f"the file sets items of a {shown(target)}, which weights never do")
        target.update(mapping(zip(values[::2], values[1::2], strict=True)))

    def refer(self, _: Any) -> None:
        if self.persistent is None:
            raise Refused("the file refers to data outside of it, which weights of its kind do not")
        self.push(self.persistent(self.pop()))


def _key(key: Any) -> Any:
    """Keys whose hashes are quick and cannot be chosen to collide."""
    if isinstance(key, str) or key is None or (isinstance(key, int) and -(2**63) <= key < 2**63):
        return key
    raise Refused(f"the file has a {shown(key)} for a key, which weights never do")


def mapping(pairs: Any = ()) -> dict:
    """The dict of pairs, or a copy of a dict, keys checked."""
    pairs = pairs.items() if isinstance(pairs, dict) else pairs
    return {_key(key): value for key, value in pairs}


def unordered(values: Any = ()) -> set:
    """The set of values, each checked as a key."""
    return {_key(value) for value in values}


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(machine.top(count))


# Without: the instructions of protocol 0, INST and OBJ (calls), EXT (imports by number), numbers
# longer than 255 bytes, buffers out of band, POP and DUP. No file of weights has them.
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, value: None),
    **dict.fromkeys(
        (
            *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"),
            *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
            *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        ),
        _Machine.push,
    ),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "APPEND": lambda machine, _: machine.append(list(machine.top(1))),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set(list(machine.top(2))),
    "SETITEMS": lambda machine, _: machine.set(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.since_mark()),
    "FROZENSET": lambda machine, _: machine.push(unordered(machine.since_mark())),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": lambda machine, value: machine.name(*value.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.refer,
}
