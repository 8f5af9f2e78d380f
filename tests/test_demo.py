"""The demo, shrunk by flags: what it promises, and that running it again goes on."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from artifygan_jax import bundle, cli, demo
from artifygan_jax.errors import UserError

PROMISED = {
    "steps",
    "resumed_from",
    "images_per_s",
    "distance",
    "distance_before",
    "distance_after",
    "distance_of_photos",
    "fall",
    "diversity",
    "grid",
    "stylised",
    "model",
}


def flags(workdir, steps):
    small = {
        "steps": steps,
        "checkpoint_every": 2,
        "log_every": 2,
        "method.generator.channels": 4,
        "method.generator.blocks": 1,
        "method.discriminator.channels": 4,
        "method.content_steps": 2,
        "data.photo.size": 32,
        "data.cartoon.size": 32,
        "evals.samples.count": 3,
        "evals.samples.size": 32,
        "evals.samples.every": 2,
        "evals.random_vgg_frechet.count": 5,
        "evals.random_vgg_frechet.size": 32,
        "evals.random_vgg_frechet.every": 2,
        "evals.random_vgg_frechet.content.options": '{"channels": 4}',
    }
    return [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in small.items())]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(summary, code, workdir) of one demo of four steps."""
    pytest.importorskip("skimage")
    workdir = tmp_path_factory.mktemp("demo") / "run"
    return *demo.main(flags(workdir, 4)), workdir


def test_the_demo_has_the_keys_it_promises_and_they_are_json(done):
    summary, code, _ = done
    assert code == cli.DONE and set(summary) == PROMISED
    assert json.loads(json.dumps(summary)) == summary
    assert summary["steps"] == 4 and summary["resumed_from"] is None


def test_its_numbers_are_those_of_the_log_from_first_to_last(done):
    summary, _, workdir = done
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    found = {e["step"]: e for e in lines if "random_vgg_frechet/distance" in e}
    assert list(found) == [0, 2, 4]
    before, after = (found[k]["random_vgg_frechet/distance"] for k in (0, 4))
    assert summary["distance_before"] == round(before, 4) != summary["distance_after"]
    assert summary["distance_after"] == round(after, 4)
    assert summary["fall"] == round(1 - after / before, 3)
    assert summary["distance_of_photos"] > 0


def test_it_writes_the_last_grid_the_model_and_the_photo_at_full_size(done):
    from skimage.data import astronaut

    summary, _, workdir = done
    assert pathlib.Path(summary["grid"]) == workdir / "samples" / "0000004.png"
    assert bundle.read_card(pathlib.Path(summary["model"]))["trained"]["step"] == 4
    picture = np.asarray(Image.open(summary["stylised"]))
    assert picture.shape == (512, 512, 3) and (picture != astronaut()).any()


def test_run_again_it_says_that_it_resumes_and_gives_the_same_numbers(done, capsys):
    summary, _, workdir = done
    again, code = demo.main(flags(workdir, 4))
    assert code == cli.DONE and "resuming at step 4 of 4" in capsys.readouterr().err
    assert again.pop("resumed_from") == 4 and again.pop("images_per_s") is None
    assert again == {k: v for k, v in summary.items() if k in again}


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary, code = demo.main(["--dry_run", *flags(tmp_path / "run", 4)])
    assert code == cli.DONE and summary["parameters"]["g"] > 0
    assert not (tmp_path / "run").exists()


def test_a_wrong_flag_is_named_with_a_suggestion(tmp_path):
    with pytest.raises(UserError, match="did you mean 'steps'"):
        demo.main([f"--workdir={tmp_path / 'run'}", "--config.stesp=4"])
    with pytest.raises(UserError, match="--workdir=FOLDER is required"):
        demo.main([])


def test_help_says_how_to_run_it(capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(["--help"])
    assert stop.value.code == 0
    assert "python -m artifygan_jax.demo --workdir" in capsys.readouterr().out
