"""`limen gd`: full-batch descent."""

from __future__ import annotations

from cyclopts import App

from limen.cli.execute import execute
from limen.cli.options import command
from limen.config import GDSpec

USAGE = "Usage: limen gd [OPTIONS] DATASET ARCH LOSS LR MAX_STEPS"

HELP = """Train by full-batch descent and track the top Hessian eigenvalues.

The run is recorded in RESULTS/DATASET/ARCH/seed_S/LOSS/OPT/lr_LR. An interrupted one goes on with --resume.
"""

EXAMPLE = """Example, through the edge of stability in a minute:
  limen gd digits fc-tanh mse 0.2 600 --neigs 2 --eig_freq 10 --test_freq 10"""


def register(app: App) -> None:
    """Add the command."""
    function = command(GDSpec, execute)
    app.command(function, name="gd", help=HELP, usage=USAGE, help_epilogue=EXAMPLE)
