"""Small systems whose theory is known: simulated, compared with the theory, and judged.

One module a system, each with `run(…) -> Outcome`: `quartic`, `neuron`, `two_neurons`, `teacher_student`,
`teacher_student_general`, `uv`, `quadratic`. Draws come from one seed; results do not depend on the number of threads.
"""

from limen.toys.outcome import Check, Outcome

__all__ = ["Check", "Outcome"]
