"""Boundaries are found where they are; edits along them change what they should and are measured."""

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from artifygan_jax import bundle, generate
from artifygan_jax.data import saving
from artifygan_jax.data.faces import Faces
from artifygan_jax.errors import UserError
from artifygan_jax.latent import attributes, moves
from artifygan_jax.latent.codes import by_seed
from artifygan_jax.latent.directions import Direction
from artifygan_jax.nets.attributes import Classifier, Options
from tests.latent import nets

NAMES = ("Smiling", "Young", "Eyeglasses", "Male")


def run(*argv):
    return generate.main([str(a) for a in argv])


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """A random classifier, whose logits are smooth in codes; few samples."""
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(attributes, "SAMPLES", 600)
    net = Classifier(Options((8, 8, 4), NAMES), rngs=nnx.Rngs(0))
    bundle.save(tmp_path / "judge", net)
    return attributes.Judge(str(tmp_path / "judge"))


def known(mixing=0.0):
    """Planes of two attributes, the second `mixing` of the first, in codes that are not round."""
    random = np.random.default_rng(0)
    w = random.normal(size=(4000, 6)) * [1, 2, 1, 1, 1, 0.5]
    a = np.array([1.0, 0, 0, 1, 0, 0])
    b = np.array([0, 0.5, 1, 0, 0, 0]) + mixing * a
    return w, np.stack([w @ a, w @ b], axis=1), a, b


def test_planes_are_found_and_kept_attributes_stay():
    w, logits, a, b = known(0.7)
    found = attributes.planes(("Smiling", "Young"), w, logits)
    for normal, wanted in zip(found.normals, (a, b), strict=True):
        assert normal @ wanted / np.linalg.norm(wanted) > 0.98
    assert (found.accuracy > 0.97).all()
    alone, kept = found.direction("Young", ()), found.direction("Young", ("Smiling",))
    assert abs(alone @ a) > 0.5 and abs(kept @ found.normals[0]) < 1e-5
    unit = kept / np.linalg.norm(kept)
    np.testing.assert_allclose(np.linalg.norm(kept), (w @ unit).std(), rtol=1e-3)
    twins = attributes.Boundaries(
        ("a", "b"), np.stack([a, a]).astype(np.float32), np.ones(2), np.eye(6)
    )
    with pytest.raises(UserError, match="cannot be moved while b stay"):
        twins.direction("a", ("b",))


def test_a_logistic_regression_is_the_one_of_the_textbook():
    """Its gradient is zero where it ends."""
    random = np.random.default_rng(1)
    x, y = random.normal(size=(200, 3)), random.integers(0, 2, 200).astype(float)
    beta = attributes.logistic(x, y, ridge=2.0)
    p = 1 / (1 + np.exp(-(x @ beta[:-1] + beta[-1])))
    np.testing.assert_allclose(x.T @ (p - y) + 2.0 * beta[:-1], 0, atol=1e-8)
    np.testing.assert_allclose((p - y).sum(), 0, atol=1e-4)


def test_boundaries_are_kept_and_raise_what_the_classifier_sees(judge):
    renderer = nets.renderer()
    said = []
    found = attributes.find(renderer, judge, said.append)
    again = attributes.find(renderer, judge, said.append)
    assert len(said) == 1 and (again.normals == found.normals).all()
    ws = renderer.ws(by_seed(range(40), renderer.options))
    every = tuple(range(renderer.num_ws))
    steps = {n: Direction(found.direction(n, ())[None], every) for n in NAMES}
    rows = attributes.measured(renderer, judge, ws, steps, 1.0, None)
    assert [row["attribute"] for row in rows] == list(NAMES)
    assert all(row["target"] > 0.2 and row["raised"] > 0.6 for row in rows), rows
    back = attributes.measured(renderer, judge, ws, steps, -1.0, None)
    assert all(row["target"] < -0.2 and row["raised"] > 0.6 for row in back), back
    assert "identity" not in rows[0]


