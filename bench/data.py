"""How fast do pictures come in, and does a training step wait for them?

    python bench/data.py --size=256 --batch=8 --rates=7,500

Draws faces into a zip of JPEGs (178 x 218, the size of CelebA's aligned pictures), or takes the real
archive of `--zip`, and reads it: as streams do from the zip, and from the dataset that `prepare celeba`
makes of it (decode, centre square, bicubic); with the edge-smoothed twins made on the fly; from packed
and from kept pictures; and with grain's threads. A torch DataLoader does the same work (PIL decodes,
same square), in this process and with worker processes, and reads the packed array. With one thread the
numbers are per core. The other run also says what share of its time a consumer of `--rates` images/s
waits for pictures and twins: it sleeps as long as a step would keep the device busy, so it stands for a
GPU, not for a training CPU.
"""

import argparse
import functools
import io
import pathlib
import tempfile
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import _common as common
import numpy as np
from PIL import Image

from artifygan_jax.data import streams
from artifygan_jax.data.celeba.celeba_dataset_builder import prepare_celeba
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Batches, Smoothed, Stream

HEIGHT, WIDTH, QUALITY = 218, 178, 92
COPIES = 32  # of each picture in the zip: grain's shuffle takes milliseconds a draw from tiny sets
WORKERS = 2


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--count", type=int, default=64, help="different faces in the zip")
    parser.add_argument("--zip", help="a real img_align_celeba.zip instead of drawn faces")
    parser.add_argument("--steps", type=int, default=16, help="batches in a sample")
    parser.add_argument("--grain", type=common.numbers, default=[1, 2, 4], help="threads (1,2,4)")
    parser.add_argument("--rates", type=common.numbers, default=[7, 500], help="of the consumer")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "img_align_celeba.zip"
        if args.zip:
            path.symlink_to(pathlib.Path(args.zip).resolve())
        else:
            write_zip(path, args.count)
        prepare_celeba(folder, folder, allow_missing=True)
        missing = common.torch_missing(args)
        contenders = ours(args, path)
        if not missing:
            contenders |= theirs(args, path, metric)
        seconds = common.interleave(contenders, args.rounds, metric)
        images = args.batch * args.steps
        first = seconds["decode and square"]
        rows = [
            {
                "path": name,
                "images_per_s": images / s,
                "ms_per_image": 1e3 * s / images,
                "faster": first / s,
            }
            for name, s in seconds.items()
        ]
        notes = [missing] if missing else []
        if metric == "wall":
            notes += [waits(args, path, rate) for rate in args.rates]
    return {"rows": rows, "notes": notes}


def write_zip(path: pathlib.Path, count: int) -> None:
    """`count` drawn faces as JPEGs, `COPIES` of each."""
    faces = Faces("photo", count, 3, HEIGHT)
    margin = (HEIGHT - WIDTH) // 2
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(count):
            file = io.BytesIO()
            face = Image.fromarray(faces[i][:, margin : margin + WIDTH])
            face.save(file, "JPEG", quality=QUALITY)
            for j in range(COPIES):
                archive.writestr(f"img_align_celeba/{COPIES * i + j:06d}.jpg", file.getvalue())


def batches(args, path: pathlib.Path, *, twins: bool = False, **cache: Any) -> Batches:
    """`--steps` batches of the zip or the dataset."""
    named: dict[str, Any] = {"cartoon": Stream(Pictures(str(path)), args.size, **cache)}
    if twins:
        named["smooth"] = Smoothed("cartoon")
    return Batches(named, args.batch, steps=args.steps)


def ours(args, path: pathlib.Path) -> common.Contenders:
    """Our ways of reading `--steps` batches."""

    def read(source: Batches) -> None:
        for step in range(args.steps):
            source[step]

    def load(source: Batches, threads: int) -> None:
        for _ in streams.load(source, threads=threads):
            pass

    plain = batches(args, path)
    dataset = batches(args, path.parent / "celeba")
    pack = batches(args, path, pack=str(path.parent / "packs"))
    pack.pack()
    return {
        "decode and square": functools.partial(read, plain),
        "the same from a dataset": functools.partial(read, dataset),
        "and edge-smoothed twins": functools.partial(read, batches(args, path, twins=True)),
        "packed on disk": functools.partial(read, pack),
        "kept in memory": functools.partial(read, batches(args, path, keep=True)),
        **{f"grain, {n} thread(s)": functools.partial(load, plain, n) for n in args.grain},
    }


class Mapped:
    """The packed array for torch."""

    def __init__(self, path: pathlib.Path, length: int):
        self.array = np.load(next((path.parent / "packs").glob("*.npy")), mmap_mode="r")
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.array[index % len(self.array)])


class Decoded:
    """The same work for torch: a map-style dataset in the order of the zip."""

    def __init__(self, path: pathlib.Path, size: int, length: int):
        self.path, self.size, self.length = path, size, length
        with zipfile.ZipFile(path) as archive:
            self.names = [name for name in archive.namelist() if name.endswith(".jpg")]

    def __len__(self) -> int:
        return self.length

    @functools.cached_property
    def archive(self) -> zipfile.ZipFile:
        """Opened once in each process."""
        return zipfile.ZipFile(self.path)

    def __getitem__(self, index: int) -> np.ndarray:
        data = self.archive.read(self.names[index % len(self.names)])
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        w, h = picture.size
        side = min(w, h)
        box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
        size = (self.size, self.size)
        return np.array(picture.resize(size, Image.Resampling.BICUBIC, box=box))


def theirs(args, path: pathlib.Path, metric: str) -> common.Contenders:
    """DataLoaders; workers only by the wall clock, as their CPU time is not this process's."""
    from torch.utils.data import DataLoader

    def read(loader) -> None:
        for _ in loader:
            pass

    found: common.Contenders = {}
    for workers in (0, WORKERS) if metric == "wall" else (0,):
        dataset: Any = Decoded(path, args.size, args.batch * args.steps)
        loader = DataLoader(
            dataset,
            args.batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="spawn" if workers else None,
        )
        found[f"torch DataLoader, {workers} worker(s)"] = functools.partial(read, loader)
    mapped: Any = Mapped(path, args.batch * args.steps)
    loader = DataLoader(mapped, args.batch)
    found["torch DataLoader, packed"] = functools.partial(read, loader)
    return found


def waits(args, path: pathlib.Path, rate: int) -> str:
    """What share of its time a consumer of `rate` images/s waits for pictures and twins."""
    source = batches(args, path, twins=True)
    iterator: Iterator = streams.load(source)
    next(iterator)  # threads start
    waited, start = 0.0, time.perf_counter()
    for _ in range(args.steps - 1):
        before = time.perf_counter()
        next(iterator)
        waited += time.perf_counter() - before
        time.sleep(args.batch / rate)
    total = time.perf_counter() - start
    return f"a step at {rate} images/s (pictures and twins) waits {waited / total:.1%} of its time"


if __name__ == "__main__":
    common.main(__doc__, options, measure, host=True)
