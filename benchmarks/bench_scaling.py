"""Cost of a gradient and of a Hessian-vector product against examples, parameters, products and depth.

fc-tanh on made-up data of 256 numbers an example, ten classes, one quantity at a time around n = 2 000, width 128,
two hidden layers; the number of parameters by the width. Prints a table and draws `figures/scaling.png`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from limen import Need, Supervised, models
from limen.linalg.matmul import choose_matmul_mode
from limen.plots.save import save
from limen.plots.style import COLOURS, WIDTH, styled

FEATURES, CLASSES = 256, 10
SHORTEST, REPEATS = 0.03, 5  # seconds that one timing takes at least; timings, of which the least counts


@dataclass(frozen=True)
class Sweep:
    """One quantity varied.

    Attributes:
        quantity: what stands on the x axis, with its symbol.
        x: its values.
        ms: milliseconds by what was timed, one for each value.
    """

    quantity: str
    x: list[float]
    ms: dict[str, list[float]]

    def slope(self, name: str) -> float:
        """Return d log(ms) / d log(x) over the upper half, by least squares."""
        half = slice(len(self.x) // 2, None)
        return float(np.polyfit(np.log(self.x[half]), np.log(self.ms[name][half]), 1)[0])


def run() -> None:
    choose_matmul_mode()
    sweeps = [
        sweep("examples n", [250 * 2**k for k in range(6)], lambda n: problem(n=n), lambda o, n: n),
        sweep(
            "parameters p",
            [16 * 2**k for k in range(7)],
            lambda width: problem(width=width),
            lambda o, width: o.dim,
        ),
        products([1, 2, 4, 8, 16, 32]),
        sweep("hidden layers", [1, 2, 4, 8, 16], lambda depth: problem(depth=depth), lambda o, depth: depth),
    ]
    for each in sweeps:
        print(f"{each.quantity:>26}" + "".join(f"{name + ' ms':>22}" for name in each.ms))
        for row in zip(each.x, *each.ms.values(), strict=True):
            print(f"{row[0]:26.0f}" + "".join(f"{ms:22.2f}" for ms in row[1:]))
        print(f"{'slope, upper half':>26}" + "".join(f"{each.slope(name):22.2f}" for name in each.ms))
    path = Path(__file__).parent / "figures" / "scaling.png"
    draw(sweeps, path)
    print(f"figure: {path.relative_to(Path(__file__).parent.parent)}")


def problem(n: int = 2000, width: int = 128, depth: int = 2) -> Supervised:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, FEATURES, generator=draw)
    y = torch.randint(CLASSES, (n,), generator=draw)
    net = models.build(
        "fc-tanh", input_shape=(FEATURES,), outputs=CLASSES, arguments={"width": width, "depth": depth}
    )
    return Supervised(net, x, y, "mse")


def sweep(
    quantity: str,
    values: Sequence[int],
    make: Callable[[int], Supervised],
    measure: Callable[[Supervised, int], float],
) -> Sweep:
    found = Sweep(quantity, [], {"gradient": [], "product": []})
    for value in values:
        objective = make(value)
        w = objective.start()
        point = objective.point(w, need=Need.GRAD | Need.CURVATURE)
        point.hvp(w)  # the graphs are made and kept
        found.x.append(measure(objective, value))
        found.ms["gradient"].append(
            milliseconds(lambda o=objective, w=w: o.point(w, need=Need.GRAD | Need.LOSS).grad)
        )
        found.ms["product"].append(milliseconds(lambda p=point, w=w: p.hvp(w)))
    return found


def products(values: Sequence[int]) -> Sweep:
    """Time k products one after the other with the pass that keeps their graphs, as a measurement has them."""
    objective = problem()
    w = objective.start()
    vectors = torch.randn(max(values), objective.dim, generator=torch.Generator().manual_seed(1))

    def measurement(k: int) -> None:
        point = objective.point(w, need=Need.GRAD | Need.CURVATURE)
        for v in vectors[:k]:
            point.hvp(v)

    return Sweep(
        "products k",
        [float(k) for k in values],
        {"measurement": [milliseconds(lambda k=k: measurement(k)) for k in values]},
    )


def milliseconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of one call, in ms."""
    begun = time.process_time()
    work()
    calls = max(1, round(SHORTEST / max(1e-6, time.process_time() - begun)))
    taken = []
    for _ in range(REPEATS):
        begun = time.process_time()
        for _ in range(calls):
            work()
        taken.append((time.process_time() - begun) / calls)
    return 1e3 * min(taken)


def draw(sweeps: Sequence[Sweep], path: Path) -> None:
    with styled():
        figure = Figure(figsize=(WIDTH, 0.95 * WIDTH), layout="constrained")
        for ax, each in zip(figure.subplots(2, 2).flat, sweeps, strict=True):
            panel(ax, each)
        save(figure, path)


def panel(ax: Axes, sweep: Sweep) -> None:
    for name, colour, marker in zip(sweep.ms, COLOURS, "os", strict=False):
        label = f"{name}, slope {sweep.slope(name):.2f}"
        ax.plot(sweep.x, sweep.ms[name], marker, ls="-", ms=3, color=colour, label=label)
    ax.set(xscale="log", yscale="log", xlabel=sweep.quantity, ylabel="CPU time (ms)")
    if sweep.x[-1] <= 10_000:  # few enough figures to write out
        ax.xaxis.set_major_locator(FixedLocator(sweep.x[::2]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    ax.legend(loc="upper left", handlelength=1.2, borderaxespad=0.1, fontsize=6)
