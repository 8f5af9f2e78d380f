"""Test set-up: eight CPU devices, a persistent compilation cache, no network, the shared folder."""

import os
import pathlib
import socket

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent
SHARED = pathlib.Path(os.environ.get("ARTIFYGAN_SHARED", ROOT.parent / "shared"))

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_numpy_rank_promotion", "raise")


def shared(*parts: str) -> pathlib.Path:
    """A file of the shared folder; the test skips with a reason where it is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs ARTIFYGAN_SHARED: {'/'.join(parts)} is not there")
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every connection but to this machine's loopback is an error."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
