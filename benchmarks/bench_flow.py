"""The gradient flow by each integrator: gradients (all of them counted), CPU time, errors against a tight reference.

e_θ = ‖θ − θ_ref‖/‖θ_ref − θ₀‖ and e_L = |L/L_ref − 1| at the end. The reference is NDF at rtol 1e-9 in float64 (RK4 at
alpha 0.1 for kinked networks), kept in `.cache/flow`. ∫λdt, the integral of the spectral radius, comes from a power
iteration at 201 times along it. RK4 at alpha = 1 is run where `run_rk4` says so; elsewhere its gradients are told as
4∫λdt, without errors. FLOW=word runs the problems that have that word in their name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench_edge import cifar_shaped
from limen import Need, State, Supervised, data, models
from limen.ode import NDF, RK4, RKC2, Auto, Integrator
from limen.ode.radius import Radius, spectral_radius

CACHE = Path(__file__).parent.parent / ".cache" / "flow"
METHODS = (
    ("rkc2 1e-3", RKC2(1e-3)), ("rkc2 1e-4", RKC2(1e-4)), ("ndf 1e-4", NDF(1e-4)), ("ndf 1e-5", NDF(1e-5)),
    ("ndf 1e-6", NDF(1e-6)), ("ndf 1e-7", NDF(1e-7)), ("ndf 1e-8", NDF(1e-8)),
    ("ndf 1e-5 recycle 20", NDF(1e-5, recycle=20)),
    ("ndf 1e-8 recycle 20", NDF(1e-8, recycle=20)), ("auto 1e-5", Auto(1e-5)),
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A network on data and a time to follow its flow for."""

    make: Callable[[], Supervised]
    end: float
    run_rk4: bool = True
    kinked: bool = False


def digits(arch: str, loss: str, noise: float = 0.0) -> Supervised:
    made = data.load("digits")
    draw = torch.Generator().manual_seed(0)
    noisy = torch.rand(len(made.targets), generator=draw) < noise
    labels = torch.where(noisy, torch.randint(0, 10, noisy.shape, generator=draw), made.targets)
    net = models.build(arch, input_shape=made.input_shape, outputs=10)
    return Supervised(net, made.inputs, labels, loss, dtype=torch.float64)


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
    "chebyshev-5-20": Problem(chebyshev, 2000.0),
    "digits fc-tanh mse": Problem(lambda: digits("fc-tanh", "mse"), 100.0),
    "digits fc-tanh ce, a fifth of labels redrawn": Problem(lambda: digits("fc-tanh", "ce", 0.2), 300.0),
    "CIFAR-shaped 1000 x 3072 fc-tanh mse": Problem(cifar, 10.0, run_rk4=False),
    "english transformer ce": Problem(transformer, 20.0, kinked=True),
    "digits fc-relu mse": Problem(lambda: digits("fc-relu", "mse"), 5.0, kinked=True),
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
    print(
        f"  {'':20}{'gradients':>10}{'fewer':>8}{'steps':>7}{'rejected':>9}{'CPU s':>8}{'e_θ':>9}{'e_L':>9}"
    )
    yardstick = round(4 * integral)
    if problem.run_rk4:
        evidence, seconds, theta = follow(RK4(), objective, start, problem.end, ticks=100)
        # as published, where the sharpness is measured apart
        evidence = replace(evidence, gradients=4 * evidence.steps)
        yardstick = evidence.gradients
        rows = [("rk4 alpha=1", evidence, seconds, theta)]
    else:
        rows = []
        print(f"  {'rk4, as 4∫λdt':20}{yardstick:10}")
    rows += [(label, *follow(method, objective, start, problem.end)) for label, method in METHODS]
    for label, evidence, seconds, theta in rows:
        e_theta = float((theta - reference).norm() / distance)
        e_loss = abs(loss(objective, theta) / final - 1)
        print(
            f"  {label:20}{evidence.gradients:10}{yardstick / evidence.gradients:8.1f}{evidence.steps:7}"
            f"{evidence.rejections:9}{seconds:8.1f}{e_theta:9.1e}{e_loss:9.1e} {evidence.why}",
            flush=True,
        )


def gradient(objective: Supervised) -> Callable[[Tensor], Tensor]:
    return lambda w: objective.point(w, need=Need.GRAD).grad


def loss(objective: Supervised, w: Tensor) -> float:
    return objective.at(State(w, torch.zeros(()))).loss.item()


def follow(method: Integrator, objective: Supervised, start: Tensor, end: float, ticks: int = 1) -> tuple:
    """Return the evidence, with the gradient of `init` counted, CPU seconds and θ(end)."""
    field = gradient(objective)
    begun = time.process_time()
    memory = method.init(field, start)
    steps = rejections = 0
    gradients = 1
    for tick in range(1, ticks + 1):
        done = method.advance(field, memory, end * tick / ticks)
        memory, evidence = done.memory, done.evidence
        steps, rejections = steps + evidence.steps, rejections + evidence.rejections
        gradients += evidence.gradients
        if not evidence.ok:
            break
    seconds = time.process_time() - begun
    return replace(evidence, steps=steps, rejections=rejections, gradients=gradients), seconds, done.theta


def cached(name: str, problem: Problem, objective: Supervised, start: Tensor) -> tuple[Tensor, float]:
    """Return θ_ref and ∫λdt, computed once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name.replace(' ', '_')}_{problem.end:g}.pt"
    if not path.exists():
        field, method = gradient(objective), RK4(alpha=0.1) if problem.kinked else NDF(1e-9)
        memory = method.init(field, start)
        radius, values, theta = Radius(0.0, torch.ones_like(start)), [], start
        for tick in range(201):
            if tick > 0:
                done = method.advance(field, memory, problem.end * tick / 200)
                theta, memory = done.theta, done.memory
            radius = spectral_radius(field, theta, field(theta), radius, 0.02)
            values.append(radius.value)
        integral = float(torch.trapezoid(torch.tensor(values), dx=problem.end / 200))
        torch.save({"theta": theta, "integral": integral}, path)
    found = torch.load(path)
    return found["theta"], found["integral"]
