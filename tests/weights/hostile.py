"""Files of weights made by hand, good and bad, and a watch that tells whether reading ran anything."""

import codecs
import contextlib
import pickle
import struct
import sys
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C

# --- pickles, instruction by instruction -----------------------------------------------------------


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(max(1, value.bit_length() // 8 + 1), "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def row(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def named(name: str) -> bytes:
    return b"c" + "\n".join([*name.rsplit(".", 1), ""]).encode()


def call(name: str, *args: bytes) -> bytes:
    return named(name) + row(*args) + b"R"


def dictionary(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def pickled(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def storage(key="0", count=6, kind="torch.FloatStorage", device="cpu", *view: bytes) -> bytes:
    return row(text("storage"), named(kind), text(key), text(device), number(count), *view) + b"Q"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, where: bytes | None = None) -> bytes:
    sizes = (row(*map(number, shape)), row(*map(number, strides)))
    rest = (b"\x89", call("collections.OrderedDict"))
    where = storage() if where is None else where
    return call("torch._utils._rebuild_tensor_v2", where, number(offset), *sizes, *rest)


# --- containers ------------------------------------------------------------------------------------


def torch_zip(path, content: bytes, storages: dict[str, bytes], order=b"little", pack=0, **more):
    """A file as torch >= 1.6 writes it; `content` is its pickle, `more` members beside it."""
    with zipfile.ZipFile(path, "w", pack) as archive:
        archive.writestr("w/data.pkl", content)
        archive.writestr("w/byteorder", order)
        for key, data in {**{f"data/{k}": x for k, x in storages.items()}, **more}.items():
            archive.writestr(f"w/{key}", data)
    return path


def old_file(content: bytes, storages: dict[str, tuple[int, bytes]]) -> bytes:
    """A file as torch before 1.6 writes it; of each storage the count and the bytes."""
    machine = {"protocol_version": 1001, "little_endian": True}
    heads = [MAGIC, 1001, machine]
    rows = b"".join(struct.pack("<q", count) + data for count, data in storages.values())
    keys = pickle.dumps(list(storages), 2)
    return b"".join(pickle.dumps(head, 2) for head in heads) + content + keys + rows


def snapshot_module(class_name: str, state: bytes, source: str = "") -> bytes:
    """A persistent object as NVIDIA's StyleGAN2-ADA pickles it."""
    meta = {
        "type": text("class"),
        "version": number(6),
        "module_src": text(source),
        "class_name": text(class_name),
        "state": state,
    }
    return call("torch_utils.persistence._reconstruct_persistent_obj", dictionary(meta))


def contained_tensor(values: bytes, count: int) -> bytes:
    """A parameter within a snapshot: its storage is an old file of its own, as bytes."""
    inner = old_file(pickled(storage("7", count)), {"7": (count, values)})
    where = call("torch.storage._load_from_bytes", b"B" + struct.pack("<I", len(inner)) + inner)
    parameter = tensor((count,), (1,), 0, where)
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_parameter", parameter, b"\x88", hooks)


# --- the watch -------------------------------------------------------------------------------------


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.target),)


_WATCHED = {
    *("exec", "compile", "import", "os.system", "os.mkdir", "os.remove", "os.exec", "os.fork"),
    *("subprocess.Popen", "pickle.find_class", "socket.connect", "ctypes.dlopen", "shutil.rmtree"),
}
_seen: list[str] = []
_watching = False


def _hook(event: str, args: tuple) -> None:
    if not _watching:
        return
    writes = event == "open" and len(args) > 1 and isinstance(args[1], str) and "w" in args[1]
    if event in _WATCHED or writes:
        _seen.append(f"{event} {args!r:.200}")


sys.addaudithook(_hook)
for _codec in ("ascii", "latin1", "cp437", "utf-8", "raw_unicode_escape", "unicode_escape"):
    codecs.lookup(_codec)  # which imports it: not of a file's doing


@contextlib.contextmanager
def nothing_runs(but=()):
    """Fails where the block imports, compiles, runs or writes anything, by Python's own audit."""
    global _watching
    _seen.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
        bad = [event for event in _seen if event.split(" ")[0] not in but]
        assert not bad, bad
