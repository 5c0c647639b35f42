"""`limen train`: what it leaves in the folder, how it goes on after a kill or a signal, and what it measures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

import limen as package
from limen import models
from limen.cli.main import main
from limen.config import FinetuneSpec, TrainSpec, build, validate
from limen.data import images
from limen.errors import InputError
from limen.models.checkpoint import read_weights
from limen.store import open_run
from limen.types import State

STEPS, EVERY = 30, 10
CONFIG = {
    "seed": 6174,
    "model": {"cnn-bn-relu": {"loss_name": "soft_cross_entropy", "width": 4}},
    "train_data": {"digits": {"n": 200, "sigma": 0.2}},
    "train_batch_size": 32,
    "max_duration": f"{STEPS}ba",
    "optimizer": {"sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}},
    "schedulers": {"multistep_with_warmup": {"t_warmup": "5ba", "milestones": ["20ba"]}},
    "eval_data": {"digits": {"n": 200}},
    "eval_interval": "7ba",
    "callbacks": {
        "lr_monitor": {},
        "grad_monitor": {"log_layer_grad_norms": True},
        "speed_monitor": {},
        "checkpoint_saver": {"save_interval": f"{EVERY}ba"},
    },
}


def words(**changes):
    return {**CONFIG, **changes}


def write(folder, **changes):
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(words(**changes)))
    return path


@pytest.fixture
def limen(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty working directory; return exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXP_DIR", raising=False)

    def run(*given):
        status = main([str(word) for word in given])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def folder_of(spec=TrainSpec, **changes):
    return validate(spec, words(**changes)).folder()


def load(path):
    return torch.load(path, weights_only=True)


def test_the_published_files_say_what_limens_own_records_say(limen, tmp_path):
    status, out, err = limen("train", "-f", write(tmp_path))
    assert (status, err) == (0, "")
    folder = folder_of()
    assert str(folder) in out
    run, log, summary = open_run(folder), load(folder / "log.pt"), load(folder / "summary.pt")
    pairs = {
        "loss/train": "train_loss",
        "metrics/train/Accuracy": "train_acc",
        "metrics/eval/Accuracy": "test_acc",
        "metrics/eval/CrossEntropy": "test_loss",
        "lr-SGD/group0": "lr",
        "grad_l2_norm/step": "grad_norm",
        "layer_grad_norms": "layer_grad_norms",
    }
    for metric, name in pairs.items():
        series = run.series(name)
        assert log[metric].numpy().tolist() == series.values.tolist()
        assert log[f"batch/{metric}"].numpy().tolist() == series.steps.tolist()
        assert summary[metric].tolist() == series.values[-1].tolist()
    assert log["loss/train"].shape == (STEPS,)
    assert log["batch/metrics/eval/Accuracy"].tolist() == [7, 14, 21, 28, 30]
    rates = [0.05 * min(1, step / 5) * (0.1 if step >= 20 else 1) for step in range(STEPS)]
    assert log["lr-SGD/group0"].tolist() == pytest.approx(rates, rel=1e-12)
    squares = log["layer_grad_norms"].square().sum(1).sqrt()
    assert torch.allclose(squares, log["grad_l2_norm/step"], rtol=1e-5)
    assert all(x > 0 for x in log.get("throughput/samples_per_sec", torch.ones(1)))


def test_the_final_weights_give_the_final_metrics(limen, tmp_path):
    limen("train", "-f", write(tmp_path))
    folder = folder_of()
    last, final = load(folder / "checkpoints" / f"state_{STEPS}ba.pt"), load(folder / "model_final.pt")
    named = last["state"]["model"]
    assert named.keys() == {f"module.{name}" for name in final}
    assert all(torch.equal(named[f"module.{name}"], x) for name, x in final.items())
    assert last["state"]["timestamp"] == {"batch": STEPS, "epoch": 5, "batch_in_epoch": 0}
    assert any("running_var" in name for name in final)

    # the network that PyTorch makes of the weights, in evaluation mode
    data = images("digits", {"n": 200})
    net = models.build("cnn-bn-relu", input_shape=(1, 8, 8), outputs=10, arguments={"width": 4})
    objective = build(validate(TrainSpec, words())).experiment.objective
    module = objective.training.module
    module.load_state_dict(final)
    with torch.no_grad():
        outputs = module.eval()(data.test_images.float())
    summary = load(folder / "summary.pt")
    loss = F.cross_entropy(outputs, data.test_labels).item()
    assert summary["metrics/eval/CrossEntropy"].item() == pytest.approx(loss, rel=1e-5)
    accuracy = (outputs.argmax(1) == data.test_labels).double().mean().item()
    assert summary["metrics/eval/Accuracy"].item() == pytest.approx(accuracy, abs=1e-6)
    assert sum(x.numel() for x in net.parameters()) == objective.dim


def test_the_first_weights_and_the_configuration_are_kept(limen, tmp_path):
    limen("train", "-f", write(tmp_path))
    folder = folder_of()
    built = build(validate(TrainSpec, words())).experiment.objective
    first = read_weights(folder / "model_init.pt")
    state = State(built.start(), torch.zeros(()), buffers=built.buffers())
    assert first.keys() == built.state_dict(state).keys()
    assert all(torch.equal(first[name], x) for name, x in built.state_dict(state).items())
    assert sorted(path.name for path in (folder / "checkpoints").glob("state_*")) == [
        f"state_{n}ba.pt" for n in (10, 20, 30)
    ]
    assert limen("train", "-f", folder / "hparams.yaml", "--get_name")[1].strip() == folder.parent.name


def test_nothing_is_overwritten_unasked_and_nothing_is_done_twice(limen, tmp_path):
    config = write(tmp_path)
    limen("train", "-f", config)
    folder = folder_of()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    status, _, err = limen("train", "-f", config)
    assert status == 1
    assert "--overwrite discards it" in err
    assert "max_steps" not in err
    assert limen("train", "-f", config, "--resume")[0] == 0
    unchanged = {path: path.stat().st_mtime_ns for path in before if ".lock" not in path.name}
    assert all(before[path] == stamp for path, stamp in unchanged.items())
    assert limen("train", "-f", config, "--overwrite")[0] == 0
    assert (folder / "model_final.pt").stat().st_mtime_ns > before[folder / "model_final.pt"]
    assert limen("train", "-f", config, "--replicate", "1")[0] == 0
    assert (folder.parent / "replicate_1" / "model_final.pt").is_file()


def test_overwriting_leaves_nothing_of_the_run_before(limen, tmp_path):
    config = write(tmp_path)
    limen("train", "-f", config)
    folder = folder_of()
    stray = folder / "checkpoints" / "state_4ba.pt"
    stray.write_bytes((folder / "checkpoints" / "state_10ba.pt").read_bytes())
    (folder / "notes.txt").write_text("mine")
    limen("train", "-f", config, "--overwrite")
    assert not stray.exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_mean_squared_loss_is_called_so(limen, tmp_path):
    changes = {"model": {"fc-tanh": {"loss_name": "mse", "width": 5}}, "max_duration": "4ba"}
    limen("train", "-f", write(tmp_path, **changes))
    summary = load(folder_of(**changes) / "summary.pt")
    assert "metrics/eval/MSE" in summary
    assert "metrics/eval/CrossEntropy" not in summary


def test_other_measurements_are_kept_with_the_rest(limen, tmp_path):
    changes = {
        "model": {"fc-tanh": {"loss_name": "mse", "width": 5}},
        "probes": {"iterates": {"nproj": 3, "freq": 5}},
        "max_duration": "12ba",
    }
    limen("train", "-f", write(tmp_path, **changes))
    run = open_run(folder_of(**changes))
    assert run.series("iterates").values.shape == (4, 3)
    assert run.series("iterates").steps.tolist() == [0, 5, 10, 12]


ALGORITHMS = {
    "channels_last": {},
    "label_smoothing": {"smoothing": 0.1},
    "mixup": {"alpha": 0.3},
    "cutmix": {},
    "cutout": {"length": 0.25},
    "sam": {"rho": 0.1},
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_changes_the_run_unless_it_is_a_layout(algorithm):
    plain, changed = (
        build(validate(TrainSpec, words(algorithms=given))).experiment
        for given in ({}, {algorithm: ALGORITHMS[algorithm]})
    )

    def after(experiment):
        state = experiment.begin().state
        for step in range(3):
            point = experiment.objective.at(state, experiment.stream(step), experiment.dynamics.need)
            state, _ = experiment.dynamics.step(point, state)
        return experiment.objective.unflatten(state.w)  # by name: in w a kernel's numbers lie otherwise

    one, other = after(plain), after(changed)
    alike = all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)
    assert alike == (algorithm == "channels_last")
    assert plain.describe() != changed.describe()


@pytest.mark.parametrize(
    "average", [{"ema": {"half_life": "3ba"}}, {"swa": {"swa_start": "0.5dur", "update_interval": "2ba"}}]
)
def test_an_average_is_what_is_evaluated_and_kept_at_the_end(limen, tmp_path, average):
    changes = {"algorithms": average}
    assert limen("train", "-f", write(tmp_path, **changes))[0] == 0
    folder = folder_of(**changes)
    last = load(folder / "checkpoints" / f"state_{STEPS}ba.pt")["state"]["model"]
    final = load(folder / "model_final.pt")
    assert any((last[f"module.{name}"] != x).any() for name, x in final.items())
    objective = build(validate(TrainSpec, words(**changes))).experiment.objective
    w = objective.flatten({name: final[name] for name in objective.names})
    buffers = {name: final[name] for name in objective.buffers()}
    point = objective.test.at(State(w, torch.zeros(()), buffers=buffers))
    recorded = load(folder / "summary.pt")["metrics/eval/CrossEntropy"].item()
    assert point.loss.item() == pytest.approx(recorded, rel=1e-6)


def test_two_averages_are_one_too_many():
    with pytest.raises(InputError, match="one average of the weights, got ema and swa"):
        build(validate(TrainSpec, words(algorithms={"ema": {}, "swa": {}})))


def contents(folder):
    """Everything that is reproducible, as bytes or tensors."""
    files = {"scalars": (folder / "scalars.jsonl").read_bytes()}
    for name in ("model_init.pt", "model_final.pt"):
        files |= {f"{name}/{key}": x.numpy().tobytes() for key, x in load(folder / name).items()}
    for name in ("log.pt", "summary.pt"):
        kept = {key: x for key, x in load(folder / name).items() if "throughput" not in key}
        files |= {f"{name}/{key}": x.numpy().tobytes() for key, x in kept.items()}
    for path in sorted((folder / "checkpoints").glob("state_*ba.pt")):
        named = load(path)["state"]["model"]
        files |= {f"{path.name}/{key}": x.numpy().tobytes() for key, x in named.items()}
    files["hparams"] = (folder / "hparams.yaml").read_bytes()
    return files


def start(config, root, *more):
    """Run the command in a process of its own."""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent.absolute())}
    command = [
        sys.executable,
        "-m",
        "limen",
        "train",
        "-f",
        str(config),
        "--resume",
        "--exp_dir",
        str(root),
        *more,
    ]
    return subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL)


def reached(folder, step):
    """Wait until a run has recorded a step."""
    path = folder / "scalars.jsonl"
    for _ in range(3000):
        if path.exists() and f'"step": {step},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was never recorded")


LONG = {"max_duration": "1200ba", "save_interval": "60ba", "eval_interval": "100ba"}
LONG |= {"callbacks": {**CONFIG["callbacks"], "checkpoint_saver": {"save_interval": "250ba"}}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that is never disturbed."""
    root = tmp_path_factory.mktemp("whole")
    child = start(write(root, **LONG), root)
    assert child.wait() == 0
    return contents(folder_of(**LONG, exp_dir=str(root)))


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, whole):
    folder = folder_of(**LONG, exp_dir=str(tmp_path))
    child = start(write(tmp_path, **LONG), tmp_path)
    reached(folder, 130)
    child.kill()
    child.wait()
    assert not (folder / "model_final.pt").exists()
    assert start(tmp_path / "c.yaml", tmp_path).wait() == 0
    assert contents(folder) == whole
    assert len(open_run(folder).info["resumed"]) == 1


