"""Tiny stand-ins for the official downloads of CelebA and COCO, in their layouts."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from artifygan_jax.data.celeba import contents as celeba
from artifygan_jax.data.coco import annotations as coco
from artifygan_jax.data.sources import Official


def jpeg(seed: int, size: tuple[int, int] = (16, 20)) -> bytes:
    """A noise picture `size` (width, height) that differs by seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes | str]) -> None:
    """A zip of these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)


def name_of(number: int) -> str:
    """CelebA's name of picture `number`."""
    return f"{number:06d}.jpg"


def attributes_of(number: int) -> list[int]:
    """The attributes the stand-in gives to picture `number`: -1 or 1."""
    return [1 if (number + column) % 3 == 0 else -1 for column in range(40)]


def celeba_tables(count: int) -> dict[str, str]:
    """The five files for pictures 1..count: of every ten eight train, one validation, one test."""
    numbers = range(1, count + 1)

    def rows(values, gap=" "):
        return "".join(f"{name_of(n)}{gap}{gap.join(map(str, values(n)))}\n" for n in numbers)

    split = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    attributes = rows(attributes_of, "  ").replace(
        "  -", " -"
    )  # one or two blanks, as the real file
    return {
        "list_attr_celeba.txt": f"{count}\n{' '.join(celeba.ATTRIBUTES)} \n{attributes}",
        "list_landmarks_align_celeba.txt": f"{count}\n{' '.join(celeba.LANDMARKS)} \n"
        + rows(lambda n: range(n, n + 10), "  "),
        "list_bbox_celeba.txt": f"{count}\nimage_id {' '.join(celeba.BBOX)} \n"
        + rows(lambda n: (n, n + 1, 226, 313), "    "),
        "identity_CelebA.txt": rows(lambda n: [1000 + n]),
        "list_eval_partition.txt": rows(lambda n: [split[n % 10]]),
    }


def celeba_folder(folder: Path, count: int = 20, pictures: range | None = None) -> Path:
    """All six files, loose; `pictures` are those that the zip has."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in celeba_tables(count).items():
        (folder / name).write_text(text)
    numbers = pictures or range(1, count + 1)
    members = {f"img_align_celeba/{name_of(n)}": jpeg(n) for n in reversed(numbers)}
    write_zip(folder / "img_align_celeba.zip", members)
    return folder


def coco_instances(first: int, count: int) -> dict:
    """Pictures of 40x20: every second has a person, every third a crowd of them, the others a dog."""
    images, boxes = [], []
    for n in range(first, first + count):
        images.append(
            {"id": n, "file_name": f"{n:012d}.jpg", "width": 40, "height": 20, "license": n % 8 + 1}
        )
        if n % 2 == 0:
            boxes.append((n, 1, [10, 5, 20, 10], 0))
        if n % 3 == 0:
            boxes.append((n, 1, [0, 0, 40, 20], 1))
        if n % 2 and n % 3:
            boxes.append((n, 18, [-0.5, 2, 41, 4], 0))  # as some official ones, over the border
    annotations = [
        {
            "id": 100 * n + crowd,
            "image_id": n,
            "category_id": category,
            "bbox": bbox,
            "area": bbox[2] * bbox[3] / 2,
            "iscrowd": crowd,
            "segmentation": [[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]],
        }
        for n, category, bbox, crowd in boxes
    ]
    return {"images": images, "annotations": annotations, "categories": coco_categories()}


def coco_categories() -> list[dict]:
    """The 80 categories under their official ids, which have gaps."""
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    ids = [number for number in range(1, 91) if number not in gaps]
    return [{"id": n, "name": name} for n, name in zip(ids, coco.CATEGORIES, strict=True)]


def coco_folder(folder: Path, train: int = 6, validation: int = 4) -> Path:
    """The three zips; train has pictures 1..train, validation those from 101 on."""
    parts = {"train": (1, train), "val": (101, validation)}
    instances = {part: coco_instances(*numbers) for part, numbers in parts.items()}
    for part, content in instances.items():
        files = [image["file_name"] for image in content["images"]]
        members = {f"{part}2017/{name}": jpeg(int(name[:-4]), (40, 20)) for name in files}
        write_zip(folder / f"{part}2017.zip", members)
    write_zip(
        folder / "annotations_trainval2017.zip",
        {
            f"annotations/instances_{part}2017.json": json.dumps(content)
            for part, content in instances.items()
        },
    )
    return folder


def unchecked(monkeypatch) -> None:
    """From here on no checksum is published of any file, so that stand-ins count as complete."""
    for module in (celeba, coco):
        names = module.officials()
        monkeypatch.setattr(
            module, "officials", lambda names=names: {n: Official(n) for n in names}
        )
