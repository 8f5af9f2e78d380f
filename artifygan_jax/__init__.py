"""Photo-to-cartoon GANs in JAX."""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, found late: importing the package must not import jax."""
    if name == "load":
        from artifygan_jax.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
