"""From words to a spec and its folder: the published defaults, merging, and what the folder spells out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from limen.config import FlowSpec, GDSpec, build, validate
from limen.errors import InputError

PROBLEM = {"dataset": "chebyshev-3-20", "arch": "regression", "loss": "mse", "lr": 0.05, "max_steps": 100}


def spec(**given):
    return validate(GDSpec, {**PROBLEM, **given})


def test_the_published_arguments_have_their_published_order_and_defaults():
    assert GDSpec.POSITIONAL == ("dataset", "arch", "loss", "lr", "max_steps")
    published = {
        "opt": "gd",
        "seed": 0,
        "beta": None,
        "physical_batch_size": None,  # 1000, unless the network wants another
        "acc_goal": None,
        "loss_goal": None,
        "neigs": 0,
        "eig_freq": -1,
        "nproj": 0,
        "iterate_freq": -1,
        "save_freq": -1,
        "abridged_size": 5000,
        "save_model": False,
    }
    ours = {
        "test_freq": 1,
        "eig_tol": 1e-3,
        "eig_above": None,
        "audit_freq": 10,
        "audit_steps": 30,
        "projection": "gaussian",
        "integrator": "auto",
        "rtol": 1e-5,
        "track_flow": False,
        "track_freq": 10,
        "device": "auto",
        "dtype": "float32",
        "results": None,
        "data_dir": None,
        "checkpoint_freq": -1,
        "model": {},
        "data": {},
    }
    assert spec().to_dict() == {"command": "gd", **PROBLEM, **published, **ours}


def test_words_become_numbers_of_their_types():
    read = spec(lr="5e-2", max_steps="1e5", neigs="2", eig_tol="0.01", save_model="True", eig_freq="-1")
    assert (read.lr, read.max_steps, read.neigs, read.eig_tol) == (0.05, 100_000, 2, 0.01)
    assert isinstance(read.max_steps, int)
    assert read.save_model is True


def test_a_spec_goes_through_its_dictionary_unchanged():
    once = spec(arch="fc-tanh", model={"width": "7"}, opt="polyak", beta="0.9")
    words = {key: value for key, value in once.to_dict().items() if key != "command"}
    assert validate(GDSpec, words) == once
    assert once.model == {"width": 7}


@pytest.mark.parametrize(
    ("given", "leaf"),
    [
        ({}, "gd/lr_0.05"),
        ({"lr": "5e-2"}, "gd/lr_0.05"),
        ({"lr": 1}, "gd/lr_1.0"),
        ({"lr": "1e-5"}, "gd/lr_1e-05"),
        ({"beta": 0.9}, "gd/lr_0.05"),
        ({"opt": "polyak", "beta": 0.9}, "polyak/lr_0.05_beta_0.9"),
        ({"opt": "nesterov", "beta": 0}, "nesterov/lr_0.05_beta_0.0"),
        ({"opt": "mine:rule"}, "mine.rule/lr_0.05"),
        ({"dtype": "float64"}, "gd/lr_0.05__dtype=float64"),
        ({"model": {"width": "400"}}, "gd/lr_0.05__model.width=400"),
        ({"model": {"width": 4e2, "gain": 2}}, "gd/lr_0.05__model.gain=2.0__model.width=400"),
        ({"model": {"width": 100}}, "gd/lr_0.05"),
        ({"dtype": "float64", "model": {"width": 3}}, "gd/lr_0.05__dtype=float64__model.width=3"),
    ],
)
def test_the_folder_spells_out_what_changes_the_trajectory(given, leaf):
    expected = Path("results/chebyshev-3-20/regression/seed_0/mse") / leaf
    assert spec(**given).folder() == expected


@pytest.mark.parametrize(
    "given",
    [
        {"max_steps": 7, "neigs": 3, "eig_freq": 5, "nproj": 2, "iterate_freq": 1, "save_freq": 3},
        {"abridged_size": 10, "test_freq": 9, "eig_tol": 0.1, "save_model": True, "checkpoint_freq": 2},
        {"eig_above": 0.5, "audit_freq": 3, "audit_steps": 9, "projection": "sketch"},
        {"acc_goal": 0.9, "loss_goal": 0.1, "device": "cpu", "data_dir": "there", "physical_batch_size": 5},
    ],
)
def test_the_folder_leaves_out_what_does_not(given):
    assert spec(**given).folder() == spec().folder()


def test_the_ghost_batch_is_spelled_out_for_networks_that_depend_on_it():
    assert spec(physical_batch_size=50).folder(ghost_batches=True).name == "lr_0.05__physical_batch_size=50"
    assert spec(physical_batch_size=1000).folder(ghost_batches=True).name == "lr_0.05"
    small = {"dataset": "digits", "data": {"n": 20}, "physical_batch_size": 10, "test_freq": -1}
    assert (
        build(spec(**small, arch="cnn-bn-relu")).folder.name == "lr_0.05__data.n=20__physical_batch_size=10"
    )
    assert build(spec(**small, arch="cnn-relu")).folder.name == "lr_0.05__data.n=20"


def test_the_results_folder_is_the_option_the_variable_or_results(monkeypatch):
    assert spec().root() == Path("results")
    monkeypatch.setenv("RESULTS", "elsewhere")
    assert spec().root() == Path("elsewhere")
    assert spec(results="here").root() == Path("here")


def test_folders_of_the_users_own_code_are_single_names():
    folder = spec(dataset="my.data:load", arch="my.nets:net").folder()
    assert folder == Path("results/my.data.load/my.nets.net/seed_0/mse/gd/lr_0.05")


def test_a_fault_names_the_file_it_stands_in():
    with pytest.raises(
        InputError, match=r"^a\.yaml: neigs: expected a whole number of at least 0, got 'two'\.$"
    ):
        validate(GDSpec, {**PROBLEM, "neigs": "two"}, {"neigs": "a.yaml"})
    with pytest.raises(InputError, match=r"^a\.yaml: unknown model 'fc-tan'\. Did you mean 'fc-tanh'"):
        validate(GDSpec, {**PROBLEM, "arch": "fc-tan"}, {"arch": "a.yaml"})
    with pytest.raises(InputError, match=r"^a\.yaml: model 'regression' takes no argument 'depth'"):
        validate(GDSpec, {**PROBLEM, "model": {"depth": 2}}, {"model": "a.yaml"})


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        ({"neigs": 2}, ["--neigs 2 without --eig_freq"]),
        ({"eig_freq": 5}, ["--eig_freq 5 without --neigs"]),
        ({"nproj": 2, "neigs": 1}, ["--neigs 1 without --eig_freq", "--nproj 2 without --iterate_freq"]),
        ({"neigs": 2, "eig_freq": 5, "nproj": 2, "iterate_freq": 1}, []),
    ],
)
def test_a_measurement_that_never_happens_is_noted(given, notes):
    found = build(spec(**given)).notes
    assert [note.split(":")[0] for note in found] == notes


def test_a_costly_projection_is_noted_with_its_time(monkeypatch):
    given = {"nproj": 400_000, "iterate_freq": 3}  # of 300 parameters, from a sample of 33 333 rows
    ticks = iter([10.0, 11.0])
    monkeypatch.setattr("limen.config.full_batch.perf_counter", lambda: next(ticks))
    built = build(spec(**given))
    (note,) = built.notes
    times = -(-built.experiment.steps // 3)
    assert "draws 1.2e+08 random numbers, about 12 s a measurement" in note
    assert f"up to {times}: --projection sketch" in note
    assert build(spec(**given, projection="sketch")).notes == []
    assert build(spec(**given | {"nproj": 300_000})).notes == []


def test_what_depends_on_the_batch_size_can_be_told_at_a_resume():
    assert build(spec(physical_batch_size=7)).info["physical_batch_size"] == 7


def test_probes_are_those_that_were_asked_for():
    def names(**given):
        return [probe.name for probe in build(spec(**given)).experiment.probes]

    assert names() == ["train", "test"]
    assert names(test_freq=-1) == ["train"]
    assert names(neigs=1, eig_freq=2, nproj=1, iterate_freq=3) == ["train", "test", "eigs", "iterates"]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"^device: expected one that is there, got cuda:97"):
        build(spec(device="cuda:97"))


FLOW = {"dataset": "digits", "arch": "fc-tanh", "loss": "mse", "tick": "0.1", "max_time": "0.3"}


def flow(**given):
    return validate(FlowSpec, {**FLOW, **given})


@pytest.mark.parametrize(
    ("given", "leaf"),
    [
        ({}, "tick_0.1"),
        ({"alpha": 2, "beta": 0.9, "certify": True, "eig_freq": 3}, "tick_0.1"),
        ({"rtol": "1e-7"}, "tick_0.1__rtol=1e-07"),
        ({"integrator": "ndf"}, "tick_0.1__integrator=ndf"),
        ({"integrator": "rk4", "rtol": 1e-7}, "tick_0.1__integrator=rk4"),
        ({"integrator": "rk4", "alpha": 2}, "tick_0.1__alpha=2.0__integrator=rk4"),
    ],
)
def test_the_folder_of_a_flow_spells_out_what_changes_the_trajectory(given, leaf):
    assert flow(**given).folder() == Path("results/digits/fc-tanh/seed_0/mse/flow") / leaf


@pytest.mark.parametrize(
    ("tick", "max_time", "ticks"), [(0.1, 0.3, 3), (1, 400, 400), (0.3, 1, 3), (2, 3.999, 1)]
)
def test_ticks_are_counted_as_on_paper(tick, max_time, ticks):
    assert flow(tick=tick, max_time=max_time).steps() == ticks


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tick": 0}, "tick: expected"),
        ({"tick": -1}, "tick: expected"),
        ({"max_time": 0.05}, "max_time: expected from one tick of 0.1 to 2^53 of them, got 0.05"),
        ({"rtol": 0}, "rtol: expected"),
        ({"integrator": "rk5"}, "integrator: expected auto or ndf or rkc2 or rk4, got 'rk5'"),
        ({"integrator": "rk4", "certify": True}, "rk4 has none"),
        ({"integrator": "rk4", "alpha": 3}, "alpha: expected at most 2.7853"),
        ({"tick": 1e-300, "max_time": 1e300}, "max_time: expected from one tick"),
    ],
)
def test_bad_words_of_a_flow_are_refused(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        flow(**given)


def test_only_gradient_descent_is_compared_with_the_flow():
    with pytest.raises(InputError, match="another limit"):
        spec(opt="polyak", beta=0.5, track_flow=True)
    with pytest.raises(InputError, match="no descent rule"):
        spec(opt="gradient_flow")
