"""Figures of the solvable systems, drawn from the arrays of an `Outcome` alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from limen.plots import (
    toy_neuron,
    toy_quadratic,
    toy_quartic,
    toy_teacher_student,
    toy_two_neurons,
    toy_uv,
)
from limen.plots.save import save
from limen.plots.toy_parts import Figure, styled

if TYPE_CHECKING:
    from limen.toys import Outcome

DRAW: dict[str, Callable[[Outcome], Figure]] = {
    "quartic": toy_quartic.draw,
    "neuron": toy_neuron.draw,
    "two-neurons": toy_two_neurons.draw,
    "teacher-student": toy_teacher_student.draw,
    "teacher-student-general": toy_teacher_student.draw_general,
    "uv": toy_uv.draw,
    "quadratic": toy_quadratic.draw,
}
"""By the name of the system."""


def toy(outcome: Outcome, path: Path) -> None:
    """Draw simulation and theory of one system and write the figure to `path`.

    Raises:
        InputError: the suffix of `path` names no format.
        StoreError: it cannot be written.
    """
    with styled():
        save(DRAW[outcome.system](outcome), path)