def test_what_is_transferred_is_what_lies_along_the_basis():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 1, 10, 6)).astype(np.float32)
    basis = np.linalg.qr(random.normal(size=(6, 2)))[0].astype(np.float32)
    found = attributes.transferred(b, a, basis, 1.0)
    first = slice(0, attributes.SHAPE)
    np.testing.assert_allclose(found[:, first] @ basis, a[:, first] @ basis, atol=1e-5)
    rest = np.eye(6) - basis @ basis.T
    np.testing.assert_allclose(found @ rest, b @ rest, atol=1e-5)
    np.testing.assert_array_equal(found[:, attributes.SHAPE :], b[:, attributes.SHAPE :])
    np.testing.assert_array_equal(attributes.transferred(b, a, basis, 0.0), b)


def test_verbs_edit_transfer_animate_and_tell(judge, tmp_path):
    model = nets.saved(tmp_path / "faces")
    how = (f"--model={model}", f"--classifier={judge.where}")
    out = tmp_path / "edit"
    summary, _ = run(
        "edit",
        *how,
        "--seeds=0-3",
        "--attribute=Smiling",
        "--strength=-2,2",
        "--keep=none",
        f"--output={out}",
    )
    assert summary["done"] == 8 and abs(summary["target"]) > 0.4 and summary["measured_at"] == -2
    for i in range(2):
        Image.fromarray(Faces("photo", 2, 3, 64)[i]).save(tmp_path / f"{i}.png")
    pair = (f"--from={tmp_path / '0.png'}", f"--to={tmp_path / '1.png'}")
    more = ("--steps=2", "--perceptual=none", "--face=none")
    summary, _ = run("transfer", *how, *pair, *more, f"--output={tmp_path / 't'}")
    assert summary["attributes"] == ("Smiling",)
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == [
        "sheet.png",
        "transfer.npz",
        "transfer.png",
    ]
    film = tmp_path / "film.gif"
    argv = (
        "animate",
        *how,
        *more,
        f"--input={tmp_path / '0.png'}",
        "--frames=3",
        f"--output={film}",
    )
    summary, _ = run(*argv)
    with Image.open(film) as image:
        assert summary["frames"] == 12 and image.n_frames > 3
    assert saving.DIGITAL_SOURCE_TYPE.encode() in film.read_bytes()  # of a photo, not of a seed
    table = tmp_path / "t.md"
    summary, _ = run(
        "attributes",
        *how,
        "--seeds=0-9",
        "--attributes=Smiling,Young",
        "--keep=none",
        f"--output={table}",
    )
    assert summary["faces"] == 10 and [r["attribute"] for r in summary["rows"]] == [
        "Smiling",
        "Young",
    ]
    assert table.read_text().count("\n") == 4 and "| Smiling |" in table.read_text()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("edit", "--seeds=0", "--attribute=Smilling", "--output=o"), "did you mean 'Smiling'"),
        (
            ("edit", "--seeds=0", "--attribute=Young", "--keep=Mael", "--output=o"),
            "did you mean 'Male'",
        ),
        (("transfer", "--from=a", "--to=b", "--what=expresion", "--output=o"), "'expression'"),
        (("transfer", "--from=a", "--to=b", "--what=hat", "--output=o"), "knows none"),
        (("animate", "--seeds=0", "--output=o.avi"), "ends in .mp4 or .gif"),
        (("animate", "--seeds=0-1", "--output=o.gif"), "a film is of one face"),
        (("attributes", "--seeds=0-3", "--attributes=Old", "--output=o.md"), "no attribute 'Old'"),
        (("attributes", "--seeds=0-3", "--output=o.txt"), "ends in .md"),
        (("attributes", "--seeds=0", "--output=o.md"), "at least two"),
        (("transfer", "--from=nowhere", "--to=b", "--output=o"), "no such place"),
    ],
)
def test_a_wrong_call_is_one_line(judge, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    model = nets.saved(tmp_path / "faces")
    verb, *rest = argv
    with pytest.raises(UserError, match=words):
        run(verb, f"--model={model}", f"--classifier={judge.where}", *rest)
    assert not (tmp_path / "o").exists()


def test_a_classifier_of_other_things_is_a_line(tmp_path):
    with pytest.raises(UserError, match="wanted a classifier"):
        attributes.Judge(str(nets.saved(tmp_path / "faces")))
    assert moves.group("age", ("Young",)) == ("Young",)
