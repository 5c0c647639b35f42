"""The `limen` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cyclopts

from limen import __version__
from limen.cli import collapse, data, distance, export, flow, gd, ls, plot, recipe, show, sweep, toy, train
from limen.cli.complaints import complain
from limen.cli.options import NAMES, normalise

app = cyclopts.App(
    name="limen",
    help="A laboratory for neural-network training dynamics.",
    version=__version__,
    default_parameter=NAMES,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # `complain` has a word for it
)
for _module in (gd, flow, train, sweep, ls, show, plot, collapse, export, distance, recipe, toy, data):
    _module.register(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status.

    0 done; 1 failed; 2 bad input; 3 the run diverged; 130 interrupted. An error is one message on standard
    error; the environment variable LIMEN_TRACEBACK=1 adds where it came from.
    """
    words = normalise(list(sys.argv[1:] if argv is None else argv))
    try:
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()  # here, where a reader that has gone is no fault
        return int(status or 0)
    except BrokenPipeError:
        # `limen ls | head`: the reader has gone, and nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort: one message, no traceback
        return complain(error, words)


def run() -> None:
    """Exit with the status of `main`: the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
