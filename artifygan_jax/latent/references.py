"""The style pictures of one-shot methods: read, aligned, and inverted once for all runs."""

import dataclasses
import hashlib
import io
import logging
from pathlib import Path

import numpy as np

from artifygan_jax import bundle, detect
from artifygan_jax.data import align, listing
from artifygan_jax.data.images import UnreadablePicture, open_picture
from artifygan_jax.data.saving import write_whole
from artifygan_jax.data.streams import square
from artifygan_jax.errors import UserError
from artifygan_jax.latent import codes, distance
from artifygan_jax.latent.projector import Projection, Projector
from artifygan_jax.latent.render import Renderer

MOST = 32  # references of one run: all are in every step


@dataclasses.dataclass(frozen=True, eq=False)
class References:
    """`names`, `images` uint8 `[R, S, S, 3]` and their codes `ws` `[R, num_ws, w_size]`."""

    names: tuple[str, ...]
    images: np.ndarray
    ws: np.ndarray


def read(where: str, side: int, aligned: bool) -> tuple[tuple[str, ...], np.ndarray]:
    """(names, uint8 `[R, side, side, 3]`) of a picture, folder, glob or zip.

    Unless they are `aligned` already, each must show one face, whose FFHQ square is taken; aligned
    ones give the square in their middle. Transparent pictures are laid on white. A `UserError` where
    one cannot be read, or shows no face or several.
    """
    entries = listing.list_pictures(where)
    if len(entries) > MOST:
        raise UserError(f"{where} has {len(entries)} pictures; references are at most {MOST}")
    detector = None if aligned else detect.Detector.from_package()
    images = []
    for entry in entries:
        try:
            rgb = open_picture(entry.read(), name=entry.name).rgb
        except UnreadablePicture as error:
            raise UserError(f"reference {error}") from error
        images.append(square(rgb, side) if detector is None else _face(rgb, entry, side, detector))
    return tuple(entry.name for entry in entries), np.stack(images)


def _face(rgb: np.ndarray, entry: listing.Entry, side: int, detector: align.Detect) -> np.ndarray:
    faces = detector(rgb)
    if len(faces) != 1:
        count = "no face" if not faces else f"{len(faces)} faces"
        raise UserError(
            f"reference {entry.name}: {count} found, wanted one; crop it to one face, or give a"
            " square picture of one with --config.method.aligned=True"
        )
    return align.align(rgb, align.quad(faces[0].landmarks), side)


def find(
    renderer: Renderer,
    where: str,
    *,
    aligned: bool = False,
    latents: str = "",
    steps: int = 400,
    perceptual: str = "auto",
) -> References:
    """The references of `where` with their codes in `renderer`'s generator.

    `latents` names codes that are known, one for each picture in their order (`generate invert`
    writes such); otherwise the projector looks for them (W+, `steps`), and they are kept by what they
    came of, since looking takes longer than many a run.
    """
    names, images = read(where, renderer.resolution, aligned)
    if latents:
        known = codes.read(latents, renderer)
        if len(known) != len(names):
            raise UserError(f"{latents} has {len(known)} codes for {len(names)} references")
        return References(names, images, renderer.ws(known))
    found = distance.find(perceptual)
    path = _kept(renderer, images, steps, found.name)
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            ws, mse, far = file["ws"], file["mse"], file["perceptual"]
    else:
        logging.info("looking for the codes of %d references, %d steps", len(names), steps)
        result = Projector(renderer, found, Projection(steps=steps))(images)
        ws, mse, far = result.ws, result.mse, result.perceptual
        buffer = io.BytesIO()
        np.savez(buffer, ws=ws, mse=mse, perceptual=far)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())
    for name, a, b in zip(names, mse, far, strict=True):
        logging.info(
            "reference %s: projector, %d steps, mse %.4f, %s %.4f", name, steps, a, found.name, b
        )
    return References(names, images, ws)


def _kept(renderer: Renderer, images: np.ndarray, steps: int, distance: str) -> Path:
    """Where the codes of these pictures are kept."""
    mark = hashlib.sha256(images.tobytes())
    mark.update(f"{renderer.card['sha256']} {steps} {distance} 1".encode())
    return bundle.cache() / "codes" / f"{mark.hexdigest()[:32]}.npz"
