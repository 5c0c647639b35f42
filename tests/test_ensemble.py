"""Runs that advance together: the same numbers as alone, to rounding, in the same kind of folders."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from limen import data, models
from limen.config import GDSpec, build
from limen.dynamics.gd import GD
from limen.dynamics.nesterov import Nesterov
from limen.dynamics.polyak import Polyak
from limen.ensemble import block, groups, launch_together, rule, states
from limen.errors import InputError, StoreError
from limen.launch import launch
from limen.objectives import Supervised
from limen.objectives.batched import Batched
from limen.probes import Eigs
from limen.store import lock, open_run
from limen.store.lines import Rows, encode, encode_rows
from limen.types import Mark, Need, State


def spec(root, **words) -> GDSpec:
    given = {"dataset": "chebyshev-5-20", "arch": "regression", "loss": "mse", "lr": 0.05, "max_steps": 40}
    return GDSpec(**{**given, "results": str(root), "test_freq": -1, **words})


def study(root, lrs=(0.02, 0.05), seeds=(0, 1), **words) -> list[GDSpec]:
    return [spec(root, lr=lr, seed=seed, **words) for lr in lrs for seed in seeds]


def lines(run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "scalars.jsonl").read_text().splitlines()]


def supervised(dataset, arch, loss, dtype, seeds=(0, 1, 2), **arguments) -> list[Supervised]:
    made = data.load(dataset)
    keep = slice(0, 50)
    nets = [
        models.build(arch, input_shape=made.input_shape, outputs=made.outputs, seed=seed, arguments=arguments)
        for seed in seeds
    ]
    rest = (made.test_inputs[keep], made.test_targets[keep])
    return [
        Supervised(net, made.inputs[keep], made.targets[keep], loss, test=rest, dtype=dtype) for net in nets
    ]


NETS = [
    ("chebyshev-5-20", "regression", "mse", {}, "mlp"),
    ("digits", "fc-tanh-depth3", "mse", {"width": 12}, "mlp"),
    ("digits", "fc-relu", "ce", {"width": 12}, "mlp"),
    ("digits", "fc-elu", "ce", {"width": 12}, "vmap"),
    ("digits", "cnn-relu", "mse", {"width": 4}, "vmap"),
]


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize(("dataset", "arch", "loss", "arguments", "kernel"), NETS)
def test_a_pass_over_many_is_a_pass_over_each(dataset, arch, loss, arguments, kernel, dtype, tol):
    alone = supervised(dataset, arch, loss, dtype, **arguments)
    together = Batched(alone[0])
    assert together.kernel == kernel
    state = State(torch.stack([one.start() for one in alone]), torch.zeros(3))
    point, held_out = together.at(state, need=Need.GRAD), together.test.at(state)
    for i, one in enumerate(alone):
        expected = one.point(one.start(), need=Need.GRAD)
        tests = one.test.point(one.start())
        torch.testing.assert_close(point.loss[i], expected.loss, rtol=tol, atol=tol)
        torch.testing.assert_close(point.grad[i], expected.grad, rtol=10 * tol, atol=tol)
        torch.testing.assert_close(point.predictions[i], expected.predictions, rtol=10 * tol, atol=10 * tol)
        torch.testing.assert_close(held_out.loss[i], tests.loss, rtol=tol, atol=tol)
        for seen, true in ((point, expected), (held_out, tests)):
            assert torch.equal(seen.accuracy[i].nan_to_num(-1), true.accuracy.nan_to_num(-1))
    assert (loss == "mse" and dataset != "digits") == bool(point.accuracy.isnan().all())


def test_a_curvature_of_many_is_refused():
    alone = supervised("digits", "fc-tanh", "ce", torch.float64, width=5)
    point = Batched(alone[0]).at(State(torch.stack([one.start() for one in alone]), torch.zeros(3)))
    with pytest.raises(InputError, match="the point of one member"):
        point.curvature()


@pytest.mark.parametrize("make", [GD, lambda lr: Polyak(lr, 0.5), lambda lr: Nesterov(lr, 0.7)])
def test_every_rule_takes_each_members_own_numbers(make):
    """On L = ½·a·(w − b)² each member contracts by its own lr and beta: the recurrence in closed form."""
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    line = nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    objective = Supervised(line, x, 3 * x, "mse")  # a = mean of x² = 2.5, b = 3
    lrs, starts = (0.1, 0.5, 0.79), (1.0, -2.0, 7.0)
    rules = [make(lr) for lr in lrs]
    begun = [
        one.init(objective, torch.tensor([w], dtype=torch.float64))
        for one, w in zip(rules, starts, strict=True)
    ]
    state, together = states.stack(begun), Batched(objective)
    for _ in range(10):
        state, _ = rules[0].step(together.at(state, need=Need.GRAD), state)
    for i, (lr, w0) in enumerate(zip(lrs, starts, strict=True)):
        beta = getattr(rules[i], "beta", 0.0)
        ahead = {"gd": (1, 0), "polyak": (1, beta), "nesterov": (1 + beta, beta**2)}[rules[i].name]
        d, v = w0 - 3, 0.0
        for _ in range(10):
            g = 2.5 * d
            d, v = d - lr * (ahead[0] * g + ahead[1] * v), beta * v + g
        assert state.w[i].item() - 3 == pytest.approx(d, rel=1e-12, abs=1e-14)
        assert state.t[i].item() == pytest.approx(10 * lr, rel=1e-14)


def test_lines_in_bulk_are_the_lines_one_by_one():
    odd = [0.1, 1e-300, -0.0, float("nan"), float("inf"), 1 / 3]
    t = [0.0, 0.1, 0.30000000000000004, 1e22, 4.0, float("inf")]
    rows = Rows("train", range(2, 8), t, {"train_loss": odd, "train_acc": odd[::-1]})
    single = [
        encode("train", step, at, {"train_loss": a, "train_acc": b})
        for step, at, a, b in zip(range(2, 8), t, odd, odd[::-1], strict=True)
    ]
    assert encode_rows(rows) == single
    assert encode_rows(rows.between(4, 6)) == single[2:4]


def test_together_is_alone_before_the_edge(tmp_path):
    words = {"neigs": 2, "eig_freq": 10, "nproj": 3, "iterate_freq": 15, "test_freq": 3, "eig_tol": 1e-6}
    together = launch_together(study(tmp_path / "on", **words))
    alone = [launch(one) for one in study(tmp_path / "off", **words)]
    for one, other in zip(together, alone, strict=True):
        assert one.status == other.status == "finished"
        assert one.why == other.why
        assert one.info["ensemble"] == {"members": 4, "mode": "on", "kernel": "mlp"}
        names = [{path.name for path in run.folder.rglob("*") if path.is_file()} for run in (one, other)]
        assert names[0] == names[1]
        ours, theirs = lines(one), lines(other)
        keys = ("probe", "step", "t")
        assert [[line[key] for key in keys] for line in ours] == [
            [line[key] for key in keys] for line in theirs
        ]
        for a, b in zip(ours, theirs, strict=True):
            assert list(a["values"]) == list(b["values"])
        for name in ("train_loss", "test_loss", "eigs", "iterates"):
            assert one.series(name).steps.tolist() == other.series(name).steps.tolist()
            np.testing.assert_allclose(
                one.series(name).values, other.series(name).values, rtol=1e-5, atol=1e-6
            )
        for name in ("train_loss_final", "eigs_final", "iterates_final"):
            ours_final, theirs_final = torch.load(one.folder / name), torch.load(other.folder / name)
            torch.testing.assert_close(ours_final, theirs_final, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_one_that_diverges_leaves_the_others_as_they_are(tmp_path):
    calm = study(tmp_path / "calm", lrs=(0.02, 0.05, 0.08), seeds=(0,))
    wild = [spec(tmp_path / "wild", lr=one.lr) for one in calm[:2]] + [spec(tmp_path / "wild", lr=9.0)]
    first, second = launch_together(calm), launch_together(wild)
    assert [run.status for run in second] == ["finished", "finished", "diverged"]
    for a, b in zip(first[:2], second[:2], strict=True):
        assert (a.folder / "scalars.jsonl").read_bytes() == (b.folder / "scalars.jsonl").read_bytes()
    lost, alone = second[2], launch(spec(tmp_path / "alone", lr=9.0))
    assert (lost.why, lost.info["reached"]) == (alone.why, alone.info["reached"])
    assert len(lines(lost)) == len(lines(alone)) == lost.info["reached"] + 1
    assert not np.isfinite(lost.series("train_loss").values[-1])


def test_the_last_ones_go_on_when_most_have_ended(tmp_path):
    runs = launch_together(study(tmp_path / "on", lrs=(0.02, 9.0, 10.0), seeds=(0,), max_steps=130))
    assert [run.status for run in runs] == ["finished", "diverged", "diverged"]
    alone = launch(spec(tmp_path / "off", lr=0.02, max_steps=130))
    assert runs[0].series("train_loss").steps.tolist() == list(range(130))
    np.testing.assert_allclose(
        runs[0].series("train_loss").values, alone.series("train_loss").values, rtol=1e-5
    )


def test_goals_end_members_one_by_one(tmp_path):
    free = launch_together(study(tmp_path / "free", seeds=(0, 1, 2)))
    level = float(np.median([run.series("train_loss").values[20] for run in free]))
    goal = {"loss_goal": level * 1.0003, "max_steps": 40}  # between steps for all: rounding decides nothing
    together = launch_together(study(tmp_path / "on", seeds=(0, 1, 2), **goal))
    alone = [launch(one) for one in study(tmp_path / "off", seeds=(0, 1, 2), **goal)]
    assert [run.info["reached"] for run in together] == [run.info["reached"] for run in alone]
    assert [len(lines(run)) for run in together] == [len(lines(run)) for run in alone]
    assert len({run.info["reached"] for run in together}) > 1
    assert any("below the goal" in run.why for run in together)


@pytest.mark.parametrize("words", [{"loss_goal": 1e9}, {"loss_goal": 1e9, "checkpoint_freq": 1}])
def test_a_member_that_ends_where_a_block_begins_keeps_its_last_record(tmp_path, words):
    together = launch_together(study(tmp_path / "on", max_steps=5, **words))
    alone = [launch(one) for one in study(tmp_path / "off", max_steps=5, **words)]
    assert [len(lines(run)) for run in together] == [len(lines(run)) for run in alone]
    assert all(run.series("train_loss").steps.tolist() == [0] for run in together)


def _signal_at(step):
    def listen(number, event):
        match event:
            case Mark(at) if at >= step and number == 0:
                os.kill(os.getpid(), signal.SIGINT)

    return listen


@pytest.mark.parametrize("lost", [False, True])
def test_all_are_interrupted_and_go_on(tmp_path, monkeypatch, lost):
    advance = block.advance
    words = {"max_steps": 60, "checkpoint_freq": 10, "neigs": 1, "eig_freq": 20}
    whole = launch_together(study(tmp_path / "whole", **words))
    stopped = launch_together(study(tmp_path / "cut", **words), listen=_signal_at(20))
    assert {run.status for run in stopped} == {"interrupted"}
    assert {run.info["reached"] for run in stopped} == {30}
    if lost:  # this one stands elsewhere: it catches up
        (stopped[1].folder / "checkpoints" / "30.pt").unlink()
    seen = []

    def noting(objective, dynamics, probes, state, first, stop, asked):
        seen.append((first, len(state.w)))
        return advance(objective, dynamics, probes, state, first, stop, asked)

    monkeypatch.setattr(block, "advance", noting)
    resumed = launch_together(study(tmp_path / "cut", **words))
    assert seen == [(20, 1)] * lost + [(30, 4), (40, 4), (50, 4)]
    assert [run.info["resumed"][0]["step"] for run in resumed] == [30, 20 if lost else 30, 30, 30]
    for a, b in zip(whole, resumed, strict=True):
        assert b.status == "finished"
        assert [(x["probe"], x["step"]) for x in lines(a)] == [(x["probe"], x["step"]) for x in lines(b)]
        np.testing.assert_allclose(a.series("train_loss").values, b.series("train_loss").values, rtol=1e-5)
    again = launch_together(study(tmp_path / "cut", **words))
    assert [run.info["ended"] for run in again] == [run.info["ended"] for run in resumed]


def test_a_signal_while_some_catch_up_ends_all_where_they_stand(tmp_path):
    words = {"max_steps": 60, "checkpoint_freq": 10}
    stopped = launch_together(study(tmp_path, **words), listen=_signal_at(20))
    for path in (stopped[0].folder / "checkpoints").iterdir():
        path.unlink()
    again = launch_together(study(tmp_path, **words), listen=_signal_at(0))
    assert [run.status for run in again] == ["interrupted"] * 4
    assert [run.info["reached"] for run in again] == [10, 30, 30, 30]
    done = launch_together(study(tmp_path, **words))
    assert [run.status for run in done] == ["finished"] * 4
    assert all(len(lines(run)) == 60 for run in done)


def test_run_json_tells_a_mixed_history(tmp_path):
    words = {"lrs": (0.05,), "checkpoint_freq": 10}
    (alone,) = (launch(one) for one in study(tmp_path, seeds=(0,), **words))
    assert alone.info["ensemble"] is None
    specs = study(tmp_path, seeds=(0, 1, 2), max_steps=60, **words)
    stopped = launch_together([*specs[1:]], listen=_signal_at(20))
    assert [run.info["ensemble"]["members"] for run in stopped] == [2, 2]
    together = launch_together(specs, listen=_signal_at(35))
    assert {run.info["ensemble"]["members"] for run in together} == {3}
    assert "ensemble was nothing, now {" in together[0].notes[-1]
    assert "ensemble.members was 2, now 3" in together[1].notes[-1]
    one = launch(specs[2], resume=True)
    assert (one.status, one.info["ensemble"]) == ("finished", None)
    assert 'ensemble was {"members": 3' in one.notes[-1]
    rest = launch_together(specs)
    assert [run.info["ensemble"] and run.info["ensemble"]["members"] for run in rest] == [2, 2, None]
    longer = [dataclasses.replace(one, max_steps=70) for one in specs[:1]]
    assert launch_together([*longer, dataclasses.replace(specs[1], max_steps=70)])[0].status == "finished"


def test_runs_that_go_on_keep_their_own_mode_of_products(tmp_path):
    words = {"lrs": (0.05,), "max_steps": 60, "checkpoint_freq": 10}
    modes = ("highest", "medium", "highest", "medium")
    before = torch.get_float32_matmul_precision()
    try:
        for number, mode in enumerate(modes):
            (one,) = study(tmp_path, seeds=(number,), **words)
            launch(dataclasses.replace(one, max_steps=20), matmul=mode)
        runs = launch_together(study(tmp_path, seeds=range(5), **words), matmul="high")
    finally:
        torch.set_float32_matmul_precision(before)
    assert [run.info["matmul"] for run in runs] == [*modes, "high"]
    assert [run.status for run in runs] == ["finished"] * 5
    assert [run.info["ensemble"] and run.info["ensemble"]["members"] for run in runs] == [2, 2, 2, 2, None]
    assert not any("matmul" in note for run in runs for note in run.notes)


def test_a_probe_that_raises_ends_its_member_alone(tmp_path, monkeypatch):
    measure = Eigs.measure

    def broken(self, point, step, state, memory):
        if self.seed == 1 and step == 20:
            raise RuntimeError("no memory")
        return measure(self, point, step, state, memory)

    monkeypatch.setattr(Eigs, "measure", broken)
    runs = launch_together(study(tmp_path, lrs=(0.05,), seeds=(0, 1, 2), neigs=1, eig_freq=10))
    assert [run.status for run in runs] == ["finished", "failed", "finished"]
    assert "RuntimeError: no memory" in runs[1].why
    assert (len(lines(runs[0])), runs[1].info["reached"]) == (44, 20)


def test_a_folder_that_another_writes_is_named_and_the_others_run(tmp_path):
    specs = study(tmp_path, lrs=(0.05,), seeds=(0, 1, 2))
    folders = [build(one).folder for one in specs]
    folders[1].mkdir(parents=True)
    with lock.writing(folders[1]), pytest.raises(StoreError, match="seed_1"):
        launch_together(specs)
    assert [(folder / "train_loss_final").exists() for folder in folders] == [True, False, True]
    assert {open_run(folder).info["ensemble"]["members"] for folder in folders[::2]} == {2}


def test_what_cannot_advance_together_is_refused(tmp_path):
    with pytest.raises(InputError, match="differ in lr, beta and seed alone"):
        launch_together([spec(tmp_path), spec(tmp_path, dtype="float64")])


def test_groups_are_of_one_kind_and_hold_every_spec_once(tmp_path):
    specs = [
        *study(tmp_path),
        spec(tmp_path, dtype="float64"),
        spec(tmp_path, track_flow=True, lr=0.01),
        spec(tmp_path, track_flow=True, lr=0.02),
        *study(tmp_path, opt="polyak", beta=0.9),
        spec(tmp_path, seed=5),
    ]
    assert sorted(groups(specs, "on")) == [[0, 1, 2, 3, 11], [4], [5], [6], [7, 8, 9, 10]]
    many = study(tmp_path, seeds=range(65), lrs=(0.05,))
    found = groups(many, "on")
    assert sorted(map(len, found)) == [32, 33]
    assert sorted(i for group in found for i in group) == list(range(65))
    with pytest.raises(InputError, match="unknown mode 'of'"):
        groups(specs, "of")


def test_networks_whose_examples_meet_run_alone(tmp_path):
    mixed = study(tmp_path, dataset="digits", arch="cnn-relu-bn", lrs=(0.1,))
    assert groups(mixed, "on") == [[0], [1]]


def test_auto_takes_small_networks_and_no_large_one(tmp_path):
    small = study(tmp_path, seeds=range(4))
    assert groups(small, "auto") == [list(range(8))]
    assert groups(small[:2], "auto") == [[0], [1]]
    wide = [dataclasses.replace(one, model={"width": 20_000}) for one in small]  # p = 60 000
    assert groups(wide, "auto") == [[i] for i in range(8)]
    for kernel in ("mlp", "vmap"):
        for n in (1, 20, 5_000):
            assert not rule.pays(rule.Size(50_000, n, "cpu", kernel, 1), 64)
    assert not rule.pays(rule.Size(682, 1_527, "cpu", "mlp", 1), 64)  # digits, width 8: nothing was gained
    assert not rule.pays(rule.Size(300, 20, "xpu", "mlp", 1), 64)  # never measured
