"""Directions: those of the weights, those of files, and walking along them."""

import numpy as np
import pytest

from artifygan_jax.errors import UserError
from artifygan_jax.latent import directions
from tests.latent import nets


@pytest.fixture(scope="module")
def renderer():
    return nets.renderer()


def kernels(renderer, *names):
    s = renderer.net.synthesis
    parts = [getattr(getattr(s, block), layer) for block, layer in names]
    return np.concatenate([np.asarray(p.affine.kernel[...]) for p in parts], axis=1).astype(float)


def test_sefa_maximises_what_styles_move(renderer):
    a = kernels(renderer, ("b4", "conv1"), ("b8", "conv0"))
    a /= np.linalg.norm(a, axis=0)
    found, values = directions.sefa(renderer.net, [0, 1])
    np.testing.assert_allclose(found @ found.T, np.eye(16), atol=1e-5)
    np.testing.assert_allclose((np.square(found @ a)).sum(1), values, rtol=1e-4, atol=1e-5)
    assert (np.diff(values) <= 1e-6).all()
    strongest = np.linalg.svd(a)[1][0] ** 2
    assert values[0] == pytest.approx(strongest, rel=1e-5)
    assert (np.take_along_axis(found, np.abs(found).argmax(1)[:, None], 1) > 0).all()


def test_the_last_code_is_the_last_step_to_rgb(renderer):
    last = kernels(renderer, ("b16", "conv1"), ("b16", "rgb"))
    assert np.array_equal(directions.affine(renderer.net, [4, 5]), last.astype(np.float32))


def test_svd_takes_raw_kernels_of_convolutions_and_the_first_step_to_rgb(renderer):
    names = [("b4", "conv1"), ("b8", "conv0"), ("b8", "conv1"), ("b16", "conv0"), ("b16", "conv1")]
    a = kernels(renderer, *names, ("b4", "rgb"))
    found, values = directions.svd(renderer.net)
    u, s, _ = np.linalg.svd(a)
    np.testing.assert_allclose(values, s**2, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(found[0] * u[:, 0])), 1, atol=1e-4)


def test_a_walk_moves_the_chosen_layers_alone():
    ws = np.zeros((2, 6, 3), np.float32)
    vector = np.array([[1.0, 2.0, 3.0]], np.float32)
    moved = directions.Direction(vector, (1, 4)).walk(ws, -2)
    assert np.array_equal(moved[:, [1, 4]], np.broadcast_to(-2 * vector, (2, 2, 3)))
    assert not moved[:, [0, 2, 3, 5]].any()
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    moved = directions.Direction(rows, (0, 5)).walk(ws, 1)
    assert np.array_equal(moved[0, 5], rows[5]) and not moved[:, 1:5].any()


def test_what_is_written_is_read_again_with_its_layers(renderer, tmp_path):
    file = tmp_path / "d.npz"
    summary = directions.write(renderer, str(file), count=3, layers="1-2")
    assert summary["done"] == 3 and summary["layers"] == [1, 2]
    found = directions.read(f"{file}:2", renderer)
    assert found.layers == (1, 2)
    wanted = directions.read("sefa:2", renderer, "1-2")
    assert np.array_equal(found.vectors, wanted.vectors) and wanted.layers == (1, 2)
    assert directions.read(f"{file}:2", renderer, "0").layers == (0,)
    with pytest.raises(UserError, match="--overwrite"):
        directions.write(renderer, str(file))
    with pytest.raises(UserError, match=f"{file}:0 to {file}:2"):
        directions.read(str(file), renderer)


@pytest.mark.parametrize("shape", [(16,), (1, 16), (6, 16), (1, 6, 16)])
def test_files_of_one_array_in_any_allowed_shape(renderer, tmp_path, shape):
    x = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "d.npy", x)
    np.savez(tmp_path / "d.npz", smile=x)
    for text in (tmp_path / "d.npy", tmp_path / "d.npz", f"{tmp_path / 'd.npz'}:smile"):
        found = directions.read(str(text), renderer)
        assert np.array_equal(found.vectors, np.float32(x).reshape(-1, 16)), text
        assert found.layers == tuple(range(6))


def test_a_torch_file_is_read(renderer, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.arange(16.0), tmp_path / "age.pt")
    torch.save({"age": torch.zeros(1, 16), "smile": torch.ones(1, 16)}, tmp_path / "all.pt")
    assert directions.read(str(tmp_path / "age.pt"), renderer).vectors[0, 3] == 3
    assert directions.read(f"{tmp_path / 'all.pt'}:smile", renderer).vectors.min() == 1


@pytest.mark.parametrize(
    ("shape", "came"),
    [((18, 16), r"\[18, 16\]"), ((8,), r"\[8\]"), ((2, 6, 16), r"\[2, 6, 16\]"), ((), r"\[\]")],
)
def test_a_direction_for_another_net_is_one_line(renderer, tmp_path, shape, came):
    np.save(tmp_path / "d.npy", np.ones(shape))
    words = (
        rf"is {came}: tiny0 has 6 layers of 16 numbers, and takes \[16\], \[1, 16\] or \[6, 16\]"
    )
    with pytest.raises(UserError, match=words):
        directions.read(str(tmp_path / "d.npy"), renderer)


def test_directions_of_a_net_with_more_layers_ask_for_layers(renderer, tmp_path):
    larger = nets.renderer(channels=(16, 16, 8, 8))
    directions.write(larger, str(tmp_path / "d.npz"), layers="6-7")
    with pytest.raises(UserError, match="for a net of 8 layers; tiny0 has 6"):
        directions.read(f"{tmp_path / 'd.npz'}:0", renderer)
    assert directions.read(f"{tmp_path / 'd.npz'}:0", renderer, "0-1").layers == (0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sefa:16", "sefa:0 to sefa:15"),
        ("sefa", "sefa:0 to"),
        ("svd:-1", "svd:0 to"),
        ("no/such.npy", "no such file; give a file or sefa:NUMBER"),
        ("smile", "no such file"),
    ],
)
def test_a_direction_that_is_none_is_one_line(renderer, text, words):
    with pytest.raises(UserError, match=words):
        directions.read(text, renderer)


def test_broken_files_are_one_line(renderer, tmp_path):
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00broken")
    with pytest.raises(UserError, match="damaged"):
        directions.read(str(tmp_path / "d.npy"), renderer)
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged or no"):
        directions.read(str(tmp_path / "o.npy"), renderer)
    np.savez(tmp_path / "d.npz", smile=np.ones(16), age=np.ones(16))
    with pytest.raises(UserError, match="did you mean 'smile'"):
        directions.read(f"{tmp_path / 'd.npz'}:smil", renderer)


def test_wrong_calls_of_write_are_one_line(renderer, tmp_path):
    with pytest.raises(UserError, match="ends in .npz"):
        directions.write(renderer, str(tmp_path / "d.pt"))
    with pytest.raises(UserError, match="give 1 to 16"):
        directions.write(renderer, str(tmp_path / "d.npz"), count=17)
