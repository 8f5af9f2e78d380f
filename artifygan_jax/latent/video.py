"""Frames to a film: .mp4 by PyAV (extra `video`), .gif by Pillow."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from artifygan_jax.data.saving import write_whole
from artifygan_jax.errors import UserError

SUFFIXES = (".mp4", ".gif")
GIF_PIXELS = 400_000_000  # of all frames together, which Pillow keeps in memory


def check(path: Path, frames: int, side: int) -> None:
    """A `UserError`, before anything is drawn, for a film that cannot be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--video={path}: give a file that ends in {' or '.join(SUFFIXES)}")
    if path.suffix.lower() == ".mp4":
        _av()
    elif frames * side**2 > GIF_PIXELS:
        raise UserError(
            f"--video={path}: {frames} frames of {side} px are too many for a .gif; use .mp4"
        )


def write(path: Path, frames: Iterator[np.ndarray], fps: int, model: str, source_type: str) -> None:
    """Writes uint8 `[H, W, 3]` frames as a film that repeats where its kind can (.gif)."""
    note = f"artifygan_jax; model={model}; DigitalSourceType={source_type}"
    film = _mp4 if path.suffix.lower() == ".mp4" else _gif
    write_whole(path, film(frames, fps, note))


def _gif(frames: Iterator[np.ndarray], fps: int, note: str) -> bytes:
    buffer, images = io.BytesIO(), (Image.fromarray(frame) for frame in frames)
    first = next(images)
    # durations of a GIF are hundredths of a second, and viewers slow down what is under two of them
    duration = max(20, 10 * round(100 / fps))
    first.save(
        buffer,
        "GIF",
        save_all=True,
        append_images=images,
        duration=duration,
        loop=0,
        comment=note.encode(),
    )
    return buffer.getvalue()


def _mp4(frames: Iterator[np.ndarray], fps: int, note: str) -> bytes:
    av = _av()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as film:
        film.metadata["comment"] = note
        stream = None
        for frame in frames:
            if stream is None:
                stream = film.add_stream("h264", rate=fps, options={"crf": "16"})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is not None:
            film.mux(stream.encode())
    return buffer.getvalue()


def _av():
    try:
        import av
    except ImportError as error:
        raise UserError(
            "an .mp4 needs PyAV: pip install 'artifygan_jax[video]', or give a .gif"
        ) from error
    return av
