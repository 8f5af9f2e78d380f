"""What happens to a batch on the device: uint8 to float, random crops and flips."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def to_float(x: jax.Array, dtype=jnp.float32) -> jax.Array:
    """uint8 [0, 255] to [-1, 1]."""
    return (x.astype(jnp.float32) / 127.5 - 1.0).astype(dtype)


def to_uint8(x: jax.Array) -> jax.Array:
    """[-1, 1] to uint8 [0, 255], rounded and clipped."""
    return jnp.clip(jnp.round((x.astype(jnp.float32) + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def crop_and_flip(x: jax.Array, key: jax.Array, crop: int, flip: bool) -> jax.Array:
    """A random `crop` x `crop` window of each picture of `x` (0: all), mirrored in half the cases."""
    k_row, k_column, k_flip = jax.random.split(key, 3)
    b, h, w, c = x.shape
    if crop and (crop < h or crop < w):
        rows = jax.random.randint(k_row, (b,), 0, h - crop + 1)
        columns = jax.random.randint(k_column, (b,), 0, w - crop + 1)
        size = (crop, crop, c)
        x = jax.vmap(lambda im, i, j: jax.lax.dynamic_slice(im, (i, j, 0), size))(x, rows, columns)
    if flip:
        mirrored = jax.random.bernoulli(k_flip, 0.5, (b, 1, 1, 1))
        x = jnp.where(mirrored, x[:, :, ::-1], x)
    return x


def prepare(batch: Mapping[str, jax.Array], key: jax.Array, streams, dtype) -> dict[str, jax.Array]:
    """The uint8 batch as the losses take it: each stream cropped and flipped by its own draw.

    A stream with `of` (a twin) shares the draw of the stream that it belongs to. What is no picture is
    left as it is.
    """
    names = sorted(streams)
    out = {}
    for name in names:
        if batch[name].dtype != jnp.uint8:
            out[name] = batch[name]
            continue
        leader = getattr(streams[name], "of", name)
        spec = streams[leader]
        draw = jax.random.fold_in(key, names.index(leader))
        out[name] = to_float(crop_and_flip(batch[name], draw, spec.crop, spec.flip), dtype)
    return out
