"""The `limen` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cyclopts
from rich.console import Console

from limen import __version__
from limen.cli import data, gd, ls, plot, show
from limen.cli.options import NAMES, normalise
from limen.errors import LimenError

USAGE = 2
"""Exit status of a command line that cannot be understood."""

app = cyclopts.App(
    name="limen",
    help="A laboratory for neural-network training dynamics.",
    version=__version__,
    default_parameter=NAMES,
    help_format="plaintext",
)
for _module in (gd, ls, show, plot, data):
    _module.register(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    0 done; 1 failed; 2 bad input; 3 the run diverged; 130 interrupted. Errors are one message on standard error.
    """
    words = normalise(app, list(sys.argv[1:] if argv is None else argv))
    try:
        status = app(
            words, exit_on_error=False, print_error=False, result_action="return_value", error_console=Console(stderr=True)
        )
        return int(status or 0)
    except LimenError as error:
        return _complain(str(error), error.exit_code)
    except cyclopts.CycloptsError as error:
        return _complain(_sentence(error), USAGE)
    except BrokenPipeError:
        # `limen ls | head`: the reader has gone, and nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _sentence(error: cyclopts.CycloptsError) -> str:
    return " ".join(str(error).split())


def _complain(message: str, status: int) -> int:
    print(f"limen: {message}", file=sys.stderr)
    return status


def run() -> None:
    """Exit with the status of `main`: the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
