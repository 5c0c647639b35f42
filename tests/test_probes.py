"""Every probe in `probes/` meets one suite; eigenvalues are followed along paths of matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limen import (
    Eigs,
    Iterates,
    Need,
    Quadratic,
    SharpnessTracker,
    State,
    Supervised,
    data,
    models,
    registry,
)
from limen.errors import InputError
from limen.probes import Test, Train

PROBES = [family.stem for family in registry.families("probes")]


def objective(dtype: torch.dtype = torch.float32, test: bool = True) -> Supervised:
    made = data.load("digits", {"n": 60})
    net = models.build("fc-tanh", input_shape=made.input_shape, outputs=10, arguments={"width": 12})
    held_out = (made.test_inputs, made.test_targets) if test else None
    return Supervised(net, made.inputs, made.targets, "mse", test=held_out, dtype=dtype)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_measures_without_moving_anything(name: str) -> None:
    made = objective()
    probe = registry.make("probes", name, {})
    zero = torch.zeros((), dtype=torch.float64)
    # what a composite dynamics would have beside it
    state = State(
        made.start(), zero, slots={"path": zero}, branches={"flow": State(1.1 * made.start(), zero)}
    )
    before, random_state = state.w.clone(), torch.get_rng_state()
    memory = probe.init(made)
    kept = dict(memory)
    point = made.at(state, need=probe.need)
    values, after = probe.measure(point, 0, state, memory)
    assert values
    assert all(key.replace("_", "").isalnum() for key in values)
    assert memory == kept
    assert torch.equal(state.w, before)
    assert torch.equal(torch.get_rng_state(), random_state)
    again, _ = probe.measure(made.at(state, need=probe.need), 0, state, probe.init(made))
    assert {key: torch.as_tensor(x).tolist() for key, x in again.items()} == {
        key: torch.as_tensor(x).tolist() for key, x in values.items()
    }
    assert probe.describe()["every"] == probe.schedule.every
    probe.measure(made.at(state, need=probe.need), 1, state, after)


def test_train_and_test_read_their_own_data() -> None:
    made = objective(torch.float64)
    state = State(made.start(), torch.zeros(()))
    train, _ = Train().measure(made.at(state), 0, state, {})
    test, _ = Test().measure(made.at(state), 0, state, {})
    assert made.test is not None
    assert train == {"train_loss": made.at(state).loss.item(), "train_acc": made.at(state).accuracy.item()}
    assert test == {
        "test_loss": made.test.at(state).loss.item(),
        "test_acc": made.test.at(state).accuracy.item(),
    }
    assert train["train_loss"] != test["test_loss"]


def test_accuracy_is_absent_where_it_is_undefined() -> None:
    x = torch.linspace(-1, 1, 5)[:, None]
    made = Supervised(nn.Linear(1, 1), x, x, "mse")
    state = State(made.start(), torch.zeros(()))
    assert set(Train().measure(made.at(state), 0, state, {})[0]) == {"train_loss"}


def test_probes_refuse_what_does_not_fit() -> None:
    made = objective(test=False)
    with pytest.raises(InputError, match="held-out"):
        Test().init(made)
    with pytest.raises(InputError, match=f"{made.dim}, got {made.dim + 1}"):
        Eigs(made.dim + 1).init(made)
    with pytest.raises(InputError, match="nproj"):
        Iterates(0).init(made)
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="eig_tol"):
            Eigs(1, eig_tol=wrong)


def test_the_abridged_hessian_is_that_of_the_first_examples() -> None:
    made = objective(torch.float64)
    part = Supervised(made.module, made.inputs[:25], made.loss.targets[:25], "mse")
    state = State(made.start(), torch.zeros(()))
    ours, _ = Eigs(2, abridged_size=25, eig_tol=1e-9).measure(made.at(state, need=Eigs.need), 0, state, {})
    theirs, _ = Eigs(2, eig_tol=1e-9).measure(part.at(state, need=Eigs.need), 0, state, {})
    assert torch.allclose(torch.tensor(ours["eigs"]), torch.tensor(theirs["eigs"]), rtol=1e-9)


def test_a_tracker_serves_a_users_own_loop() -> None:
    made = objective(torch.float64)
    tracker, w, spent = SharpnessTracker(made, k=2), made.start(), []
    for _ in range(8):
        found = tracker.measure(w)
        H = made.point(w, need=Need.CURVATURE).hvp(torch.eye(made.dim, dtype=torch.float64))
        assert torch.allclose(found.values, torch.linalg.eigvalsh(H).flip(0)[:2], rtol=1e-3)
        spent.append(found.products)
        w = w - 0.05 * made.point(w).grad
    assert max(spent[1:]) < spent[0]


class Path(Quadratic):
    """A landscape whose Hessian turns with every measurement, as a function of the step."""

    def __init__(self, matrices: list[torch.Tensor]) -> None:
        super().__init__(matrices[0], torch.zeros(len(matrices[0]), dtype=torch.float64))
        self.points = [Quadratic(A, self.w0).at(State(self.w0, torch.zeros(()))) for A in matrices]


def rising(measurements: int, n: int = 120) -> list[torch.Tensor]:
    """A fixed eigenbasis in which the fifth eigenvalue rises through the four above it."""
    Q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    spectrum = torch.cat([torch.tensor([8.0, 7.0, 6.0, 5.0, 4.0]), torch.linspace(0, 3, n - 5)]).double()
    out = []
    for i in range(measurements):
        spectrum[4] = 4.0 + 8.0 * i / (measurements - 1)
        out.append((Q * spectrum) @ Q.T)
    return out


def follow(matrices: list[torch.Tensor], probe: Eigs) -> tuple[list[float], int]:
    """Return the relative error of each measurement along a path, and how many misses an audit caught."""
    path, memory, errors, caught = Path(matrices), {}, [], 0
    for step, A in enumerate(matrices):
        values, memory = probe.measure(path.points[step], step, State(path.w0, torch.zeros(())), memory)
        true = torch.linalg.eigvalsh(A).flip(0)[: probe.neigs]
        errors.append(float(((torch.tensor(values["eigs"]).double() - true) / true).abs().max()))
        caught += values.get("audit_caught", False)
    return errors, caught


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_an_eigenvector_that_rises_through_the_spectrum_is_followed(k: int) -> None:
    """Every measurement is right to 1e-3, those between the overtaking of the k-th value and the next audit apart.

    A fixed eigenbasis is the worst case: a block that has converged sees nothing below its guard, and nothing but
    the scouting product of each solve and the audits bring the rising direction in. With k = 2 two are late.
    """
    probe = Eigs(k)
    errors, _ = follow(rising(100), probe)
    others = [8.0, 7.0, 6.0, 5.0, 3.0]
    overtaking = next(i for i in range(100) if 4.0 + 8.0 * i / 99 > others[k - 1])
    audit = -(-overtaking // probe.audit_freq) * probe.audit_freq
    late = [i for i, error in enumerate(errors) if error > 1e-3]
    assert set(late) <= set(range(overtaking, audit))
    assert len(late) <= 2
    assert max(errors) < 0.03


@pytest.mark.parametrize("seed", range(10))
def test_an_audit_catches_what_the_block_lacks(seed: int) -> None:
    """The carried block holds true eigenvectors without the top one, far below it: the audit finds and mends it."""
    n = 400
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    spectrum = torch.cat([torch.linspace(0, 3, n - 4), torch.tensor([4.0, 4.5, 5.0, 5.5])]).double()
    path = Path([(Q * spectrum) @ Q.T])
    memory = {"block": Q.T[[-2, -3, -4]].clone(), "count": 10, "top": 5.0}
    probe = Eigs(2, seed=seed)
    values, _ = probe.measure(path.points[0], 0, State(path.w0, torch.zeros(())), memory)
    assert values["audit_products"] == probe.audit_steps
    assert values["audit_caught"] is True
    assert values["eigs"] == pytest.approx([5.5, 5.0], rel=1e-3)
    unaudited, _ = Eigs(2, seed=seed, audit_freq=-1).measure(
        path.points[0], 0, State(path.w0, torch.zeros(())), memory
    )
    assert unaudited["eigs"][0] < 5.1  # the control: without it, the solve is content and wrong


def test_every_eigenvalue_above_a_level_is_followed_as_they_come_and_go() -> None:
    n, level = 60, 5.0
    Q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    phase = torch.linspace(0, 6, 7).double()
    low = torch.linspace(0, 3, n - 7).double()
    matrices = [(Q * torch.cat([5 + 1.5 * torch.sin(0.3 * i + phase), low])) @ Q.T for i in range(30)]
    path, probe, memory, counts = Path(matrices), Eigs(1, above=level, eig_tol=1e-6), {}, set()
    for step, A in enumerate(matrices):
        values, memory = probe.measure(path.points[step], step, State(path.w0, torch.zeros(())), memory)
        true = torch.linalg.eigvalsh(A).flip(0)
        above = int((true > level).sum())
        counts.add(above)
        assert len(values["eigs"]) == max(1, above)
        assert torch.allclose(torch.tensor(values["eigs"]).double(), true[: max(1, above)], rtol=1e-5)
    assert len(counts) > 1
