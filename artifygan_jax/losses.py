"""Losses as pure functions of arrays. Per-example results `[B]` unless said; the caller reduces."""

import jax
import jax.numpy as jnp


def bce(logits: jax.Array, label: float) -> jax.Array:
    """Binary cross-entropy of a logit map `[B, ...]` against a constant label, mean per example.

    The log-loss of GANs (arXiv:1406.2661), from logits: equals torch's BCE of the sigmoid, but stays
    finite where that saturates (torch clamps the logarithm at -100).
    """
    x = logits.astype(jnp.float32)
    loss = jax.nn.softplus(x) - label * x
    return loss.reshape(len(x), -1).mean(1)


def lsgan(logits: jax.Array, label: float) -> jax.Array:
    """Squared distance of the map to a constant label (LSGAN, arXiv:1611.04076), mean per example."""
    x = logits.astype(jnp.float32)
    return jnp.square(x - label).reshape(len(x), -1).mean(1)


def feature_l1(a: jax.Array, b: jax.Array, reduction: str) -> jax.Array:
    """Scalar L1 between two arrays of features: their "mean", or their "sum" over batch and all.

    CartoonGAN (CVPR 2018, Eq. 5) takes the norm of a difference of VGG maps; its authors average.
    The published ArtifyGAN sums, which its content weight of 1e-5 belongs to.
    """
    difference = jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32))
    return difference.sum() if reduction == "sum" else difference.mean()