def test_sigterm_checkpoints_and_exits_resumable(tmp_path, whole):
    config = write(tmp_path, **LONG)
    folder = folder_of(**LONG, exp_dir=str(tmp_path))
    child = start(config, tmp_path)
    reached(folder, 20)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 130
    run = open_run(folder)
    assert run.status == "interrupted"
    step = run.info["reached"]
    assert (folder / "checkpoints" / f"{step}.pt").is_file()
    assert load(folder / "log.pt")["loss/train"].shape == (step,)
    assert not (folder / "model_final.pt").exists()
    assert start(config, tmp_path).wait() == 0
    assert contents(folder) == whole


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, whole):
    moments, folder = random.Random(0), folder_of(**LONG, exp_dir=str(tmp_path))
    config, killed = write(tmp_path, **LONG), 0
    while killed < 10:
        child = start(config, tmp_path)
        try:
            child.wait(moments.uniform(2, 6))
            break
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            killed += 1
    assert start(config, tmp_path).wait() == 0
    assert killed
    assert contents(folder) == whole


def together(config, root):
    """Run the command as two processes that share each batch."""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parent.parent.absolute())}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "limen", "train", "-f", str(config), "--resume", "--exp_dir", str(root)]
    return subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_two_processes_are_one_up_to_rounding_and_stop_and_resume_together(tmp_path):
    changes = {"max_duration": "300ba", "save_interval": "50ba"}
    config = write(tmp_path, **changes)
    assert start(config, tmp_path / "one").wait() == 0
    assert together(config, tmp_path / "two").wait() == 0
    one, two = (folder_of(**changes, exp_dir=str(tmp_path / name)) for name in ("one", "two"))
    logs = load(one / "log.pt"), load(two / "log.pt")
    first = [log["loss/train"][:20] for log in logs]
    assert torch.allclose(*first, rtol=1e-5)
    assert logs[0]["batch/metrics/eval/Accuracy"].equal(logs[1]["batch/metrics/eval/Accuracy"])

    child = together(config, tmp_path / "stopped")
    stopped = folder_of(**changes, exp_dir=str(tmp_path / "stopped"))
    reached(stopped, 60)
    child.send_signal(signal.SIGTERM)
    child.wait(120)
    assert open_run(stopped).status == "interrupted"
    assert together(config, tmp_path / "stopped").wait() == 0
    assert contents(stopped) == contents(two)


