"""Pictures -> feature vectors for FID and KID, on the device.

Three conventions of resizing to 299x299 are in use, and FID differs between them:

| `resize`     | filter                                        | input range   | as in       |
|--------------|-----------------------------------------------|---------------|-------------|
| `clean`      | bicubic (a = -0.5), antialiased, clipped      | (x - 128)/128 | clean-fid   |
| `pytorch`    | bilinear, half-pixel centres, no antialiasing | x/127.5 - 1   | pytorch-fid |
| `tensorflow` | bilinear, origin-aligned, no antialiasing     | (x - 128)/128 | TTUR        |

None rounds to whole grey levels again after resizing.
"""

import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.nets import inception, ops

SIDE = 299
NORMALISE = {"clean": "tensorflow", "pytorch": "pytorch", "tensorflow": "tensorflow"}


def extract(
    net: nnx.Module,
    images: Iterable[np.ndarray],
    *,
    layer: str = "768",
    batch_size: int = 32,
    resize: str = "clean",
) -> np.ndarray:
    """Features `[N, C]` float32 of uint8 RGB images, in their order.

    `images` are `[H, W, 3]` or `[n, H, W, 3]` each, of any and of different sizes; generated images
    must be rounded to uint8 first, as they would be saved. They become 299x299 by `resize` (one of
    the table above, which also sets the input range of an Inception), pass `net` in full float32
    precision, and a layer that is a map is averaged over its pixels. A UserError for other arrays,
    no arrays at all, an unknown layer or `resize`.
    """
    features = list(stream(net, images, layer=layer, batch_size=batch_size, resize=resize))
    if not features:
        raise UserError("there are no pictures to take features of; give at least one")
    return np.concatenate(features)


def stream(
    net: nnx.Module,
    images: Iterable[np.ndarray],
    *,
    layer: str = "768",
    batch_size: int = 32,
    resize: str = "clean",
) -> Iterator[np.ndarray]:
    """As `extract`, batch by batch `[n, C]`, for sets too large to hold (see `Statistics`)."""
    if resize not in NORMALISE:
        hint = did_you_mean(resize, NORMALISE)
        raise UserError(f"resize is {resize!r}{hint}; allowed: {', '.join(NORMALISE)}")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; needs at least 1")
    graph, state = nnx.split(net)
    waiting: tuple[jax.Array, int] | None = None
    for batch in _batches(images, batch_size):
        pixels = _to_input_size(batch, batch_size, resize)
        features = _forward()(graph, state, pixels, layer, resize)
        # The device works on this batch while the host waits for the one before.
        if waiting is not None:
            yield np.asarray(waiting[0])[: waiting[1]]
        waiting = features, len(batch)
    if waiting is not None:
        yield np.asarray(waiting[0])[: waiting[1]]


def _batches(images: Iterable[np.ndarray], batch_size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for array in images:
        array = np.asarray(array)
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise UserError(
                f"images must be uint8 [H, W, 3] or [N, H, W, 3], not {array.dtype} {array.shape}; "
                "convert pictures to RGB and round generated ones to 0..255 first"
            )
        for image in array if array.ndim == 4 else array[None]:
            batch.append(image)
            if len(batch) == batch_size:
                yield batch
                batch = []
    if batch:
        yield batch


def _to_input_size(batch: list[np.ndarray], batch_size: int, mode: str) -> jax.Array:
    """`[batch_size, 299, 299, 3]` in 0..255, the last image repeated to fill the batch.

    A batch of one size is resized at once; in a mixed one each image goes alone, so that there is
    one program for each size and not one for each mixture.
    """
    full = batch + [batch[-1]] * (batch_size - len(batch))
    if len({image.shape for image in batch}) == 1:
        return _resize(np.stack(full), mode)
    resized = [_resize(image[None], mode) for image in batch]
    return jnp.concatenate(resized + [resized[-1]] * (batch_size - len(batch)))


@functools.partial(jax.jit, static_argnums=1)
def _resize(images: jax.Array, mode: str) -> jax.Array:
    """uint8 `[B, H, W, 3]` -> float32 `[B, 299, 299, 3]` in 0..255 by one of the conventions."""
    x = images.astype(jnp.float32)
    shape = (x.shape[0], SIDE, SIDE, 3)
    if mode == "clean":
        return jnp.clip(jax.image.resize(x, shape, "cubic", antialias=True), 0, 255)
    if mode == "pytorch":
        return jax.image.resize(x, shape, "bilinear", antialias=False)
    return _lerp(_lerp(x, 2), 1)


def _lerp(x: jax.Array, axis: int) -> jax.Array:
    """TensorFlow 1's `ResizeBilinear` along one axis: the source of pixel i is i * in / out."""
    size = x.shape[axis]
    at = np.arange(SIDE, dtype=np.float32) * np.float32(size / SIDE)
    low = np.minimum(np.floor(at).astype(np.int32), size - 1)
    high = np.minimum(low + 1, size - 1)
    first, second = jnp.take(x, low, axis=axis), jnp.take(x, high, axis=axis)
    weight = np.expand_dims((at - low).astype(np.float32), [i for i in range(x.ndim) if i != axis])
    return first + (second - first) * weight


@functools.cache
def _forward():
    """The jitted network; a function, since finding the compiler options starts the backend."""

    def forward(graph, state, pixels, layer, resize):
        net = nnx.merge(graph, state)
        if isinstance(net, inception.Inception):
            net.options = inception.Options(NORMALISE[resize], net.options.missing)
        # The default precision of GPUs (TF32) and TPUs (bfloat16) would change the metric.
        with jax.default_matmul_precision("highest"):
            features = net(pixels / 127.5 - 1, (layer,))[layer]
        return features if features.ndim == 2 else features.mean(axis=(1, 2))

    return ops.jit(forward, static_argnums=(0, 3, 4))
