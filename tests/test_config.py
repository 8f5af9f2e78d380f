"""Configs: how they are found, written down, and compared when a run goes on."""

import dataclasses
import json

import pytest

from artifygan_jax import config
from artifygan_jax.config import check_resume, describe, find, flatten
from artifygan_jax.data.faces import Faces
from artifygan_jax.errors import UserError
from tests.conftest import ROOT
from tests.test_train import get_config

DEMO = str(ROOT / "configs" / "demo.py")


@pytest.mark.parametrize("name", ["demo", "configs/demo.py", "demo.py", "configs/demo", DEMO])
def test_a_config_is_found_by_path_and_by_bare_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(name) == DEMO


def test_the_variant_stays_with_the_name():
    assert find("artifygan:half").endswith("configs/artifygan.py:half")
    assert find(f"{DEMO}:x") == f"{DEMO}:x"


def test_a_file_of_the_user_goes_before_a_name_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.py").write_text("")
    assert find("demo.py") == "demo.py"
    assert find("demo") == DEMO


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dmeo", "no config at 'dmeo' .did you mean 'demo'"),
        ("elsewhere/demo.py", "no config at 'elsewhere/demo.py'.*a name of animegan"),
        ("zzz:half", "no config at 'zzz': give a file, or a name of"),
    ],
)
def test_an_unknown_config_is_named_with_the_known_ones(name, words):
    with pytest.raises(UserError, match=words):
        find(name)


@dataclasses.dataclass
class Inner:
    sizes: tuple = (1, 2)
    name: str = "n"


@dataclasses.dataclass
class Outer:
    inner: Inner = dataclasses.field(default_factory=Inner)
    table: dict = dataclasses.field(default_factory=lambda: {"a": [Inner()], 3: None})
    rate: float = 0.1


def test_a_description_is_json_that_names_every_class():
    inner = {"type": "Inner", "sizes": [1, 2], "name": "n"}
    expected = {"type": "Outer", "inner": inner, "table": {"a": [inner], "3": None}, "rate": 0.1}
    assert describe(Outer()) == expected
    assert json.loads(json.dumps(expected)) == describe(Outer())


def test_every_config_of_ours_survives_json():
    for name in ("demo", "artifygan", "artifygan_asrun", "cartoongan"):
        described = describe(get_config(name))
        assert json.loads(json.dumps(described)) == described
        assert described["type"] == "Experiment"


def test_flattening_gives_every_leaf_by_its_path():
    tree = {"a": {"b": [1, {"c": 2}]}, "d": None, "e": [], "f": {}}
    assert flatten(tree) == {"a.b.0": 1, "a.b.1.c": 2, "d": None}


def changed(**edits):
    """(old, new): the demo's description, and it with `edits` such as optim__g__lr=1."""
    cfg = get_config("demo")
    old = describe(cfg)
    for path, value in edits.items():
        *parents, last = path.split("__")
        node = cfg
        for name in parents:
            node = node[name] if isinstance(node, dict) else getattr(node, name)
        if isinstance(node, dict):
            node[last] = value
        else:
            setattr(node, last, value)
    return old, describe(cfg)


def test_an_unchanged_config_goes_on_without_a_word():
    assert check_resume(*changed(), override=False) == []


def test_free_fields_change_without_a_word():
    edits = {"steps": 9, "checkpoint_every": 7, "log_every": 3, "keep": 5, "best": "x"}
    assert check_resume(*changed(**edits, evals={}), override=False) == []
    assert check_resume(*changed(evals__samples__every=3), override=False) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optim.g.lr", 0.125),
        ("method.content_weight", 0.125),
        ("optim.g.freeze.0", "stem/.*"),
        ("dtype", "bfloat16"),
    ],
)
def test_other_fields_need_the_override_and_are_then_listed(path, value):
    edited = (path.removesuffix(".0"), (value,)) if path.endswith(".0") else (path, value)
    old, new = changed(**{edited[0].replace(".", "__"): edited[1]})
    line = f"{path}: {json.dumps(flatten(old).get(path))} -> {json.dumps(value)}"
    with pytest.raises(UserError, match="--resume_override") as error:
        check_resume(old, new, override=False)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert check_resume(old, new, override=True) == [line]


@pytest.mark.parametrize(
    "edits",
    [
        {"seed": 1},
        {"batch_size": 4},
        {"method__generator__channels": 4},
        {"method__discriminator__norm": "batch"},
        {"data__photo__crop": 32},
        {"data__photo__source": Faces("photo", 400, seed=9, size=64)},
        {"data__extra": Faces("photo", 4, seed=9, size=64)},
    ],
)
def test_another_architecture_data_or_seed_is_refused_even_with_the_override(edits):
    with pytest.raises(UserError, match="cannot go on.*new --workdir, or --restart") as error:
        check_resume(*changed(**edits), override=True)
    assert ".".join(next(iter(edits)).split("__")) in str(error.value)


def test_every_value_that_cannot_be_is_named_at_once():
    cfg = get_config("demo")
    cfg.check()
    cfg.steps, cfg.keep, cfg.dtype = 0, -1, "half"
    words = "steps is 0, .*keep is -1, .*dtype is 'half', allowed are auto, float32, bfloat16"
    with pytest.raises(UserError, match=words):
        cfg.check()


def test_the_fields_that_later_work_relies_on_are_there():
    fields = {f.name for f in dataclasses.fields(config.Experiment)}
    wanted = {"steps", "batch_size", "checkpoint_every", "method", "data", "optim", "evals"}
    assert wanted <= fields
