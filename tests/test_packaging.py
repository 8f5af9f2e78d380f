"""The wheel, the declared dependencies, the Makefile and .ci/run."""

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of this tree, built without a network by the hatchling that [test] installs."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--wheel-dir", folder]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True, stdin=subprocess.DEVNULL
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_the_configs_and_the_licence_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "artifygan_jax").rglob("*.py")}
    configs = {f"artifygan_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert "artifygan_jax/configs/demo.py" in configs
    assert package | configs <= names
    assert {name.split("/")[0] for name in names} == {"artifygan_jax"}
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())


@pytest.mark.smoke
def test_every_module_of_the_wheel_imports_where_there_is_no_torch_and_no_tensorflow(
    wheel, tmp_path
):
    """They are blocked, not looked for afterwards: tensorboardX takes torch where it finds it."""
    wheel.extractall(tmp_path)
    program = """
import importlib, pathlib, sys

class Blocked:  # None in sys.modules would do for torch, but tfds takes that for TensorFlow loaded
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "tensorflow"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
for path in sorted(pathlib.Path("artifygan_jax").rglob("*.py")):
    parts = path.with_suffix("").parts
    if "configs" not in parts and parts[-1] != "__main__":
        module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        assert pathlib.Path(module.__file__).is_relative_to(pathlib.Path.cwd()), module
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def _distribution(requirement: str) -> str:
    """`Orbax_Checkpoint[x]>=1` -> `orbax-checkpoint`."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_every_foreign_import_of_the_package_is_declared():
    extras = PROJECT["optional-dependencies"]
    optional = [extras[name] for name in ("prepare", "video", "serve", "report", "export")]
    declared = {_distribution(r) for r in sum(optional, PROJECT["dependencies"])}
    declared |= {"jaxlib", "artifygan-jax"}
    known = importlib.metadata.packages_distributions()
    undeclared = []
    for path in [*(ROOT / "artifygan_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for head in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                owners = {_distribution(d) for d in known.get(head, [head])}
                if head != "artifygan_jax" and not owners & declared:
                    undeclared.append(f"{path.relative_to(ROOT)} imports {head}")
    assert not undeclared, "\n".join(undeclared)


def test_pythons_and_torch_are_pinned_as_promised():
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert PROJECT["optional-dependencies"]["oracle"] == ["torch==2.13.0"]
    names = {_distribution(requirement) for requirement in PROJECT["dependencies"]}
    assert not names & {"torch", "tensorflow", "tensorflow-cpu", "clu"}


# The Makefile is run with a Python of straw, which notes how it is called and makes environments of
# itself, so that nothing is installed.
STRAW = """#!/bin/sh
echo "$0 $*" >>"$CALLS"
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip" ;;
"-m pip "*) exit "${PIP_STATUS:-0}" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """make(target, **environment) in a copy of the project; returns the calls of Python it made."""
    if shutil.which("make") is None:
        pytest.skip("there is no make on PATH")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    straw = tmp_path / "straw"
    straw.write_text(STRAW)
    straw.chmod(0o755)
    calls = tmp_path / "calls"

    def run(target: str, expected: int = 0, **environment: str) -> list[str]:
        calls.write_text("")
        inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "VENV")}
        result = subprocess.run(
            ["make", target],
            cwd=tmp_path,
            env={**inherited, "CALLS": str(calls), "PYTHON": str(straw), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert result.returncode == expected, result.stdout + result.stderr
        run.error = result.stderr
        return calls.read_text().splitlines()

    return run


def _installs(calls: list[str]) -> list[str]:
    return [call for call in calls if "-m pip install" in call]


def test_make_installs_once_and_again_only_after_pyproject_changed(make, tmp_path):
    first = make("test")
    assert any(call.endswith("-m venv .venv") for call in first)
    assert len(_installs(first)) == 1 and ".[test,oracle]" in _installs(first)[0]
    assert first[-1].startswith(".venv/bin/python -m pytest -n 2")
    for target in ("test", "lint", "types", "format", "demo"):
        calls = make(target)
        assert len(calls) == 1, f"make {target} did more than its work: {calls}"
    later = (tmp_path / ".venv" / ".test").stat().st_mtime + 10
    os.utime(tmp_path / "pyproject.toml", (later, later))
    again = make("test")
    assert len(_installs(again)) == 1 and not any("-m venv" in call for call in again)


def test_make_demo_installs_what_the_demo_needs_and_runs_it(make):
    calls = make("demo")
    assert ".[prepare]" in _installs(calls)[0]
    assert calls[-1] == ".venv/bin/python -m artifygan_jax.demo --workdir=runs/demo"


def test_a_failed_install_is_tried_again(make):
    make("lint", expected=2, PIP_STATUS="1")
    assert len(_installs(make("lint"))) == 1


def test_make_refuses_a_python_that_is_not_supported(make):
    make("test", expected=2, PYTHON="false")
    assert "needs Python 3.11, 3.12 or 3.13" in make.error


def test_make_clean_keeps_the_runs(make, tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    make("test")
    make("clean")
    assert (tmp_path / "runs" / "a").is_dir() and not (tmp_path / ".venv").exists()


SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "launch").rglob("*.sh"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shell_scripts_are_executable_and_clean(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    shellcheck = pathlib.Path(sys.executable).parent / "shellcheck"
    result = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_ci_counts_a_skip_for_want_of_the_shared_folder_as_a_failure(tmp_path):
    """The function of .ci/run, on logs as pytest writes them."""
    text = (ROOT / ".ci" / "run").read_text()
    function = re.search(r"^no_shared_test_skipped\(\) \{.*?^\}", text, re.M | re.S)
    assert function
    line = "SKIPPED [1] tests/data/test_x.py:9: {} is not there\n"

    def status(reason: str, shared: pathlib.Path) -> int:
        (tmp_path / "suite.log").write_text("12 passed\n" + line.format(reason))
        script = f"set -e\n{function[0]}\nno_shared_test_skipped\n"
        environment = {"work": str(tmp_path), "ARTIFYGAN_SHARED": str(shared)}
        return subprocess.run(
            ["bash", "-c", script], env=os.environ | environment, capture_output=True
        ).returncode

    assert status("needs ARTIFYGAN_SHARED: a.npz", tmp_path) == 1
    assert status("needs ARTIFYGAN_SHARED: a.npz", tmp_path / "missing") == 0
    assert status("make", tmp_path) == 0