def test_finetuning_begins_with_the_weights_and_a_fresh_optimizer(limen, tmp_path):
    limen("train", "-f", write(tmp_path))
    source = folder_of()
    drop = {
        "schedulers": {"constant": {}},
        "optimizer": {"sgd": {"lr": 0.01, "momentum": 0.9}},
        "exp_hash": source.parent.name,
        "load_batch": 20,
        "max_duration": "3ba",
    }
    status, out, err = limen("finetune", "-f", write(tmp_path, **drop))
    assert (status, err) == (0, "")
    folder = folder_of(FinetuneSpec, **drop)
    assert str(folder) in out
    first, taken = (
        read_weights(folder / "model_init.pt"),
        read_weights(source / "checkpoints" / "state_20ba.pt"),
    )
    assert first.keys() == taken.keys()
    assert all(torch.equal(first[name], x) for name, x in taken.items())

    # by hand: a velocity that begins at zero
    built = build(validate(FinetuneSpec, words(**drop))).experiment
    state = built.begin().state
    assert all(x.abs().max() == 0 for x in state.slots.values())
    for step in range(3):
        state, _ = built.dynamics.step(
            built.objective.at(state, built.stream(step), built.dynamics.need), state
        )
    final = read_weights(folder / "model_final.pt")
    assert all(torch.equal(x, final[name]) for name, x in built.objective.state_dict(state).items())


