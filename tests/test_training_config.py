"""Training configurations: what they say, what is refused and how, and by what name an experiment goes."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from limen.cli.main import main
from limen.cli.train import paths, put
from limen.config import FinetuneSpec, TrainSpec, build, kinds, validate
from limen.config.times import in_steps, scaled
from limen.dynamics.schedules import SCHEDULES, MultiStepWithWarmup
from limen.errors import InputError

CONFIGS = Path(__file__).parent.parent / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))
SMALL = yaml.safe_load((CONFIGS / "digits_cnn_train.yaml").read_text())


def changed(*paths_and_values):
    content = copy.deepcopy(SMALL)
    for path, value in paths_and_values:
        put(content, path, value)
    return content


def name(*paths_and_values):
    return validate(TrainSpec, changed(*paths_and_values)).hash()


@pytest.fixture
def limen(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty working directory; return exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)
    for variable in ("EXP_DIR", "DATA_DIR", "DATASETS"):
        monkeypatch.delenv(variable, raising=False)

    def run(*words):
        status = main([str(word) for word in words])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_configurations_print_their_name(limen, path):
    command = "finetune" if "finetune" in path.stem else "train"
    status, out, err = limen(command, "-f", path, "--get_name")
    assert (status, err) == (0, "")
    assert len(out.strip()) == 16
    assert int(out, 16) >= 0


def test_printing_a_name_needs_no_torch():
    code = (
        "import sys; from limen.cli.main import main; "
        f"main(['train', '-f', {str(CONFIGS / 'cifar10_vgg16_train.yaml')!r}, '--get_name']); "
        "print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1] == "False"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicate", 3),
        ("device", "cpu"),
        ("precision", "bf16"),
        ("save_interval", "10ba"),
        ("loggers", {"in_memory": {}, "wandb": {"project": "p"}}),
        ("dataloader", {"persistent_workers": False, "num_workers": 4}),
        ("data_dir", "elsewhere"),
        ("exp_dir", "elsewhere"),
        ("train_data.digits.datadir", "elsewhere"),
        ("eval_data.digits.download", True),
    ],
)
def test_the_name_does_not_depend_on_where_and_how_a_run_is_made(path, value):
    assert name((path, value)) == name()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("model.cnn-relu.loss_name", "mse"),
        ("train_data.digits.sigma", 0.3),
        ("train_data.digits.n", 500),
        ("train_data.digits.shuffle", False),
        ("train_batch_size", 32),
        ("max_duration", "20ba"),
        ("optimizer.sgd.lr", 0.051),
        ("optimizer.sgd.nesterov", True),
        ("schedulers.multistep_with_warmup.t_warmup", "10ba"),
        ("eval_interval", "1ep"),
        ("eval_batch_size", 100),
        ("algorithms.channels_last", {}),
        ("callbacks.checkpoint_saver.save_interval", "100ba"),
        ("grad_clip_norm", 1.0),
        ("scale_schedule_ratio", 0.5),
        ("probes.eigs.neigs", 2),
    ],
)
def test_the_name_depends_on_what_is_computed(path, value):
    assert name((path, value)) != name()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train_data.digits.is_train", True),
        ("train_data.digits.shuffle", True),
        ("eval_data.digits.shuffle", False),
        ("optimizer.sgd.nesterov", False),
        ("optimizer.sgd.lr", "5e-2"),
        ("train_batch_size", "64"),
        ("schedulers.multistep_with_warmup.gamma", 0.1),
        ("algorithms", None),
        ("scale_schedule_ratio", 1),
        ("max_duration", "0600ba"),
        ("eval_interval", "050ba"),
        ("schedulers.multistep_with_warmup.milestones", ["0600ba"]),
        ("callbacks.checkpoint_saver.save_interval", "0200ba"),
        ("model.cnn-relu.loss_name", "ce"),
    ],
)
def test_what_is_said_otherwise_or_besides_has_the_same_name(path, value):
    assert name((path, value)) == name()


def test_a_constant_rate_is_what_there_is_without_a_schedule():
    assert name(("schedulers", {"constant": {}})) == name(("schedulers", None))
    assert name(("schedulers", {"constant": {"alpha": 1}})) == name(("schedulers", None))
    assert name(("schedulers", {"constant": {"alpha": 0.5}})) != name(("schedulers", None))


def test_finetuning_has_a_name_of_its_own_that_knows_its_experiment():
    words = {"exp_hash": "0123456789abcdef", "load_batch": 400}
    names = {
        validate(FinetuneSpec, changed(*change.items())).hash()
        for change in ({}, words, words | {"exp_hash": "f" * 16}, words | {"load_batch": "200ba"})
    }
    assert len(names | {name()}) == 5
    assert validate(FinetuneSpec, changed(*words.items())).hash() in names
    assert validate(FinetuneSpec, changed(*(words | {"load_batch": "400ba"}).items())).hash() in names


def test_folders_follow_exp_dir(monkeypatch):
    monkeypatch.delenv("EXP_DIR", raising=False)
    spec = validate(TrainSpec, changed(("replicate", 2)))
    assert spec.folder() == Path("exps") / spec.hash() / "replicate_2"
    monkeypatch.setenv("EXP_DIR", "there")
    assert spec.folder().parent.parent == Path("there")
    assert validate(TrainSpec, changed(("exp_dir", "here"))).root() == Path("here")


def test_times():
    assert [in_steps(text, 10, 60) for text in ("7ba", "3ep", "0.5dur", ".25dur", "1dur")] == [
        7,
        30,
        30,
        15,
        60,
    ]
    assert [scaled(text, 0.5) for text in ("7ba", "3ep", "0.5dur")] == ["3ba", "1ep", "0.5dur"]


@pytest.mark.parametrize("total", [100, 1000, 3_000_000])
def test_a_share_in_decimals_is_the_whole_number_that_it_is(total):
    for percent in range(1, 300):
        expected = percent * total // 100
        assert scaled(f"{total}ba", percent / 100) == f"{expected}ba"
        assert in_steps(f"{percent / 100}dur", 7, total) == expected
    assert scaled("3ba", 1 / 3) == "1ba"  # no decimals of a third say it exactly
    assert scaled("100ba", 0.2999) == "29ba"


def test_the_tables_of_schedules_agree_with_the_schedules():
    assert kinds.SCHEDULERS.keys() == SCHEDULES.keys()
    for kind, schedule in SCHEDULES.items():
        theirs = {f.name for f in fields(schedule)}
        assert kinds.SCHEDULERS[kind].keys() - {"scale_warmup"} == theirs


def test_a_schedule_is_counted_in_batches():
    words = [
        ("schedulers", {"multistep_with_warmup": {"t_warmup": "2ep", "milestones": ["0.5dur", "100ba"]}}),
        ("max_duration", "10ep"),
    ]
    per_epoch = 1500 // 64
    built = build(validate(TrainSpec, changed(*words)))
    assert built.experiment.steps == 10 * per_epoch
    expected = MultiStepWithWarmup(2 * per_epoch, (5 * per_epoch, 100), 0.1)
    assert built.experiment.dynamics.schedule == expected
    halved = build(validate(TrainSpec, changed(*words, ("scale_schedule_ratio", 0.5)))).experiment
    assert halved.steps == 5 * per_epoch
    assert halved.dynamics.schedule == MultiStepWithWarmup(2 * per_epoch, (5 * per_epoch // 2, 50), 0.1)
    words[0][1]["multistep_with_warmup"]["scale_warmup"] = True
    halved = build(validate(TrainSpec, changed(*words, ("scale_schedule_ratio", 0.5)))).experiment
    assert halved.dynamics.schedule.t_warmup == per_epoch


def test_replicates_differ_in_weights_and_batches_and_a_seed_repeats_itself():
    def first(**words):
        experiment = build(validate(TrainSpec, changed(*words.items()))).experiment
        return experiment.objective.start(), experiment.stream.rows(0)

    runs = [first(), first(replicate=1), first(seed=1), first(seed=2 * 6174 + 1)]
    again = first()
    assert (again[0] == runs[0][0]).all()
    assert (again[1] == runs[0][1]).all()
    for i, (w, rows) in enumerate(runs):
        for other, others in runs[:i]:
            assert (w != other).any()
            assert (rows != others).any()


def test_evaluation_and_training_need_not_be_of_one_set():
    spec = validate(
        TrainSpec, changed(("eval_data", {"digits": {"n": 100}}), ("train_data", {"digits": {"n": 900}}))
    )
    objective = build(spec).experiment.objective
    assert objective.test.n == 297


WORDS = [("model", "transformer"), ("train_data", {"english": {}}), ("eval_data", {"english": {}})]
VALUES = [
    *(("model", {"regression": {}}), ("train_batch_size", 8)),
    *((f"{part}_data", {"chebyshev-3-20": {}}) for part in ("train", "eval")),
]
REFUSED = {
    "unknown key": ([("optimizr", {})], "unknown option 'optimizr'. Did you mean 'optimizer'?"),
    "unknown field": (
        [("optimizer.sgd.momentun", 0.9)],
        "optimizer.sgd.momentun:",
        "Did you mean 'momentum'?",
    ),
    "unknown field of a schedule": (
        [("schedulers.multistep_with_warmup.gama", 0.2)],
        "schedulers.multistep_with_warmup: unknown field 'gama'. Did you mean 'gamma'?",
    ),
    "unknown model": ([("model", {"vgg16glu": {}})], "unknown model 'vgg16glu'. Did you mean 'vgg16gelu'?"),
    "unknown data": ([("train_data", {"cifar10labelnoisy": {}})], "Did you mean 'cifar10labelnoise'?"),
    "unknown optimizer": ([("optimizer", {"sdg": {"lr": 1}})], "Did you mean 'sgd'? There are: sgd,"),
    "unknown schedule": ([("schedulers", {"multi_step": {}})], "Did you mean 'multistep'?"),
    "unknown callback": ([("callbacks", {"lr_moniter": {}})], "Did you mean 'lr_monitor'?"),
    "unknown logger": ([("loggers", {"wandbb": {}})], "Did you mean 'wandb'?"),
    "unknown probe": ([("probes", {"eig": {}})], "Did you mean 'eigs'?"),
    "no such algorithm": (
        [("algorithms", {"randaugment": {}})],
        "There are: channels_last, label_smoothing, mixup",
    ),
    "wrong type": (
        [("optimizer.sgd.lr", "fast")],
        "optimizer.sgd.lr:",
        "expected a finite number, got 'fast'",
    ),
    "wrong type above": (
        [("train_batch_size", "many")],
        "train_batch_size: expected a whole number",
        "'many'",
    ),
    "no number": (
        [("train_batch_size", 0)],
        "train_batch_size: expected a whole number of at least 1, got 0",
    ),
    "no time": ([("max_duration", 1000)], "max_duration: expected a time such as 1000ba", "got 1000"),
    "no batch": ([("max_duration", "0ba")], "max_duration: expected a time", "at least 1, got '0ba'"),
    "never evaluated": ([("eval_interval", "0ep")], "eval_interval: expected a time", "at least 1"),
    "never kept": ([("save_interval", "00ba")], "save_interval: expected a time", "at least 1"),
    "never saved": (
        [("callbacks.checkpoint_saver.save_interval", "0ba")],
        "callbacks.checkpoint_saver.save_interval: expected a time",
        "at least 1",
    ),
    "smoothed words": (
        [*WORDS, ("algorithms", {"label_smoothing": {}})],
        "algorithms.label_smoothing: expected data with one class an example, got english.",
    ),
    "noisy words": (
        [*WORDS, ("train_data", {"english": {"sigma": 0.2}})],
        "train_data.english.sigma: expected data with one class an example, got english.",
    ),
    "cut words": ([*WORDS, ("algorithms", {"cutout": {}})], "algorithms.cutout: expected data with images"),
    "smoothed values": (
        [*VALUES, ("algorithms", {"label_smoothing": {}})],
        "algorithms.label_smoothing: expected data with one class an example, got chebyshev-3-20.",
    ),
    "cut values": ([*VALUES, ("algorithms", {"cutmix": {}})], "algorithms.cutmix: expected data with images"),
    "mixed words": (
        [*WORDS, ("algorithms", {"mixup": {}})],
        "algorithms.mixup: expected data with one target an example",
    ),
    "a key of finetune": ([("load_batch", 20)], "load_batch: expected only by `limen finetune`"),
    "no time either": (
        [("schedulers.multistep_with_warmup.t_warmup", "soon")],
        "t_warmup: expected a time",
        "'soon'",
    ),
    "no times": (
        [("schedulers.multistep_with_warmup.milestones", 3)],
        "milestones: expected a list of times",
        "got 3",
    ),
    "missing field": ([("optimizer", {"sgd": {}})], "optimizer.sgd.lr: expected a value, got none"),
    "two kinds": ([("optimizer.adam.lr", 1)], "optimizer: expected one kind", "got adam, sgd"),
    "no kind": ([("model", None)], "missing: model"),
    "no mapping": ([("optimizer", 3)], "optimizer: expected a mapping", "got 3"),
    "no fields": ([("optimizer", {"sgd": 3})], "optimizer.sgd: expected a mapping of its fields", "got 3"),
    "negative lr": ([("optimizer.sgd.lr", -1)], "optimizer.sgd: lr must be a positive number, got -1"),
    "loss": ([("model.cnn-relu.loss_name", "hinge")], "loss_name: expected soft_cross_entropy or mse or ce"),
    "classes": (
        [("model.cnn-relu.num_classes", 100)],
        "num_classes: expected 10, as many as the data have, got 100",
    ),
    "noise": (
        [("train_data.digits.sigma", 1.5)],
        "train_data.digits.sigma: expected a finite number from 0 to 1",
    ),
    "negative noise": (
        [("train_data.digits.sigma", -0.1)],
        "sigma: expected a finite number from 0 to 1, got -0.1",
    ),
    "empty data": ([("train_data.digits.n", 0)], "train_data.digits", "got 0"),
    "large batch": ([("train_batch_size", 2000)], "train_batch_size: expected at most 1500", "got 2000"),
    "large batch of few": ([("train_data.digits.n", 50)], "train_batch_size: expected at most 50", "got 64"),
    "other classes": ([("eval_data", {"textures": {}})], "eval_data.textures: expected 10 classes"),
    "held-out as training": ([("train_data.digits.is_train", False)], "is_train: expected True"),
    "no gpu": ([("device", "cuda:7")], "device: expected one that is there"),
    "precision": ([("precision", "fp16")], "precision: expected fp32 or bf16 or amp, got 'fp16'"),
    "wandb": ([("loggers", {"wandb": {}})], "loggers.wandb: the package wandb is not installed"),
    "object store": ([("object_store", {"s3": {}})], "object_store is not supported", "leave it out"),
    "ffcv": ([("train_data", {"cifar10_ffcv": {}})], "not supported", "name the plain data set"),
    "ffcv field": ([("train_data.digits.use_ffcv", True)], "use_ffcv", "digits"),
    "grad accum": ([("grad_accum", 2)], "grad_accum is not supported: lower train_batch_size"),
    "missing data": (
        [("train_data", {"cifar10": {"datadir": "nowhere"}}), ("eval_data", {"cifar10": {}})],
        "nowhere",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_file_and_key(limen, case):
    changes, *fragments = REFUSED[case]
    Path("c.yaml").write_text(yaml.safe_dump(changed(*changes)))
    status, out, err = limen("train", "-f", "c.yaml")
    assert (status in (1, 2), out) == (True, "")
    assert err.startswith("limen: ")
    assert "Traceback" not in err
    assert err.count("\n") == 1
    for fragment in fragments:
        assert fragment in err
    if case not in ("wandb", "missing data"):
        assert "config file c.yaml" in err
    assert not Path("exps").exists()


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("model:\n\tvgg16: {}\n", "line 2, column 1"),
        ("seed: 1\nseed: 2\n", "expected each key once, got 'seed' twice"),
        ("optimizer:\n  sgd: {lr: 1, lr: 2}\n", "got 'lr' twice"),
        ("seed: !!python/object/apply:os.system ['touch hurt']\n", "expected plain values"),
        ("- a\n- b\n", "expected a mapping"),
        ("", "got nothing"),
    ],
)
def test_bad_yaml_is_refused_where_it_is_bad(limen, text, fragment):
    Path("c.yaml").write_text(text)
    status, out, err = limen("train", "-f", "c.yaml")
    assert (status, out) == (2, "")
    assert "c.yaml" in err
    assert fragment in err
    assert not Path("hurt").exists()


def test_digits_after_a_zero_are_read_as_they_are_written(limen):
    text = (CONFIGS / "digits_cnn_finetune.yaml").read_text()
    assert "exp_hash:\nload_batch: 400\n" in text
    said = text.replace("exp_hash:", "exp_hash: 0123456701234567").replace(" 400\n", " 0400\n")
    Path("c.yaml").write_text(said)
    status, _, err = limen("finetune", "-f", "c.yaml")
    assert status == 2
    assert "exps/0123456701234567/replicate_0/checkpoints/state_400ba.pt" in err
    words = ["--exp_hash", "0123456701234567", "--load_batch", "400ba"]
    expected = limen("finetune", "-f", CONFIGS / "digits_cnn_finetune.yaml", *words, "--get_name")
    assert limen("finetune", "-f", "c.yaml", "--get_name") == expected


def test_a_file_that_is_not_there_is_named(limen):
    assert "nothing.yaml: expected a YAML file" in limen("train", "-f", "nothing.yaml")[2]
    assert "missing: model, train_data" in limen("train")[2]


def test_the_command_line_goes_before_the_file_and_is_not_blamed_on_it(limen):
    config = CONFIGS / "digits_cnn_train.yaml"
    words = ["--optimizer.sgd.lr", "0.1", "--schedulers", "constant", "--replicate=4"]
    expected = name(("optimizer.sgd.lr", 0.1), ("schedulers", "constant"))
    assert limen("train", "-f", config, *words, "--get_name") == (0, f"{expected}\n", "")
    err = limen("train", "-f", config, "--optimizer.sgd.lr", "fast")[2]
    assert err.startswith("limen: optimizer.sgd.lr:")
    assert "unexpected word 'x'" in limen("train", "-f", config, "x")[2]


def test_one_example_is_refused_only_where_it_stops_the_run(limen, tmp_path, monkeypatch):
    (tmp_path / "flatnorm.py").write_text(
        "from torch import nn\n"
        "def make(*, input_shape, outputs):\n"
        "    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, outputs))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    one = [("train_data.digits.n", 65), ("train_data.digits.drop_last", False)]
    flat = [("model", {"flatnorm:make": {}}), *one]

    def refusal(*changes):
        Path("c.yaml").write_text(yaml.safe_dump(changed(*changes)))
        status, _, err = limen("train", "-f", "c.yaml")
        assert (status, Path("exps").exists()) == (2, False)
        return err

    assert "train_data.digits.drop_last: expected True" in refusal(*flat)
    assert "1 of 65 examples: Expected more than 1 value per channel" in refusal(*flat)
    assert "c.yaml: train_batch_size: expected more, got 1:" in refusal(*flat, ("train_batch_size", 1))
    assert build(validate(TrainSpec, changed(*flat, ("max_duration", "1ba")))).experiment.steps == 1
    assert build(validate(TrainSpec, changed(*flat, ("train_data.digits.drop_last", True)))).experiment.steps
    # a normalisation over pixels has enough of them, and a network without one needs none
    for model in ("cnn-bn-relu", "cnn-relu"):
        experiment = build(validate(TrainSpec, changed(("model", {model: {}}), *one))).experiment
        assert len(experiment.stream(1).inputs) == 1
    sys.modules.pop("flatnorm")


def test_words_become_paths():
    words = ["--a.b", "1", "--c-d.e-f", "x", "--g", "--h=[10ba, 20ba]", "--i", "-1"]
    given = {"a.b": "1", "c_d.e-f": "x", "g": True, "h": ["10ba", "20ba"], "i": "-1"}
    assert paths(words) == given
    with pytest.raises(InputError, match="given twice"):
        paths(["--a", "1", "--a", "2"])


def test_your_own_network_is_named_by_its_import_path(limen, monkeypatch):
    Path("ownnets.py").write_text(
        "from torch import nn\n"
        "def make(*, input_shape, outputs, width: int = 3):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, outputs))\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = CONFIGS / "digits_cnn_train.yaml"
    content = yaml.safe_load(config.read_text()) | {"model": {"ownnets:make": {"loss_name": "mse"}}}
    Path("c.yaml").write_text(yaml.safe_dump(content))
    words = ["--model.ownnets:make.width", "5", "--max_duration", "2ba", "--schedulers", "constant"]
    status, out, err = limen("train", "-f", "c.yaml", *words)
    assert (status, err) == (0, "")
    assert out.startswith("finished: all 2 steps done")
    sys.modules.pop("ownnets")
