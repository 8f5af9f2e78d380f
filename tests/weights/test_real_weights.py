"""The real CartoonGAN weights, converted: against torch, and against the pictures published."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from artifygan_jax import bundle, convert, inference
from artifygan_jax.weights import readers
from tests.conftest import ROOT, shared
from tests.nets.test_cartoongan import cartoongan_oracle

sys.path.append(str(ROOT / "bench"))
import hayao

# Prints the peak of the process's memory above what it had before, in MiB, and the CPU time.
CONVERT = """
import pathlib, sys, time
import jax
from artifygan_jax import convert
jax.numpy.zeros(1).block_until_ready()
status = lambda: dict(x.split(":", 1) for x in pathlib.Path("/proc/self/status").read_text().splitlines())
mib = lambda key: int(status()[key].split()[0]) / 1024
before, start = mib("VmRSS"), time.process_time()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
convert.convert("cartoongan", sys.argv[1], sys.argv[2])
print(mib("VmHWM") - before, time.process_time() - start)
"""


@pytest.fixture(scope="module")
def hayao_bundle(tmp_path_factory):
    source = shared("data", "weights", "cartoongan_hayao.pth")
    where = tmp_path_factory.mktemp("models") / "hayao"
    convert.convert("cartoongan", str(source), str(where), licence="MIT")
    return where


def references(*names):
    archive = shared("data", "reference_pairs.zip")
    return {name: (photo, out) for name, photo, out in hayao.pairs(archive) if name in names}


def torch_cartoon(torch, photo):
    """RGB float in [-1, 1] of uint8 RGB by torch in float64 from the file's own arrays."""
    arrays = readers.read(shared("data", "weights", "cartoongan_hayao.pth"))
    weights = {name: torch.tensor(x.astype(np.float64)) for name, x in arrays.items()}
    bgr = torch.tensor(photo[None, :, :, ::-1] / 127.5 - 1).permute(0, 3, 1, 2)
    return cartoongan_oracle(torch, weights, bgr, 8, "full").permute(0, 2, 3, 1).numpy()[..., ::-1]


def test_the_bundle_says_what_it_was_made_of(hayao_bundle):
    net, card = bundle.load(hayao_bundle)
    source = shared("data", "weights", "cartoongan_hayao.pth")
    assert card["source_sha256"] == readers.digest(source) and card["licence"] == "MIT"
    assert card["parameters"] == 11_129_667 and card["channels"] == "BGR"
    assert (net.options.channels, net.options.blocks, net.options.decoder) == (64, 8, "full")


def test_a_photo_becomes_what_torch_makes_of_it(hayao_bundle):
    torch = pytest.importorskip("torch")
    ((photo, _),) = references("7--136.jpg").values()
    photo = photo[40:88, 60:124]  # 48x64, multiples of 4: nothing is padded
    expected = torch_cartoon(torch, photo)
    found = inference.load(hayao_bundle)(photo[None].astype(np.float32) / 127.5 - 1)
    assert np.abs(found - expected).max() <= 1e-4 and expected.std() > 0.1


def test_the_weights_come_back_as_the_file_that_they_were(hayao_bundle, tmp_path):
    source = readers.read(shared("data", "weights", "cartoongan_hayao.pth"))
    convert.export(str(hayao_bundle), str(tmp_path / "h.pth"), dtype="float16")
    found = readers.read(tmp_path / "h.pth")
    assert set(found) == set(source)
    for name, x in source.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


@pytest.mark.slow
def test_pictures_are_those_published_as_closely_as_jpegs_allow(hayao_bundle):
    draw = hayao.net_alone(bundle.load(hayao_bundle)[0])
    for name, (photo, published) in references("7--136.jpg", "in2.png").items():
        how = hayao.FILTERS[name[-3:]]
        found = hayao.difference(draw(hayao.resized(photo, how)), published)
        assert found <= hayao.LIMITS[name[-3:]], f"{name}: {found}"


@pytest.mark.slow
@pytest.mark.skipif(
    not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"
)
def test_converting_45_mb_needs_ten_seconds_and_four_times_its_size_at_most(hayao_bundle, tmp_path):
    convert.export(str(hayao_bundle), str(tmp_path / "h.pth"))
    size = (tmp_path / "h.pth").stat().st_size / 2**20
    assert 42 < size < 45
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, tmp_path / "h.pth", tmp_path / "out"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    memory, seconds = map(float, done.stdout.split())
    print(f"{size:.1f} MiB: {memory:.0f} MiB above the start, {seconds:.1f} s of CPU time")
    assert size < memory <= 4 * size and seconds <= 10
