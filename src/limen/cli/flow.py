"""`limen flow`: the gradient flow."""

from __future__ import annotations

from cyclopts import App

from limen.cli.execute import execute
from limen.cli.options import command
from limen.config import FlowSpec

USAGE = "Usage: limen flow [OPTIONS] DATASET ARCH LOSS TICK MAX_TIME"

HELP = """Integrate the gradient flow θ' = −∇L(θ) to a stated accuracy.

One step is one tick of time; frequencies count ticks. The run is recorded in
RESULTS/DATASET/ARCH/seed_S/LOSS/flow/tick_TICK. An interrupted one goes on with --resume.
"""

EXAMPLE = """Example, as far as 600 steps of descent at lr 0.2 go, with its error:
  limen flow digits fc-tanh mse 2 120 --neigs 1 --eig_freq 1 --certify"""


def register(app: App) -> None:
    """Add the command."""
    function = command(FlowSpec, execute)
    app.command(function, name="flow", help=HELP, usage=USAGE, help_epilogue=EXAMPLE)
