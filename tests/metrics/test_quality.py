"""The measures of a comparison at the checkpoints of a run."""

import logging

import numpy as np
import pytest

from artifygan_jax import bundle, load, train
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.errors import UserError
from artifygan_jax.metrics import features
from artifygan_jax.metrics.evals import pictures_of
from artifygan_jax.metrics.latents import GeneratedQuality
from artifygan_jax.metrics.quality import Quality, likeness
from tests.metrics import tiny
from tests.shrink import PX
from tests.test_train import lines, small


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))
    tiny.folder(tmp_path / "photos", range(8))
    tiny.folder(tmp_path / "cartoons", range(20, 30))
    network = str(tiny.network(tmp_path / "network"))

    def quality(**options):
        return Quality(
            Pictures(str(tmp_path / "photos")),
            Pictures(str(tmp_path / "cartoons")),
            **{"inception": network, "layer": tiny.LAYER, "size": 24} | options,
        )

    return quality


def test_numbers_are_those_of_outputs_beside_cartoons(made, tmp_path):
    quality = made()
    same = dict(quality.run(lambda x: x, 0, tmp_path))
    names = {"fd", "kid", "kid_error", "precision", "recall", "density", "coverage", "seconds"}
    assert same.keys() == names
    black = dict(quality.run(np.zeros_like, 1, tmp_path))
    assert black["fd"] > same["fd"] and black["coverage"] <= same["coverage"]
    own = Quality(quality.cartoons, quality.cartoons, quality.inception, tiny.LAYER, size=24)
    perfect = dict(own.run(lambda x: x, 0, tmp_path))
    assert perfect["fd"] == pytest.approx(0, abs=1e-6 * max(1, same["fd"]))
    assert perfect["coverage"] == perfect["recall"] == 1


def test_features_of_the_cartoons_are_computed_once_for_all_runs(made, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = dict(made().run(lambda x: x, 0, tmp_path))
        assert "measured before" not in caplog.text
        second = dict(made().run(lambda x: x, 0, tmp_path))
    assert "measured before" in caplog.text
    assert caplog.text.count("quality of 8 outputs at step 0 in") == 2
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        k: v for k, v in second.items() if k != "seconds"
    }


def test_generated_pictures_have_the_same_numbers_and_an_optional_network_may_be_missing(
    made, tmp_path, caplog
):
    quality, drawn = made(), iter(range(0, 40, 2))

    def generate(z):
        assert z.shape == (16, 4) and z.dtype == np.float32
        values = np.array([next(drawn) % 10 for _ in z])
        return pictures[values]

    pictures = pictures_of(quality.cartoons, 10, 24)
    options = dict(layer=tiny.LAYER, count=10, size=24, z_size=4)
    found = GeneratedQuality(quality.cartoons, quality.inception, **options)
    numbers = dict(found.run(generate, 0, tmp_path))
    twice = [i % 10 for i in range(0, 20, 2)]
    wanted = features.extract(found.extractor.net, pictures[twice], layer=tiny.LAYER)
    for name, value in likeness(wanted, found.reference, tiny.LAYER):
        assert numbers[name] == pytest.approx(value, rel=1e-5), name
    assert numbers.keys() - {"seconds"} >= {"fd", "kid", "recall"} and numbers["recall"] < 1
    missing = GeneratedQuality(quality.cartoons, "?inception", **options)
    assert (
        list(missing.run(generate, 0, tmp_path)) == list(missing.run(generate, 1, tmp_path)) == []
    )
    assert caplog.text.count("no FID in this run: no model bundle at 'inception'") == 1
    with pytest.raises(UserError, match="no model bundle at 'inception'"):
        list(GeneratedQuality(quality.cartoons, "inception").run(generate, 0, tmp_path))


def test_lpips_without_a_backbone_is_refused(made, tmp_path):
    with pytest.raises(UserError, match="lpips is 'lpips_squeeze', wanted HEAD:BACKBONE"):
        list(made(lpips="lpips_squeeze").run(lambda x: x, 0, tmp_path))


def test_a_run_logs_the_measures_of_its_averaged_nets_and_keeps_the_best(tmp_path, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))
    cfg = small(steps=4, checkpoint_every=2)
    quality = Quality(
        *(Faces(domain, 6, 5, PX) for domain in ("photo", "cartoon")),
        inception=str(tiny.network(tmp_path / "network")),
        layer=tiny.LAYER,
        every=2,
        size=PX,
    )
    cfg.evals, cfg.best = {"quality": quality}, "quality/fd"
    train.run(cfg, tmp_path / "run", devices=1)
    rows = [line for line in lines(tmp_path / "run") if cfg.best in line]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert all(row["quality/seconds"] > 0 and "quality/coverage" in row for row in rows)
    best = min(rows[1:], key=lambda row: row[cfg.best])
    trained = bundle.read_card(tmp_path / "run" / "best")["trained"]
    assert trained["step"] == best["step"]
    net = load(tmp_path / "run" / "best")

    def averaged(pictures):
        return np.rint((net(pictures.astype(np.float32) / 127.5 - 1) + 1) * 127.5).astype(np.uint8)

    again = dict(quality.run(averaged, 4, tmp_path))
    assert again["fd"] == pytest.approx(best[cfg.best], rel=0.02)  # pictures may round otherwise
