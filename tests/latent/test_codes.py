"""Latents by seed and by file, and the texts that name them."""

from types import SimpleNamespace

import numpy as np
import pytest

from artifygan_jax.errors import UserError
from artifygan_jax.latent import codes

NET = SimpleNamespace(
    options=SimpleNamespace(z_size=4, w_size=3, labels=0),
    num_ws=6,
    noise_sides={"b4/conv1": 4, "b8/conv0": 8},
)
CLASSES = SimpleNamespace(
    options=SimpleNamespace(z_size=4, w_size=3, labels=3), num_ws=6, noise_sides={}
)


def test_ranges_keep_their_order():
    assert codes.parse_range("0-3,7, 2", "--seeds") == [0, 1, 2, 3, 7, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no number"),
        ("a", "'a' is no number"),
        ("1,,2", "'' is no number"),
        ("-1", "'-1' is no number"),
        ("1.5", "no number and no range"),
        ("5-3", "range 5-3 runs backwards"),
        ("4294967296", "above 4294967295"),
        ("0-100000", "more than 100000"),
        ("٣", "no number"),
    ],
)
def test_a_text_that_is_no_range_is_one_line(text, words):
    with pytest.raises(UserError, match=words):
        codes.parse_range(text, "--seeds")


def test_layers_are_sorted_once_each_and_of_the_net():
    assert codes.parse_layers("4,1-2,1", 6) == [1, 2, 4]
    assert codes.parse_layers(None, 3) == [0, 1, 2]
    with pytest.raises(UserError, match="layers 0-5"):
        codes.parse_layers("0-6", 6)


def test_strengths_are_finite_numbers():
    assert codes.parse_numbers("-3,0,1.5", "--strength") == [-3, 0, 1.5]
    for text in ("", "1,x", "nan", "1,inf"):
        with pytest.raises(UserError, match="such as -3,0,3"):
            codes.parse_numbers(text, "--strength")


def test_a_seed_is_what_it_is_for_nvidia():
    found = codes.by_seed([7, 0], NET.options)
    assert found.names == ("seed0007", "seed0000") and found.labels is None
    wanted = np.random.RandomState(7).randn(1, 4).astype(np.float32)
    assert np.array_equal(found.z[:1], wanted)


def test_classes_are_one_for_all_or_one_for_each():
    one = codes.by_seed([0, 1], CLASSES.options, "2")
    assert one.labels.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert codes.by_seed([0, 1], CLASSES.options, "2,0").labels.argmax(1).tolist() == [2, 0]
    for labels, words in (
        (None, "give --labels=0 to 2"),
        ("3", "0-2"),
        ("0,1,2", "3 classes for 2"),
    ):
        with pytest.raises(UserError, match=words):
            codes.by_seed([0, 1], CLASSES.options, labels)
    with pytest.raises(UserError, match="knows no classes"):
        codes.by_seed([0], NET.options, "0")


def test_a_file_of_z_or_ws_is_read(tmp_path):
    np.savez(tmp_path / "z.npz", z=np.ones((2, 4)))
    found = codes.read(tmp_path / "z.npz", NET)
    assert found.names == ("z0000", "z0001") and found.z.dtype == np.float32
    maps = {"noise/b4/conv1": np.zeros((1, 4, 4)), "noise/b8/conv0": np.ones((1, 8, 8))}
    np.savez(tmp_path / "face.npz", w=np.ones((1, 6, 3)), **maps)
    found = codes.read(tmp_path / "face.npz", NET)
    assert found.names == ("face",) and found.ws.shape == (1, 6, 3)
    assert set(found.maps) == {"b4/conv1", "b8/conv0"}
    np.savez(tmp_path / "c.npz", z=np.ones((2, 4)), labels=np.array([2, 0]))
    assert codes.read(tmp_path / "c.npz", CLASSES).labels.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_a_folder_of_files_is_all_of_them(tmp_path):
    for n, name in enumerate("ba"):
        np.savez(tmp_path / f"{name}.npz", ws=np.full((1, 6, 3), n))
    found = codes.read(tmp_path, NET)
    assert found.names == ("a", "b") and found.ws[:, 0, 0].tolist() == [1, 0]
    np.savez(tmp_path / "c.npz", z=np.ones((1, 4)))
    with pytest.raises(UserError, match="different arrays"):
        codes.read(tmp_path, NET)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (dict(z=np.ones((2, 5))), r"z is \[2, 5\]; this model takes \[N, 4\]"),
        (dict(z=np.ones(4)), r"z is \[4\]"),
        (dict(z=np.ones((0, 4))), r"z is \[0, 4\]"),
        (dict(ws=np.ones((1, 8, 3))), r"ws is \[1, 8, 3\]; this model takes \[N, 6, 3\]"),
        (dict(z=np.ones((1, 4)), ws=np.ones((1, 6, 3))), "both z and ws"),
        (dict(x=np.ones(2)), "x and neither z nor ws"),
        (dict(z=np.full((1, 4), np.nan)), "NaN"),
        (dict(z=np.full((1, 4), 1j)), "no real numbers"),
        ({"ws": np.ones((1, 6, 3)), "noise/b4/conv1": np.ones((2, 4, 4))}, r"takes \[1, 4, 4\]"),
        ({"ws": np.ones((1, 6, 3)), "noise/b4/conv1": np.ones((1, 4, 4))}, "other layers"),
    ],
)
def test_latents_that_do_not_fit_are_one_line(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=words):
        codes.read(tmp_path / "x.npz", NET)


def test_labels_that_lack_or_do_not_fit_are_named(tmp_path):
    for labels, words in ((None, "no labels"), ([3], "0-2"), ([[1.0, 0.0]], r"takes \[1, 3\]")):
        extra = {} if labels is None else {"labels": np.array(labels)}
        np.savez(tmp_path / "x.npz", z=np.ones((1, 4)), **extra)
        with pytest.raises(UserError, match=words):
            codes.read(tmp_path / "x.npz", CLASSES)


def test_places_without_latents_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        codes.read(tmp_path / "none.npz", NET)
    with pytest.raises(UserError, match=r"no \.npz file"):
        codes.read(tmp_path, NET)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match="damaged"):
        codes.read(tmp_path / "x.npz", NET)


def test_the_way_on_the_sphere_has_even_angles():
    a, b = np.array([2.0, 0.0]), np.array([0.0, 4.0])
    found = codes.slerp(a, b, np.array([0, 1 / 3, 1]))
    np.testing.assert_allclose(found[[0, 2]], [a, b], atol=1e-6)
    assert np.degrees(np.arctan2(*found[1, ::-1])) == pytest.approx(30, abs=1e-4)
    assert np.linalg.norm(found[1]) == pytest.approx(2 + 2 / 3, abs=1e-5)
    for other in (a, -a, np.zeros(2)):
        assert np.isfinite(codes.slerp(a, other, np.linspace(0, 1, 5))).all()
