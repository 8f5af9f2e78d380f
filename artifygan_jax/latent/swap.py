"""Layers of two generators in one picture: coarse ones of a source, fine ones of a target.

Toonify's layer swap (Pinkney & Adler, arXiv:2010.05334) exchanges weights and gives a new generator.
Cartoon-StyleGAN's (arXiv:2106.12445) exchanges one feature map while both nets draw.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent.render import Renderer
from artifygan_jax.nets import resample
from artifygan_jax.nets.stylegan2 import Synthesis


def features(
    target: Synthesis,
    source: Synthesis,
    target_ws: jax.Array,
    source_ws: jax.Array,
    resolution: int,
    *,
    noise: str = "const",
) -> jax.Array:
    """Pictures `[N, H, W, 3]` of `target` whose feature map at `resolution` is that of `source`.

    Each net draws with its own codes `[N, num_ws, w_size]` and noise. The map is that after the
    block's second convolution; every step to RGB is the target's, of that map in this block.
    """
    if resolution not in target.resolutions or target.num_ws != source.num_ws:
        raise UserError(f"no feature map of {resolution} px that both nets have")
    name, below = f"b{resolution}/conv1", f"b{resolution // 2}/image"
    x = source.features(source_ws, (name,), noise=noise)[name]
    image = None
    if resolution > 4:
        image = target.features(target_ws, (below,), noise=noise)[below]
    first = target.resolutions.index(resolution)
    for i, size in enumerate(target.resolutions[first:], first):
        block = getattr(target, f"b{size}")
        if size > resolution:
            x = block.conv0(x, target_ws[:, 2 * i - 1], noise, None)
            x = block.conv1(x, target_ws[:, 2 * i], noise, None)
        rgb = block.rgb(x, target_ws[:, 2 * i + 1])
        image = rgb if image is None else resample.up(image) + rgb
    assert image is not None
    return image


def check_resolution(resolution: int, resolutions: tuple[int, ...]) -> None:
    """A `UserError` unless layers are left on both sides of `resolution`."""
    if resolution not in resolutions[:-1]:
        allowed = ", ".join(map(str, resolutions[:-1]))
        raise UserError(f"--resolution={resolution}: give one of {allowed}")


def weights(
    target: Renderer, source: Renderer, resolution: int, width: float = 0.0
) -> dict[str, np.ndarray]:
    """The variables of a generator with the layers of `source` up to `resolution`, of `target` above.

    The mapping and its mean are the source's. With a `width` the change is soft: the share of the
    target at side s is 1 / (1 + exp(-d / width)), d being the octaves from half-way between
    `resolution` and its double to s.
    """
    if target.options != source.options:
        theirs, ours = dataclasses.asdict(source.options), dataclasses.asdict(target.options)
        differ = [f"{k} {theirs[k]} and {ours[k]}" for k in ours if ours[k] != theirs[k]]
        raise UserError(f"{source.where} and {target.where} differ in {'; '.join(differ)}")
    check_resolution(resolution, target.net.synthesis.resolutions)
    if not (math.isfinite(width) and width >= 0):
        raise UserError(f"--width={width}: give 0 (a hard change) or a number of octaves")
    fine, coarse = bundle.variables(target.net), bundle.variables(source.net)
    mixed = {}
    for path, x in coarse.items():
        share = _share(_side(path), resolution, width)
        ours, theirs = np.asarray(fine[path], np.float32), np.asarray(x, np.float32)
        mixed[path] = (
            theirs if share == 0 else ours if share == 1 else theirs + share * (ours - theirs)
        )
    return {path: np.asarray(x, np.float32) for path, x in mixed.items()}


def _side(path: str) -> int:
    """The side of the block that a variable belongs to; 0 for the mapping, which is the source's."""
    if path.startswith("mapping/"):
        return 0
    match = re.match(r"synthesis/b(\d+)/", path)
    return int(match[1]) if match else 4  # the constant


def _share(side: int, resolution: int, width: float) -> float:
    """How much of the target a block has."""
    if not side:
        return 0.0
    away = math.log2(side / resolution) - 0.5
    if not width:
        return float(away > 0)
    return 1 / (1 + math.exp(min(-away / width, 700.0)))


def swap(
    target: Renderer,
    source: Renderer,
    resolution: int,
    output: str,
    *,
    width: float = 0.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the generator of `weights` as the bundle `output`; returns what is in its card of it."""
    folder = Path(output)
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        if not (folder / bundle.CARD).is_file():
            raise UserError(f"{output} is there and is no model bundle: give another --output")
        if not overwrite:
            raise UserError(f"{output} is there already: give another --output, or --overwrite")
    arrays = weights(target, source, resolution, width)
    options = dataclasses.asdict(target.options)
    net = bundle.build("stylegan2", "generator", options, arrays)
    parts = (source, target)
    licences = dict.fromkeys(str(part.card.get("licence", "not stated")) for part in parts)
    facts = {
        "licence": "; ".join(licences),
        "swap": {
            "source": {"name": Path(source.where).name, "sha256": source.card["sha256"]},
            "target": {"name": Path(target.where).name, "sha256": target.card["sha256"]},
            "resolution": resolution,
            "width": width,
        },
    }
    card = bundle.save(folder, net, facts, dtype=target.card.get("dtype", "float32"))
    return {"output": output, **facts["swap"], "parameters": card["parameters"]}
