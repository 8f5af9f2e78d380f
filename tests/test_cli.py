"""How commands end: codes, one line for errors, one JSON object for the rest."""

import json
import subprocess
import sys
import textwrap

import pytest

from artifygan_jax import cli
from artifygan_jax.cli import Parser
from artifygan_jax.errors import UserError, did_you_mean
from tests.conftest import ROOT

PROGRAM = """
import sys
from artifygan_jax import cli
from artifygan_jax.errors import UserError

def main(argv):
    print("a line of its own")
{body}

cli.run(main)
"""


def program(body, *argv, **kwargs):
    code = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    command = [sys.executable, "-c", code, *argv]
    kwargs = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": 120} | kwargs
    return subprocess.run(command, **kwargs)


@pytest.mark.parametrize("code", [cli.DONE, cli.SOME_FAILED, cli.STOPPED_EARLY])
def test_the_summary_is_the_last_line_of_stdout_and_the_code_is_the_commands_own(code):
    result = program(f"return {{'argv': list(argv), 'note': 'a\\nb'}}, {code}", "x", "y")
    assert result.returncode == code and not result.stderr
    first, last = result.stdout.splitlines()
    assert first == "a line of its own"
    assert json.loads(last) == {"argv": ["x", "y"], "note": "a\nb"}


def test_a_users_error_is_one_line_on_stderr_and_code_1():
    result = program("raise UserError('first\\n  second\\r\\nthird')")
    assert result.returncode == 1
    assert result.stderr == "error: first   second third\n"
    assert result.stdout == "a line of its own\n"


def test_a_fault_of_ours_is_a_traceback_and_code_70():
    result = program("return 1 / 0")
    assert result.returncode == 70
    assert "Traceback" in result.stderr and "ZeroDivisionError" in result.stderr


def test_an_interrupt_is_one_line_and_code_130():
    result = program("raise KeyboardInterrupt")
    assert result.returncode == 130
    assert len(result.stderr.splitlines()) == 1 and "run the same command again" in result.stderr


def test_help_ends_with_code_0_and_shows_the_docstring_as_it_is():
    body = "cli.Parser(description='one\\n  two', prog='x').parse_args(argv); return {}, 0"
    result = program(body, "--help")
    assert result.returncode == 0 and "one\n  two" in result.stdout and not result.stderr


def test_a_reader_that_is_gone_is_no_error():
    body = "print('x' * 10**6); return {}, 0"
    command = [sys.executable, "-c", PROGRAM.format(body="    " + body)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(120) == 0
    process.stderr.close()


def parser():
    p = Parser(prog="x")
    p.add_argument("--model", required=True)
    p.add_argument("--strength", type=float, default=1.0)
    p.add_argument("--face", choices=["none", "auto"])
    return p


def test_flags_are_read_in_both_spellings():
    args = parser().parse_args(["--model", "m", "--strength=0.5"])
    assert (args.model, args.strength, args.face) == ("m", 0.5, None)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--modle=a", "--model=b"], "unknown argument '--modle' .did you mean '--model'"),
        (["--model=b", "left over"], "unrecognized arguments: left over"),
        (["--mod=a"], "--model"),  # no abbreviations: it is missing
        (["--model=a", "--stren=1"], "unknown argument '--stren'"),
        (["--model=a", "--strength=much"], "invalid float value: 'much'"),
        (["--model=a", "--face=al"], "invalid choice: 'al'"),
        ([], "required: --model"),
    ],
)
def test_a_wrong_call_is_a_users_error_that_points_to_help(argv, words):
    with pytest.raises(UserError, match=words) as error:
        parser().parse_args(argv)
    assert str(error.value).endswith("see --help") and "\n" not in str(error.value)


def test_a_subcommand_knows_its_own_flags_and_refuses_those_of_another():
    p = Parser(prog="x")
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fid").add_argument("--real", required=True)
    commands.add_parser("compare").add_argument("--photos")
    args = p.parse_args(["fid", "--real=a"])
    assert (args.command, args.real) == ("fid", "a")
    for argv, words in (
        (["fid", "--reel=a"], "unknown argument '--reel' .did you mean '--real'"),
        (["fid", "--real=a", "--photos=b"], "unrecognized arguments: --photos=b"),
        (["fit", "--real=a"], "invalid choice: 'fit'"),
        ([], "required: command"),
    ):
        with pytest.raises(UserError, match=words):
            p.parse_args(argv)


def test_a_suggestion_is_given_for_close_words_alone():
    assert did_you_mean("stpes", ["steps", "seed"]) == " (did you mean 'steps'?)"
    assert did_you_mean("xyz", ["steps", "seed"]) == ""
