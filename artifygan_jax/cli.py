"""What every command shares: flags, exit codes, and one JSON object as the last line of stdout.

Exit codes: 0 done · 1 the call was wrong (nothing written) · 2 some inputs failed, the others are
done · 70 internal · 75 stopped early, run the same command again · 130 interrupted.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from artifygan_jax.errors import StoppedEarly, UserError, did_you_mean

DONE, WRONG_CALL, SOME_FAILED, INTERNAL, STOPPED_EARLY, INTERRUPTED = 0, 1, 2, 70, 75, 130


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are a `UserError` (exit code 1) with a suggestion, not exit code 2."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")

    def parse_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        flags = _flags(self)
        for argument in args or []:  # before argparse complains of what the typo leaves missing
            flag = argument.split("=")[0]
            if flag.startswith("--") and flag not in flags:
                raise UserError(f"unknown argument {flag!r}{did_you_mean(flag, flags)}; see --help")
        return super().parse_args(args, namespace)


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    """Every flag of a parser and of its subcommands."""
    found = []
    for action in parser._actions:
        found += action.option_strings
        if isinstance(action.choices, dict):
            found += [flag for sub in action.choices.values() for flag in _flags(sub)]
    return found


def run(main: Callable[[Sequence[str]], tuple[dict, int]]) -> NoReturn:
    """Runs `main(argv)`, which returns (summary, exit code), and ends the process.

    The summary is printed as one JSON object, the last line of stdout; errors are one line on stderr.
    """
    code = INTERNAL
    try:
        summary, code = main(sys.argv[1:])
        print(json.dumps(summary), flush=True)
    except StoppedEarly as error:
        print(f"stopped early: {' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)
        os._exit(
            STOPPED_EARLY
        )  # a thread may hang in a read that never returns: do not wait for it
    except UserError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        code = WRONG_CALL
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our stdout is gone; there is nobody left to tell
        code = DONE
        sys.stdout = open(os.devnull, "w")
    except SystemExit as stop:  # --help
        code = stop.code if isinstance(stop.code, int) else DONE
    except Exception:
        traceback.print_exc()
    sys.exit(code)
