"""The gradient flow by each integrator: gradients (all of them counted), CPU time, errors against a tight reference.

e_θ = ‖θ − θ_ref‖/‖θ_ref − θ₀‖ and e_L = |L/L_ref − 1| at the end. The reference is NDF at rtol 1e-9 in float64 (RK4 at
alpha 1/4 for kinked networks), kept in `.cache/flow`. ∫λdt, the integral of the spectral radius, comes from a power
iteration at 201 times along it (101). RK4 at alpha = 1 is run where `run_rk4` says so, in 100 ticks with the sharpness
measured at each, which is not counted; elsewhere its gradients are told as 4∫λdt, without errors. `auto` runs at each
rtol from 1e-3 to 1e-8 (kinked: to 1e-6); its certified error is that of `--certify`, ‖θ_rtol − θ_{rtol/10}‖ over the
displacement, and the last column is certified over true. FLOW=word runs the problems that have that word in their name.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench_edge import cifar_shaped
from limen import Need, State, Supervised, data, models
from limen.ode import NDF, RK4, RKC2, Auto, Evidence, Integrator
from limen.ode.radius import Radius

CACHE = Path(__file__).parent.parent / ".cache" / "flow"
METHODS = (
    ("rkc2 1e-3", RKC2(1e-3)), ("rkc2 1e-4", RKC2(1e-4)), ("ndf 1e-5", NDF(1e-5)),
    ("ndf 1e-5 recycle 20", NDF(1e-5, recycle=20)),
)  # fmt: skip
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
"""Of auto; the last serves to certify the one before."""


@dataclass(frozen=True)
class Problem:
    """A network on data and a time to follow its flow for."""

    make: Callable[[], Supervised]
    end: float
    run_rk4: bool = True
    kinked: bool = False


def digits(arch: str, loss: str, noise: float = 0.0, n: int | None = None) -> Supervised:
    made = data.load("digits")
    draw = torch.Generator().manual_seed(0)
    noisy = torch.rand(len(made.targets), generator=draw) < noise
    labels = torch.where(noisy, torch.randint(0, 10, noisy.shape, generator=draw), made.targets)
    net = models.build(arch, input_shape=made.input_shape, outputs=10)
    return Supervised(net, made.inputs[:n], labels[:n], loss, dtype=torch.float64)


def chebyshev() -> Supervised:
    made = data.load("chebyshev-5-20")
    net = models.build("regression", input_shape=(1,), outputs=1)
    return Supervised(net, made.inputs, made.targets, "mse", dtype=torch.float64)


def cifar() -> Supervised:
    made = cifar_shaped()
    net = models.build("fc-tanh", input_shape=made.input_shape, outputs=10)
    return Supervised(net, made.inputs[:1000], made.targets[:1000], "mse", dtype=torch.float64)


def transformer() -> Supervised:
    made = data.load("english", {"n": 32, "vocabulary": 100, "length": 12})
    net = models.build(
        "transformer",
        input_shape=made.input_shape,
        outputs=made.outputs,
        arguments={"width": 32, "feedforward": 32},
    )
    return Supervised(net, made.inputs, made.targets, "ce", dtype=torch.float64)


PROBLEMS = {
    "chebyshev-5-20": Problem(chebyshev, 2000.0, run_rk4=False),
    "digits fc-tanh mse": Problem(lambda: digits("fc-tanh", "mse"), 100.0),
    "digits fc-tanh ce, a fifth of labels redrawn": Problem(
        lambda: digits("fc-tanh", "ce", 0.2), 300.0, run_rk4=False
    ),
    "CIFAR-shaped 1000 x 3072 fc-tanh mse": Problem(cifar, 10.0, run_rk4=False),
    "english transformer ce": Problem(transformer, 25.0, kinked=True),
    "digits 300 fc-relu mse": Problem(lambda: digits("fc-relu", "mse", n=300), 50.0, kinked=True),
}


def run() -> None:
    only = os.environ.get("FLOW", "")
    for name, problem in PROBLEMS.items():
        if only in name:
            compare(name, problem)


def compare(name: str, problem: Problem) -> None:
    objective = problem.make()
    start = objective.start()
    reference, integral = cached(name, problem, objective, start)
    final = loss(objective, reference)
    distance = (reference - start).norm()
    print(f"{name}: p = {objective.dim}, T = {problem.end:g}, ∫λdt = {integral:.0f}, loss {final:.6g}")
    heads = f"{'gradients':>10}{'fewer':>8}{'steps':>7}{'rejected':>9}{'forced':>7}{'CPU s':>8}{'e_θ':>9}{'e_L':>9}"
    print(f"  {'':20}{heads}{'certified':>10}{'/ e_θ':>7}")
    yardstick = round(4 * integral)

    def row(label: str, taken: Evidence, seconds: float, theta: Tensor, certified: float = math.nan) -> None:
        e_theta = float((theta - reference).norm() / distance)
        e_loss = abs(loss(objective, theta) / final - 1)
        last = "" if math.isnan(certified) else f"{certified:10.1e}{certified / e_theta:7.1f}"
        print(
            f"  {label:20}{taken.gradients:10}{yardstick / taken.gradients:8.1f}{taken.steps:7}{taken.rejections:9}"
            f"{taken.forced:7}{seconds:8.1f}{e_theta:9.1e}{e_loss:9.1e}{last} {taken.why}",
            flush=True,
        )

    if problem.run_rk4:
        evidence, seconds, theta = follow(RK4(), objective, start, problem.end, ticks=100)
        # as published, where the sharpness is measured apart
        evidence = replace(evidence, gradients=4 * evidence.steps)
        yardstick = evidence.gradients
        row("rk4 alpha=1", evidence, seconds, theta)
    else:
        print(f"  {'rk4, as 4∫λdt':20}{yardstick:10}")
    for label, method in () if problem.kinked else METHODS:
        row(label, *follow(method, objective, start, problem.end))
    tolerances = TOLERANCES[:5] if problem.kinked else TOLERANCES
    held = follow(Auto(tolerances[0]), objective, start, problem.end)
    for rtol, tighter in pairwise(tolerances):
        run, held = held, follow(Auto(tighter), objective, start, problem.end)
        moved = float((held[2] - start).norm())
        row(f"auto {rtol:.0e}", *run, certified=float((run[2] - held[2]).norm()) / moved)


def gradient(objective: Supervised) -> Callable[[Tensor], Tensor]:
    return lambda w: objective.point(w, need=Need.GRAD).grad


def loss(objective: Supervised, w: Tensor) -> float:
    return objective.at(State(w, torch.zeros(()))).loss.item()


def sharpness(objective: Supervised, theta: Tensor, warm: Radius) -> Radius:
    """Return the spectral radius by exact Hessian products: differences across a kink are of any size."""
    hessian = objective.point(theta, need=Need.GRAD | Need.CURVATURE).curvature()
    value, v = warm.value, warm.vector / warm.vector.norm()
    for _ in range(50):
        product = hessian.matmat(v[None])[0]
        before, value = value, float(product.norm())
        v = product / value
        if abs(value - before) <= 0.01 * value:
            break
    return Radius(value, v)


def follow(method: Integrator, objective: Supervised, start: Tensor, end: float, ticks: int = 1) -> tuple:
    """Return the evidence, with the gradient of `init` counted, CPU seconds and θ(end)."""
    field = gradient(objective)
    begun = time.process_time()
    memory = method.init(field, start)
    steps = rejections = forced = 0
    gradients = 1
    radius, theta = Radius(0.0, torch.ones_like(start)), start
    for tick in range(1, ticks + 1):
        if isinstance(method, RK4):
            radius = sharpness(objective, theta, radius)
            memory = method.with_sharpness(memory, radius.value)
        done = method.advance(field, memory, end * tick / ticks)
        memory, evidence, theta = done.memory, done.evidence, done.theta
        steps, rejections = steps + evidence.steps, rejections + evidence.rejections
        gradients, forced = gradients + evidence.gradients, forced + evidence.forced
        if not evidence.ok:
            break
    seconds = time.process_time() - begun
    total = replace(evidence, steps=steps, rejections=rejections, gradients=gradients, forced=forced)
    return total, seconds, done.theta


def cached(name: str, problem: Problem, objective: Supervised, start: Tensor) -> tuple[Tensor, float]:
    """Return θ_ref and ∫λdt, computed once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name.replace(' ', '_')}_{problem.end:g}.pt"
    if not path.exists():
        field, method = gradient(objective), RK4(alpha=0.25) if problem.kinked else NDF(1e-9)
        memory = method.init(field, start)
        radius, values, theta = Radius(0.0, torch.ones_like(start)), [], start
        ticks = 100 if problem.kinked else 200
        for tick in range(ticks + 1):
            if tick > 0:
                if isinstance(method, RK4):
                    memory = method.with_sharpness(memory, radius.value)
                done = method.advance(field, memory, problem.end * tick / ticks)
                theta, memory = done.theta, done.memory
            radius = sharpness(objective, theta, radius)
            values.append(radius.value)
        integral = float(torch.trapezoid(torch.tensor(values), dx=problem.end / ticks))
        torch.save({"theta": theta, "integral": integral}, path)
    found = torch.load(path)
    return found["theta"], found["integral"]
