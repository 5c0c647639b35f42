"""The command line as a stranger meets it: every refusal is one clear message, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pickle
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import limen as package
from limen import git, models
from limen.cli.main import main
from limen.store import lock, open_run

PROBLEM = ["gd", "chebyshev-3-20", "regression", "mse", "0.1", "3"]
FOLDER = Path("results/chebyshev-3-20/regression/seed_0/mse/gd/lr_0.1")


@pytest.fixture
def limen(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty working directory; return exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words):
        status = main([str(word) for word in words])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a user's module in the working directory, under a name of its own; return the name."""

    def write(text, name="stranger"):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    yield write
    for name in [name for name in sys.modules if name.startswith("stranger")]:
        del sys.modules[name]


def surroundings():
    """For a child process: it finds limen, whatever its working directory."""
    return {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent.absolute())}


def left(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in str(path)
    )


def refused(shown, *fragments, status=2):
    code, out, err = shown
    assert code == status, err
    assert out == ""
    assert err.startswith("limen: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in err
    return err


REFUSED = {
    "no such command": (["gdd"], "command 'gdd'", "Did you mean 'gd'?"),
    "no such option of limen": (["--versoin"], "'--versoin'", "Did you mean '--version'?"),
    "empty word": ([""], "command ''", "There are: gd, flow, "),
    "nothing given": (
        ["gd"],
        "missing: dataset, arch, loss, lr, max_steps",
        "DATASET ARCH LOSS LR MAX_STEPS",
    ),
    "some missing": (["gd", "chebyshev-3-20"], "missing: arch, loss, lr, max_steps"),
    "data set": (
        ["gd", "chebishev-3-20", *PROBLEM[2:]],
        "unknown data set",
        "Did you mean 'chebyshev-3-20'?",
    ),
    "model": ([*PROBLEM[:2], "regresion", *PROBLEM[3:]], "unknown model", "Did you mean 'regression'?"),
    "loss": ([*PROBLEM[:3], "msee", *PROBLEM[4:]], "unknown loss 'msee'", "Did you mean 'mse'?"),
    "option": ([*PROBLEM, "--nigs", "2"], "unknown option --nigs", "Did you mean --neigs?"),
    "option with hyphens": ([*PROBLEM, "--eig-frek", "2"], "--eig-frek", "Did you mean --eig_freq?"),
    "opt": ([*PROBLEM, "--opt", "poliak"], "unknown dynamics 'poliak'", "Did you mean 'polyak'?"),
    **{
        f"lr {lr}": ([*PROBLEM[:4], lr, "3"], "lr: expected a finite number above 0", "got", lr)
        for lr in ("0", "-1", "nan", "inf", "-inf", "fast", "")
    },
    **{
        f"max_steps {n}": ([*PROBLEM[:5], n], "max_steps: expected a whole number of at least 1", n)
        for n in ("0", "-3", "1.5", "many", "nan", "inf")
    },
    "polyak without beta": ([*PROBLEM, "--opt", "polyak"], "needs a momentum", "--beta"),
    "nesterov without beta": ([*PROBLEM, "--opt", "nesterov"], "needs a momentum", "--beta"),
    **{
        f"beta {beta}": ([*PROBLEM, "--opt", "polyak", "--beta", beta], "beta", "expected", beta)
        for beta in ("1", "-0.1", "nan", "x")
    },
    "acc_goal on a regression": ([*PROBLEM, "--acc_goal", "0.9"], "acc_goal", "regression", "--loss_goal"),
    "acc_goal in percent": ([*PROBLEM, "--acc_goal", "99"], "acc_goal: expected a finite number from 0 to 1"),
    "ce on a regression": ([*PROBLEM[:3], "ce", "0.1", "3"], "ce", "use mse for a regression"),
    "ce on a vector regression": (["gd", "linear-50-50", "deeplinear", "ce", "0.1", "3"], "use mse"),
    "neigs > p": ([*PROBLEM, "--neigs", "301", "--eig_freq", "1"], "neigs: expected at most 300", "got 301"),
    "neigs > p, never measured": ([*PROBLEM, "--neigs", "301"], "neigs: expected at most 300", "got 301"),
    "neigs -1": ([*PROBLEM, "--neigs", "-1"], "neigs: expected a whole number of at least 0, got -1."),
    "no value": ([*PROBLEM, "--neigs"], "neigs: expected a value, got none"),
    "twice": ([*PROBLEM, "--neigs", "1", "--neigs", "2"], "neigs: expected once"),
    **{
        f"{name} {n}": ([*PROBLEM, f"--{name}", n], f"{name}: expected a positive number of steps, or -1", n)
        for name in ("eig_freq", "iterate_freq", "save_freq", "test_freq", "checkpoint_freq")
        for n in ("0", "-2")
    },
    "batch size 0": ([*PROBLEM, "--physical_batch_size", "0"], "physical_batch_size", "at least 1, got 0"),
    "seed -1": ([*PROBLEM, "--seed", "-1"], "seed: expected a whole number from 0", "got -1"),
    "seed too large": ([*PROBLEM, "--seed", str(2**64)], "seed: expected a whole number from 0", str(2**64)),
    "dtype": ([*PROBLEM, "--dtype", "float16"], "dtype: expected float32 or float64, got 'float16'"),
    "device": ([*PROBLEM, "--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
    "device with zeros": ([*PROBLEM, "--device", "cuda:0001"], "device: expected auto, cpu, cuda or cuda:N"),
    "GPU of a large number": ([*PROBLEM, "--device", f"cuda:{10**20}"], "device", "Use cpu"),
    "too deep": (
        ["gd", "digits", f"fc-tanh-depth{10**8}", "mse", "0.1", "3"],
        "depth: expected a whole number from 1 to 1000, got 100000000",
    ),
    "no such GPU": ([*PROBLEM, "--device", "cuda:97"], "device", "cuda:97", "Use cpu"),
    "cnn on numbers": (["gd", "chebyshev-3-20", "cnn-relu", "mse", "0.1", "3"], "images", "(1,)", "fc-tanh"),
    "regression on images": (["gd", "digits", *PROBLEM[2:]], "(1,)", "(1, 8, 8)", "chebyshev-5-20"),
    "model argument": ([*PROBLEM, "--model.widht", "3"], "no argument 'widht'", "Did you mean 'width'?"),
    "model argument's type": ([*PROBLEM, "--model.width", "w"], "width: expected a whole number", "'w'"),
    "model argument's range": ([*PROBLEM, "--model.width", "0"], "width", "above 0, got 0"),
    "model without a key": ([*PROBLEM, "--model", "3"], "model: expected", "--model.width 400", "'3'"),
    "data argument": (
        ["gd", "digits", "fc-tanh", "mse", "0.1", "3", "--data.nn", "3"],
        "'nn'",
        "Did you mean 'n'?",
    ),
    "data argument's type": (
        ["gd", "digits", "fc-tanh", "mse", "0.1", "3", "--data.n", "x"],
        "from 1 to 1500",
    ),
    "argument in the id": ([*PROBLEM, "--data.n", "3"], "already says n=20"),
    "one word too many": ([*PROBLEM, "extra"], "unexpected argument 'extra'"),
    "switch": ([*PROBLEM, "--save_model", "maybe"], "save_model: expected True or False", "'maybe'"),
    "switch with =": ([*PROBLEM, "--save_model=maybe"], "save_model: expected True or False", "'maybe'"),
    "resume and overwrite": ([*PROBLEM, "--resume", "--overwrite"], "resume, overwrite", "got both"),
    "no such config": ([*PROBLEM, "--config", "no.yaml"], "no.yaml", "there is none"),
    "a folder as config": ([*PROBLEM, "--config", "."], "config file .", "directory"),
    "no such module": ([*PROBLEM[:2], "nomodule:f", *PROBLEM[3:]], "cannot import 'nomodule'"),
    "no such function": ([*PROBLEM[:2], "os:getcwdd", *PROBLEM[3:]], "'getcwdd'", "Did you mean 'getcwd'?"),
    "a function that makes no net": ([*PROBLEM[:2], "os:getcwd", *PROBLEM[3:]], "torch.nn.Module", "got str"),
    "a malformed import path": ([*PROBLEM[:2], "a/b.py:f", *PROBLEM[3:]], "module:function"),
    "no net named": ([*PROBLEM[:2], ":", *PROBLEM[3:]], "module:function"),
    "plot nothing": (["plot"], "RUNS: expected a value"),
    "show nothing": (["show"], "run: expected a value"),
    "ls a missing folder": (["ls", "nowhere"], "nowhere"),
    "ls two": (["ls", "a", "b"], "unexpected argument 'b'"),
    "fetch nothing": (["data", "fetch"], "NAMES: expected a value"),
    "fetch the unknown": (["data", "fetch", "cifar11"], "unknown data set", "Did you mean 'cifar10'?"),
    "fetch the embedded": (["data", "fetch", "digits"], "needs no files"),
    "data subcommand": (["data", "fetsh", "cifar10"], "command 'fetsh'", "Did you mean 'fetch'?"),
    "short option": ([*PROBLEM, "-x"], "unknown option -x. `limen gd --help`"),
    "dotted option without a value": ([*PROBLEM, "--model.width"], "model.width: expected a value, got none"),
    "an option and a word for the same": ([*PROBLEM, "--lr", "0.2"], "'0.1' has no place", "--lr"),
    "abscissa": (["plot", "r", "--x", "hour"], "x: expected step or time or sharpness, got 'hour'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_message_and_leaves_nothing(limen, tmp_path, case):
    words, *fragments = REFUSED[case]
    refused(limen(*words), *fragments)
    assert left(tmp_path) == []


CONFIGS = {
    "malformed": ("lr: [1\n", "not YAML", "line 2"),
    "tab": ("lr: 1\n\tneigs: 2\n", "not YAML", "line 2"),
    "twice": ("lr: 1\nlr: 2\n", "'lr' twice"),
    "twice, with a hyphen": ("eig-freq: 1\neig_freq: 2\n", "'eig_freq' twice"),
    "twice, deeper": ("model: {width: 1, width: 2}\n", "'width' twice"),
    "tagged": ('lr: !!python/object/apply:os.system ["touch pwned"]\n', "plain values", "python/object"),
    "unknown key": ("nigs: 1\n", "unknown option 'nigs'", "Did you mean 'neigs'?"),
    "type": ("neigs: two\n", "neigs: expected a whole number of at least 0, got 'two'"),
    "switch for a number": ("neigs: true\n", "neigs: expected a whole number"),
    "list for a number": ("eig_tol: [1, 2]\n", "eig_tol: expected a finite number above 0 and below 1"),
    "number for a switch": ("save_model: 7\n", "save_model: expected True or False, got 7"),
    "range": ("eig_freq: 0\n", "eig_freq: expected a positive number of steps"),
    "no mapping": ("- 1\n", "expected a mapping", "a list"),
    "empty": ("", "expected a mapping", "nothing"),
    "model is a number": ("model: 3\n", "model: expected a mapping"),
    "model argument": ("model: {widht: 3}\n", "no argument 'widht'", "Did you mean 'width'?"),
    "model argument's type": ("model: {width: w}\n", "width: expected a whole number"),
    "name": ("opt: poliak\n", "unknown dynamics 'poliak'"),
    "an impossible date": ("seed: 2020-13-45\n", "not YAML"),
    "control characters": ("lr: \x07\n", "not YAML"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_config_is_refused_and_named(limen, tmp_path, case):
    text, *fragments = CONFIGS[case]
    (tmp_path / "bad.yaml").write_text(text)
    refused(limen(*PROBLEM, "--config", "bad.yaml"), "bad.yaml", *fragments)
    assert left(tmp_path) == ["bad.yaml"]


def test_a_config_that_is_no_text_is_refused(limen, tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    refused(limen(*PROBLEM, "--config", "bad.yaml"), "bad.yaml", "UTF-8")


def test_a_config_of_the_wrong_type_is_refused_beside_a_dotted_option_too(limen, tmp_path):
    (tmp_path / "bad.yaml").write_text("model: 3\nneigs: two\n")
    refused(limen(*PROBLEM, "--config", "bad.yaml", "--model.width", "4"), "bad.yaml: neigs")


def test_several_faults_are_told_at_once(limen):
    status, _, err = limen(*PROBLEM[:4], "-1", "0")
    assert status == 2
    assert [line.split(":")[-2].strip() for line in err.splitlines()] == ["lr", "max_steps"]


class Harmful:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


@pytest.mark.parametrize(
    ("content", "fragment"),
    [(None, "no such file"), (b"rubbish", "cannot be read"), (pickle.dumps(Harmful()), "not an array")],
)
def test_bad_cifar_files_are_refused_and_never_run(limen, tmp_path, content, fragment):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for name in names if content is not None else ():
        (folder / name).write_bytes(content)
    words = ["gd", "cifar10-1k", "fc-tanh", "mse", "0.1", "3", "--data_dir", tmp_path]
    refused(limen(*words), "data_batch_1", fragment, "limen data fetch cifar10", status=1)
    assert left(tmp_path) == sorted([folder.name, *(f"{folder.name}/{name}" for name in names if content)])


def test_missing_cifar_is_refused(limen, tmp_path):
    words = ["gd", "cifar10-1k", "fc-tanh", "mse", "0.1", "3", "--data_dir", "nowhere"]
    refused(limen(*words), "nowhere", "limen data fetch cifar10", "--data_dir", status=1)
    assert left(tmp_path) == []


def test_a_missing_run_is_neither_shown_nor_drawn(limen, tmp_path):
    refused(limen("show", "nowhere"), "no run in nowhere", status=1)
    refused(limen("plot", "nowhere", "-o", "x.png"), "no run in nowhere", status=1)
    assert left(tmp_path) == []


def test_results_that_are_a_file_are_refused(limen, tmp_path):
    (tmp_path / "results").write_text("mine")
    refused(limen(*PROBLEM), str(FOLDER), "cannot be written", "choose another folder", status=1)
    assert (tmp_path / "results").read_text() == "mine"


def test_the_published_words_are_taken_with_underscores_or_hyphens_and_1e1_is_ten(limen):
    words = [*PROBLEM[:5], "1e1", "--eig-freq", "4", "--neigs=2", "--save-model", "True", "--nproj", "3"]
    status, out, err = limen(*words, "--iterate_freq", "5")
    assert (status, err) == (0, "")
    assert out.splitlines() == ["finished: all 10 steps done", out.splitlines()[1], str(FOLDER)]
    assert torch.load(FOLDER / "train_loss_final").shape == (10,)
    assert torch.load(FOLDER / "eigs_final").shape == (3, 2)
    assert torch.load(FOLDER / "iterates_final").shape == (2, 3)
    assert (FOLDER / "snapshot_final").exists()


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--save_model"], True),
        (["--save_model", "True"], True),
        (["--save_model=true"], True),
        (["--save-model", "False"], False),
        (["--save_model=False"], False),
        ([], False),
    ],
)
def test_switches_stand_alone_or_before_true_or_false(limen, words, written):
    assert limen(*PROBLEM, *words)[0] == 0
    assert (FOLDER / "snapshot_final").exists() is written


def test_quiet_says_nothing(limen):
    assert limen(*PROBLEM, "--quiet", "--neigs", "2") == (0, "", "")


def test_a_measurement_that_never_happens_is_noted(limen):
    status, _, err = limen(*PROBLEM, "--neigs", "2")
    assert status == 0
    assert "--neigs 2 without --eig_freq" in err
    assert "eigs" not in open_run(FOLDER).names()


def test_a_config_gives_the_problem_and_the_command_line_wins(limen, tmp_path):
    text = "dataset: chebyshev-3-20\narch: fc-tanh\nloss: mse\nlr: 0.2\nmax-steps: 4e0\nneigs: 1\n"
    (tmp_path / "a.yaml").write_text(text + "model: {width: 5, depth: 1}\n")
    assert limen("gd", "--config", "a.yaml", "--lr", "0.1", "--model.width", "7")[0] == 0
    run = open_run("results/chebyshev-3-20/fc-tanh/seed_0/mse/gd/lr_0.1__model.depth=1__model.width=7")
    assert run.spec["model"] == {"width": 7, "depth": 1}
    assert (run.spec["lr"], run.spec["max_steps"], run.spec["neigs"]) == (0.1, 4, 1)


def test_goals_stop_before_the_update(limen):
    assert limen(*PROBLEM[:5], "200", "--quiet", "--results", "long")[0] == 0
    losses = torch.load("long" / FOLDER.relative_to("results") / "train_loss_final")
    goal = losses[40].item() + 1e-6
    assert limen(*PROBLEM[:5], "200", "--loss_goal", goal, "--save_model")[0] == 0
    stopped = torch.load(FOLDER / "train_loss_final")
    first = int((losses < goal).nonzero()[0])
    assert torch.equal(stopped, losses[: first + 1])
    net = models.build("regression", input_shape=(1,), outputs=1)
    net.load_state_dict(torch.load(FOLDER / "snapshot_final"))
    x = torch.linspace(-1, 1, 20)[:, None]
    loss = 0.5 * (net(x) - (4 * x**3 - 3 * x)).square().sum(1).mean()
    torch.testing.assert_close(loss, stopped[-1], rtol=1e-5, atol=0)


TINY = """
import torch
from torch import nn
def data():
    x = torch.linspace(-1, 1, 24, dtype=torch.float64)[:, None]
    return x, (x[:, 0] > 0).long()
def net(outputs):
    return nn.Linear(1, outputs)
"""


def test_acc_goal_stops_before_the_update(limen, module):
    name = module(TINY, "stranger_goal")
    words = ["gd", f"{name}:data", f"{name}:net", "ce", "0.5", "500", "--acc_goal", "0.9"]
    status, out, _ = limen(*words)
    assert status == 0
    accuracies = torch.load(Path(out.splitlines()[-1]) / "train_acc_final")
    assert len(accuracies) < 500
    assert accuracies[-1] > 0.9
    assert (accuracies[:-1] <= 0.9).all()


def test_save_freq_writes_the_published_files_on_the_way(limen):
    assert limen(*PROBLEM[:5], "5", "--save_freq", "2")[0] == 0
    final = torch.load(FOLDER / "train_loss_final")
    assert torch.equal(torch.load(FOLDER / "train_loss"), final[:4])
    assert final.shape == (5,)


def test_an_existing_run_is_neither_lost_nor_repeated(limen):
    assert limen(*PROBLEM)[0] == 0
    before = (FOLDER / "scalars.jsonl").read_bytes()
    refused(limen(*PROBLEM), str(FOLDER), "finished", "--resume", "--overwrite", status=1)
    assert (FOLDER / "scalars.jsonl").read_bytes() == before
    asked = limen(*PROBLEM, "--resume", "--neigs", "2", "--eig_freq", "1")
    refused(asked, "probes.eigs", "Give --neigs 0 --eig_freq -1 as it was", status=1)
    assert (FOLDER / "scalars.jsonl").read_bytes() == before
    assert limen(*PROBLEM[:5], "6", "--resume")[0] == 0
    assert (FOLDER / "scalars.jsonl").read_bytes().startswith(before)
    assert len(torch.load(FOLDER / "train_loss_final")) == 6
    assert limen(*PROBLEM, "--overwrite")[0] == 0
    assert len(torch.load(FOLDER / "train_loss_final")) == 3


def test_a_second_writer_is_refused(limen):
    FOLDER.mkdir(parents=True)
    with lock.writing(FOLDER):
        refused(limen(*PROBLEM), "being written by process", "one writer", status=1)


def test_a_run_with_other_data_is_not_resumed(limen, module, tmp_path):
    name = module(TINY, "stranger_data")
    words = ["gd", f"{name}:data", f"{name}:net", "ce", "0.5"]
    assert limen(*words, "3")[0] == 0
    del sys.modules[name]
    module(TINY.replace("> 0", "> 0.5"), name)
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    refused(limen(*words, "5", "--resume"), "data_hash", status=1)


BROKEN = {
    "raises": (
        "def net():\n    raise KeyError('gone')\n",
        1,
        "line 2, in net",
        "KeyError",
        "LIMEN_TRACEBACK=1",
    ),
    "calls what raises": ("import json\ndef net():\n    json.loads('{')\n", 1, "line 3, in net"),
    "does not parse": ("def net(:\n", 2, "line 1", "SyntaxError"),
    "fails on import": ("x = 1\n1 / 0\n", 2, "line 2", "ZeroDivisionError"),
    "exits on import": ("import sys\nsys.exit(0)\n", 2, "line 2", "SystemExit"),
    "imports what is missing": ("import nowhere_to_be_found\n", 2, "cannot import 'nowhere_to_be_found'"),
    "returns nonsense": ("def net():\n    return 3\n", 2, "torch.nn.Module", "got int"),
    "has no such function": ("def nett():\n    pass\n", 2, "no function 'net'", "Did you mean 'nett'?"),
    "has a value there": ("net = 3\n", 2, "no function but a value"),
    "wants an argument": ("def net(depth):\n    pass\n", 2, "'depth'", "--model.depth"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_fault_in_the_users_code_names_its_place(limen, module, tmp_path, case):
    text, status, *fragments = BROKEN[case]
    name = module(text, f"stranger_{re.sub(' .*', '', case)}_{len(case)}")
    err = refused(limen(*PROBLEM[:2], f"{name}:net", *PROBLEM[3:]), *fragments, status=status)
    assert "bug in limen" not in err
    assert name in err
    assert left(tmp_path) == [f"{name}.py"]


def test_a_users_net_that_does_not_fit_the_data_is_refused(limen, module):
    text = "from torch import nn\nclass Net(nn.Linear):\n    def forward(self, x):\n        return super().forward(x)\n"
    name = module(f"{text}def net():\n    return Net(7, 1)\n", "stranger_shape")
    fragments = ("does not take inputs of shape (1,)", f"{name}.py, line 4, in forward")
    refused(limen(*PROBLEM[:2], f"{name}:net", *PROBLEM[3:]), *fragments)


def test_a_fault_in_a_users_forward_names_the_line_and_the_run_can_be_resumed(limen, module):
    text = """
import pathlib
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(1, 1), 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 12 and not pathlib.Path("mended").exists():
            raise AttributeError("too many")
        return self.layer(x)
"""
    name = module(text, "stranger_forward")
    words = [*PROBLEM[:2], f"{name}:Net", *PROBLEM[3:5], "20"]
    refused(limen(*words), f"{name}.py, line 12, in forward", "AttributeError", status=1)
    refused(limen(*words), "holds a run already, failed", "--resume", status=1)
    Path("mended").touch()
    status, out, _ = limen(*words, "--resume")
    assert status == 0
    assert len(torch.load(Path(out.splitlines()[-1]) / "train_loss_final")) == 20


def test_a_fault_of_ours_is_one_message_and_the_run_stays_resumable(limen, monkeypatch):
    from limen.probes.train import Train

    measure = Train.measure

    def failing(self, point, step, *rest):
        if step == 2:
            raise RuntimeError("inner")
        return measure(self, point, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Train, "measure", failing)
        refused(limen(*PROBLEM), "bug in limen", "RuntimeError: inner", "LIMEN_TRACEBACK=1", status=1)
    assert open_run(FOLDER).status == "failed"
    assert limen(*PROBLEM, "--resume")[0] == 0
    assert limen(*PROBLEM, "--results", "whole")[0] == 0
    whole = Path("whole") / FOLDER.relative_to("results")
    assert (FOLDER / "scalars.jsonl").read_bytes() == (whole / "scalars.jsonl").read_bytes()


def test_the_traceback_is_there_for_who_asks(limen, monkeypatch):
    monkeypatch.setenv("LIMEN_TRACEBACK", "1")
    status, _, err = limen("show", "nowhere")
    assert status == 1
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("limen: no run in nowhere")


@pytest.mark.parametrize(
    ("error", "fragment"),
    [
        (MemoryError(), "--physical_batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 99 bytes"), "--physical_batch_size"),
        (OSError(28, "No space left on device", "somewhere"), "somewhere: No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_no_bug(limen, monkeypatch, error, fragment):
    def build(spec):
        raise error

    monkeypatch.setattr("limen.config.build", build)
    assert "bug" not in refused(limen(*PROBLEM), fragment, status=1)


def test_a_diverged_run_is_kept_and_has_its_own_exit_status(limen):
    status, out, err = limen(*PROBLEM[:4], "1e30", "50")
    assert (status, err) == (3, "")
    assert out.startswith("diverged: loss not finite at step")


def test_ls_and_show_say_how_runs_stand_and_a_damaged_one_hides_nothing(limen):
    assert limen(*PROBLEM, "--neigs", "1", "--eig_freq", "1", "--quiet")[0] == 0
    assert limen(*PROBLEM, "--seed", "1", "--quiet")[0] == 0
    (Path(str(FOLDER).replace("seed_0", "seed_1")) / "run.json").write_text("{")
    status, out, _ = limen("ls")
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert rows[1][:2] == ["finished", "3/3"]
    assert rows[1][4] == str(FOLDER.relative_to("results"))
    assert rows[2][0] == "failed"
    status, out, _ = limen("show", FOLDER)
    assert status == 0
    assert re.search(r"sharpness / threshold: 0\.\d+", out)
    assert "train_loss" in out


def test_one_odd_run_hides_no_other(limen):
    folders = [Path(str(FOLDER).replace("seed_0", f"seed_{seed}")) for seed in range(4)]
    for seed in range(4):
        assert limen(*PROBLEM, "--seed", seed, "--quiet")[0] == 0
    (folders[1] / "scalars.jsonl").unlink()
    (folders[1] / "scalars.jsonl").mkdir()
    (folders[1] / "scalars.jsonl" / "x").touch()
    with (folders[2] / "scalars.jsonl").open("a") as file:
        file.write('{"probe": "mine", "step": 2, "t": 0.2, "values": {"eigs": 10}}\n')
    info = json.loads((folders[3] / "run.json").read_text())
    (folders[3] / "run.json").write_text(json.dumps(info | {"spec": [1]}))
    status, out, err = limen("ls")
    rows = out.splitlines()[1:]
    assert (status, err, len(rows)) == (0, "", 4)
    assert rows[0].split()[:2] == ["finished", "3/3"]
    assert "scalars.jsonl cannot be read" in rows[1]
    assert rows[2].split()[3] == "0.500"
    assert rows[3].split()[0] == "failed"
    status, _, err = limen("show", folders[1])
    assert (status, "scalars.jsonl cannot be read" in err) == (1, True)
    assert "sharpness / threshold: 0.500" in limen("show", folders[2])[1]
    refused(limen("show", folders[3]), "spec: expected a mapping, got [1]", status=1)


def test_what_a_resume_could_not_use_is_told_and_kept(limen, tmp_path):
    assert limen(*PROBLEM)[0] == 0
    (checkpoint,) = FOLDER.glob("checkpoints/*.pt")
    os.truncate(checkpoint, 100)
    before = (FOLDER / "scalars.jsonl").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "limen", *PROBLEM[:5], "6", "--resume"],
        cwd=tmp_path,
        env=surroundings(),
        capture_output=True,
        text=True,
        check=True,
    )
    for shown in (done.stdout, done.stderr):
        assert shown.count("set aside in set_aside/1") == 1
    assert (FOLDER / "set_aside" / "1" / "scalars.jsonl").read_bytes() == before
    assert "set aside" in limen("show", FOLDER)[1]
    assert "set aside" not in limen(*PROBLEM[:5], "7", "--resume")[1]


def test_an_early_ctrl_c_has_a_word(limen, monkeypatch):
    def build(spec):
        raise KeyboardInterrupt

    monkeypatch.setattr("limen.config.build", build)
    assert limen(*PROBLEM) == (130, "", "limen: interrupted\n")


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_the_first_signal_is_answered_at_once(tmp_path, monkeypatch, capfd, quiet):
    from limen.probes.train import Train

    measure, heard = Train.measure, []

    def pressing(self, point, step, *rest):
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
            heard.append(capfd.readouterr().err)
        return measure(self, point, step, *rest)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Train, "measure", pressing)
    assert main([*PROBLEM, *quiet]) == 130
    assert heard == [["limen: stopping after this step; once more to stop at once\n"], [""]][bool(quiet)]


def test_plot_refuses_a_format_it_does_not_write(limen, tmp_path):
    assert limen(*PROBLEM, "--quiet")[0] == 0
    before = left(tmp_path)
    refused(limen("plot", FOLDER, "-o", "x.gif"), "'x.gif'", ".png, .pdf or .svg")
    assert left(tmp_path) == before


def test_help_shows_the_words_in_their_order_and_an_example(limen):
    status, out, _ = limen("gd", "--help")
    assert status == 0
    assert out.startswith("Usage: limen gd [OPTIONS] DATASET ARCH LOSS LR MAX_STEPS")
    places = [out.index(f" {title} ") for title in ("Problem", "Stopping", "Measurements", "Running")]
    assert places == sorted(places)
    example = next(line for line in out.splitlines() if line.strip().startswith("limen gd"))
    spec = json.dumps(example.split()[2:7])
    assert spec == '["digits", "fc-tanh", "mse", "0.2", "600"]'
    assert limen("--help")[0] == 0


LIGHT = """
import json, sys
from limen.cli.main import main
codes = [main(words) for words in json.loads(sys.argv[1])]
heavy = {"torch", "sklearn", "matplotlib", "scipy", "pydantic"} & {name.split(".")[0] for name in sys.modules}
print("\\n" + json.dumps([codes, sorted(heavy)]))
"""


def lightly(words, cwd):
    """Run command lines in one process; return their exit statuses and which heavy packages were loaded."""
    command = [sys.executable, "-c", LIGHT, json.dumps(words)]
    done = subprocess.run(
        command, cwd=cwd, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_help_and_usage_errors_load_nothing_heavy(tmp_path):
    lines = [
        ["--help"],
        ["--version"],
        ["gd", "--help"],
        ["ls", "--help"],
        ["plot", "--help"],
        ["data", "--help"],
    ]
    cases = [
        *(
            "no such command",
            "nothing given",
            "data set",
            "model",
            "loss",
            "option",
            "opt",
            "lr nan",
            "seed -1",
        ),
        *(
            "polyak without beta",
            "beta 1",
            "eig_freq 0",
            "device",
            "dtype",
            "model argument",
            "argument in the id",
        ),
        *("no such config", "resume and overwrite", "switch", "one word too many", "plot nothing"),
        *("ls a missing folder",),
    ]
    words = [*lines, *(REFUSED[case][0] for case in cases), ["show", "nowhere"]]
    codes, heavy = lightly(words, tmp_path)
    assert codes == [0] * len(lines) + [2] * len(cases) + [1]
    assert heavy == []


def test_the_type_of_a_models_argument_is_judged_without_torch(tmp_path):
    words = [REFUSED[case][0] for case in ("model argument's type", "data argument's type")]
    codes, heavy = lightly(words, tmp_path)
    assert codes == [2, 2]
    assert not {"torch", "sklearn", "matplotlib", "scipy"} & set(heavy)


def on_a_terminal(words, cwd):
    """Run the command with standard error on a terminal of 120 columns; return what appeared there."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "limen", *words]
    process = subprocess.Popen(command, cwd=cwd, env=surroundings(), stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_a_terminal_shows_step_loss_accuracy_and_sharpness(tmp_path, module):
    name = module(TINY, "stranger_bar")
    words = ["gd", f"{name}:data", f"{name}:net", "ce", "0.5", "40", "--neigs", "1", "--eig_freq", "10"]
    last = on_a_terminal(words, tmp_path).replace("\r", "\n").strip().splitlines()[-1]
    assert "40/40" in last
    for shown in ("loss=", "acc=", "sharpness=", "threshold"):
        assert shown in last
    assert on_a_terminal([*words, "--overwrite", "--quiet"], tmp_path) == ""


def commit(folder):
    def do(*words):
        identity = ["-c", "user.name=limen", "-c", "user.email=limen@example.org"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

    do("init", "-q")
    (folder / "notes.txt").write_text("one")
    do("add", "notes.txt")
    do("commit", "-q", "-m", "one")


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_a_run_remembers_the_commit_it_was_started_from(limen, tmp_path):
    assert limen(*PROBLEM, "--results", "none")[0] == 0
    assert open_run("none" / FOLDER.relative_to("results")).info["git"] is None
    commit(tmp_path)
    assert limen(*PROBLEM)[0] == 0
    clean = open_run(FOLDER).info["git"]
    assert re.fullmatch("[0-9a-f]{40,}", clean["commit"])
    assert clean["dirty"] is False
    (tmp_path / "notes.txt").write_text("two")
    assert limen(*PROBLEM, "--overwrite")[0] == 0
    assert open_run(FOLDER).info["git"] == clean | {"dirty": True}


def test_a_run_needs_no_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.state() is None
