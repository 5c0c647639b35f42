"""Top eigenvalues along a run through the edge: warm block Krylov against ARPACK from a cold start.

Both see the same Hessian operator at the same weights, one after the other. ARPACK at its default tolerance is
what the published code runs; at limen's own tolerance it is the fairer opponent.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator as Scipy
from scipy.sparse.linalg import eigsh

from limen import GD, Eigs, Need, Schedule, Supervised, data, models
from limen.types import LinearOperator, State

K, LR, EVERY, MEASUREMENTS = 2, 0.3, 10, 24


def run() -> None:
    made = data.load("digits")
    net = models.build("fc-tanh", input_shape=made.input_shape, outputs=10)
    objective = Supervised(net, made.inputs, made.targets, "mse")
    rule, probe, memory = GD(LR), Eigs(K, Schedule(EVERY)), {}
    state = rule.init(objective, objective.start())
    rows = {
        name: {"seconds": 0.0, "products": 0, "error": 0.0} for name in ("limen", "ARPACK 1e-3", "ARPACK 0")
    }
    top = []
    for step in range(EVERY * MEASUREMENTS):
        if step % EVERY == 0:
            memory, exact = measure(objective, probe, state, step, memory, rows)
            top.append(exact[0] * LR / 2)
        state, _ = rule.step(objective.at(state, need=Need.GRAD), state)
    print(
        f"digits fc-tanh mse, lr {LR}, p = {objective.dim}, top {K} every {EVERY} steps, {MEASUREMENTS} measurements,"
    )
    print(f"sharpness/threshold from {top[0]:.2f} to {max(top):.2f}")
    print(f"{'':14}{'products':>10}{'ms':>9}{'worst rel. error':>18}{'time / limen':>14}")
    for name, row in rows.items():
        products, ms = row["products"] / MEASUREMENTS, 1e3 * row["seconds"] / MEASUREMENTS
        ratio = row["seconds"] / rows["limen"]["seconds"]
        print(f"{name:14}{products:10.1f}{ms:9.1f}{row['error']:18.1e}{ratio:14.1f}")


def measure(
    objective: Supervised, probe: Eigs, state: State, step: int, memory: dict, rows: dict
) -> tuple[dict, np.ndarray]:
    found = {}
    begun = time.process_time()
    values, memory = probe.measure(objective.at(state, need=probe.need), step, state, memory)
    rows["limen"]["seconds"] += time.process_time() - begun
    rows["limen"]["products"] += values["eig_products"]
    found["limen"] = np.array(values["eigs"])
    for name, tol in (("ARPACK 1e-3", 1e-3), ("ARPACK 0", 0)):
        begun = time.process_time()
        operator, count = scipy_operator(objective.at(state, need=probe.need).curvature())
        found[name] = eigsh(operator, K, which="LA", tol=tol)[0][::-1]
        rows[name]["seconds"] += time.process_time() - begun
        rows[name]["products"] += count[0]
    exact = found["ARPACK 0"]
    for name, values in found.items():
        rows[name]["error"] = max(rows[name]["error"], float(np.abs(values / exact - 1).max()))
    return memory, exact


def scipy_operator(H: LinearOperator) -> tuple[Scipy, list[int]]:
    count = [0]

    def matvec(v: np.ndarray) -> np.ndarray:
        count[0] += 1
        return H.matvec(torch.from_numpy(v.astype(np.float32).reshape(-1))).numpy()

    return Scipy((H.n, H.n), matvec=matvec, dtype=np.float32), count
