"""The published training configurations, word for word: they name themselves, and run as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from limen.cli.main import main
from limen.config import FinetuneSpec, TrainSpec, kinds, validate

VGG, RESNET = "cifar10_vgg16", "cifar100_resnet18"
TRAIN = {
    VGG: """\
replicate: 0
seed: 6174
model:
  vgg16gelu:
    loss_name: soft_cross_entropy
train_data:
  cifar10labelnoise:
    is_train: True
    drop_last: True
    shuffle: True
    datadir: PATH
    download: False
    sigma: 0.0
train_batch_size: 128
max_duration: 3000000ba
optimizer:
  sgd:
    lr: 0.02
    momentum: 0.9
    weight_decay: 0.0005
schedulers:
  multistep_with_warmup:
    t_warmup: 1000ba
    milestones: [3000000ba]
eval_data:
  cifar10:
    is_train: False
    drop_last: False
    shuffle: False
    datadir: PATH
    download: False
eval_batch_size: 2000
algorithms:
  channels_last: {}
callbacks:
  lr_monitor: {}
  checkpoint_saver:
    save_interval: 20000ba
dataloader:
  persistent_workers: False
loggers:
  in_memory: {}
"""
}
TRAIN[RESNET] = (
    TRAIN[VGG]
    .replace(
        "vgg16gelu:\n    loss_name: soft_cross_entropy",
        "resnetlowres:\n    model_name: resnet18\n    num_classes: 100",
    )
    .replace("cifar10", "cifar100")
    .replace("train_batch_size: 128", "train_batch_size: 256")
    .replace("lr: 0.02", "lr: 0.5")
)
FINETUNE = {
    name: "exp_hash:\nload_batch: 20000\n"
    + text.replace("train_batch_size: 128", "train_batch_size: 256")
    .replace("max_duration: 3000000ba", "max_duration: 10000ba")
    .replace("lr: 0.02", "lr: 0.01")
    .replace("lr: 0.5", "lr: 0.01")
    for name, text in TRAIN.items()
}
FINETUNE[VGG] = (
    FINETUNE[VGG]
    .replace(
        "multistep_with_warmup:\n    t_warmup: 1000ba\n    milestones: [3000000ba]",
        "multistep:\n    milestones: [6000ba]",
    )
    .replace("save_interval: 20000ba", "save_interval: 2000ba")
)
FINETUNE[RESNET] = (
    FINETUNE[RESNET]
    .replace("[3000000ba]", "[10000ba]")
    .replace("save_interval: 20000ba", "save_interval: 1000ba")
)
ALL = [("train", name, text) for name, text in TRAIN.items()]
ALL += [("finetune", name, text) for name, text in FINETUNE.items()]


@pytest.fixture
def limen(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty working directory; return standard output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXP_DIR", raising=False)

    def run(*words):
        status = main([str(word) for word in words])
        shown = capsys.readouterr()
        assert status == 0, shown.err
        return shown.out

    return run


@pytest.mark.parametrize(
    ("command", "name", "text"), ALL, ids=[f"{name}_{command}" for command, name, _ in ALL]
)
def test_each_names_itself_as_the_shipped_file_does(limen, command, name, text):
    Path("c.yaml").write_text(text)
    shown = limen(command, "-f", "c.yaml", "--get_name").strip()
    shipped = Path(__file__).parent.parent / "configs" / f"{name}_{command}.yaml"
    told = limen(command, "-f", shipped, "--get_name").strip()
    assert told == shown  # a path, or a loss that is the default, is no part of it


def test_all_that_is_published_is_read_with_its_type():
    spec = validate(TrainSpec, yaml.safe_load(TRAIN[VGG]))
    assert (spec.seed, spec.replicate, spec.train_batch_size, spec.steps()) == (6174, 0, 128, 3_000_000)
    assert spec.optimizer == {"sgd": {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.0005}}
    spec = validate(FinetuneSpec, yaml.safe_load(FINETUNE[RESNET]))
    assert (spec.exp_hash, spec.load_batch, spec.steps()) == (None, "20000", 10_000)


@pytest.mark.parametrize("schedule", kinds.SCHEDULERS)
def test_every_published_schedule_is_read(schedule):
    given = {"t_warmup": "10ba", "milestones": ["20ba", "2ep"], "t_0": "5ba"}
    fields = {name: value for name, value in given.items() if name in kinds.SCHEDULERS[schedule]}
    content = yaml.safe_load(TRAIN[VGG]) | {"schedulers": {schedule: fields}}
    assert validate(TrainSpec, content).schedulers == {schedule: fields}


@pytest.mark.parametrize("kind", kinds.IMAGE_SETS)
def test_every_published_data_set_is_read(kind):
    fields = {"is_train": True, "datadir": "PATH", "download": False, "shuffle": True, "drop_last": True}
    fields |= {"sigma": 0.5} if "sigma" in kinds.IMAGE_SETS[kind] else {}
    content = yaml.safe_load(TRAIN[VGG]) | {"train_data": {kind: fields}}
    assert validate(TrainSpec, content).train_data == {kind: fields}


SHORT = (
    "--max_duration",
    "20ba",
    "--train_batch_size",
    "8",
    "--callbacks.checkpoint_saver.save_interval",
    "10ba",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAIN)
def test_a_shortened_run_trains_checkpoints_finetunes_and_is_analysed(
    limen, name, cifar_like, cifar100_like, monkeypatch
):
    monkeypatch.setenv("DATA_DIR", str(cifar_like if name == VGG else cifar100_like))
    Path("train.yaml").write_text(TRAIN[name])
    Path("finetune.yaml").write_text(FINETUNE[name])
    out = limen("train", "-f", "train.yaml", *SHORT)
    assert "finished: all 20 steps done" in out
    hashed = limen("train", "-f", "train.yaml", *SHORT, "--get_name").strip()
    folder = Path("exps") / hashed / "replicate_0"
    assert (folder / "checkpoints" / "state_10ba.pt").is_file()
    out = limen("finetune", "-f", "finetune.yaml", *SHORT, "--exp_hash", hashed, "--load_batch", 10)
    assert "finished: all 20 steps done" in out
    (tuned,) = (path.parent for path in Path("exps").rglob("run.json") if hashed not in str(path))
    taken = torch.load(folder / "checkpoints" / "state_10ba.pt", weights_only=True)["state"]["model"]
    first = torch.load(tuned / "model_init.pt", weights_only=True)
    assert all(torch.equal(taken[f"module.{key}"], x) for key, x in first.items())
    for path in (folder, tuned):
        log = torch.load(path / "log.pt", weights_only=True)
        assert log["loss/train"].isfinite().all()
        assert log["metrics/eval/CrossEntropy"].shape == (1,)
        assert "independent:" in limen("collapse", path)