@pytest.mark.slow
def test_a_sweep_of_training_is_its_single_commands(limen, tmp_path):
    short = {"max_duration": "12ba", "model": {"fc-tanh": {"width": 5}}}
    write(tmp_path, **short)
    study = {
        "command": "train",
        "file": "c.yaml",
        "base": {"exp_dir": "swept", "train_data.digits.sigma": 0.4},
        "grid": {"optimizer.sgd.lr": [0.1, 0.02]},
        "replicates": 2,
    }
    Path("study.yaml").write_text(yaml.safe_dump(study))
    status, out, err = limen("sweep", "-f", "study.yaml", "--quiet")
    assert (status, err) == (0, "")
    for lr in (0.1, 0.02):
        for replicate in (0, 1):
            given = ["--optimizer.sgd.lr", lr, "--replicate", replicate, "--train_data.digits.sigma", 0.4]
            assert limen("train", "-f", "c.yaml", *given, "--exp_dir", "single")[0] == 0
    found = sorted(Path("single").rglob("scalars.jsonl"))
    assert len(found) == 4
    assert len({path.read_bytes() for path in found}) == 4
    for path in found:
        other = Path("swept") / path.relative_to("single")
        assert contents(other.parent) == contents(path.parent)
    status, out, err = limen("sweep", "-f", "study.yaml")
    assert status == 0
    assert "nothing to do" in out + err


class Foreign:
    """A class that no reader knows."""


def test_finetuning_takes_foreign_checkpoints(limen, tmp_path):
    limen("train", "-f", write(tmp_path))
    path = folder_of() / "checkpoints" / "state_20ba.pt"
    content = load(path)
    content["state"]["rng"], content["callbacks"] = Foreign(), [Foreign()]
    torch.save(content, path)
    drop = {"exp_hash": folder_of().parent.name, "load_batch": 20, "max_duration": "2ba"}
    assert limen("finetune", "-f", write(tmp_path, **drop))[0] == 0


def test_a_checkpoint_that_is_not_there_or_of_another_network_is_refused(limen, tmp_path):
    limen("train", "-f", write(tmp_path))
    drop = {"exp_hash": folder_of().parent.name, "load_batch": 20, "max_duration": "2ba"}

    def refused(**changes):
        status, _, err = limen("finetune", "-f", write(tmp_path, **drop | changes))
        assert status == 2
        assert err.count("\n") == 1
        assert "c.yaml: " in err
        return err

    assert "It has: state_10ba.pt, state_20ba.pt, state_30ba.pt" in refused(load_batch=15)
    assert "exp_hash: expected the checkpoint" in refused(exp_hash="f" * 16)
    assert "exp_hash: expected the name of an experiment" in refused(exp_hash=None)
    assert "has in another shape" in refused(model={"cnn-bn-relu": {"width": 5}})
    assert "it lacks" in refused(model={"fc-tanh": {}})
    (folder_of() / "checkpoints" / "state_20ba.pt").write_bytes(b"torn")
    status, _, err = limen("finetune", "-f", write(tmp_path, **drop))
    assert status == 1
    assert "expected a checkpoint as torch.save has written it" in err
