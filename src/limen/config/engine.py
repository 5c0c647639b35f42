"""From a training spec to an experiment: data, network, optimizer, schedule and what watches them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from limen import data as datasets
from limen import dynamics, models, registry
from limen.config import kinds
from limen.config.base import Built, FieldError, Keeping, network_info, place
from limen.config.times import in_steps, scaled
from limen.config.training import TrainSpec, data_fields, usual_loading
from limen.dynamics._around import EMA, SAM, SWA
from limen.dynamics.schedules import SCHEDULES, Constant, Schedule
from limen.errors import DataError, InputError
from limen.objectives.ranks import Ranks
from limen.objectives.training import Training
from limen.probes import Test, Train
from limen.probes._monitors import GradientNorm, LearningRate
from limen.randomness import generator
from limen.run import Experiment
from limen.streams import Minibatches
from limen.types import Dynamics, Probe, State
from limen.types import Schedule as Every

if TYPE_CHECKING:
    from limen.data import ImageSet
    from limen.dynamics._scheduled import Scheduled

NOISE = re.compile(r"(?<=cifar10|ifar100)(labelnoise|noisy|noiseless)$")


def build_training(spec: TrainSpec) -> Built:
    """Load the data, build the network and put the experiment together.

    Raises:
        FieldError: a value does not fit the data or the network.
        DataError: data files, or the checkpoint to start from, are missing or damaged.
    """
    with _within("device"):
        device = place(spec.device)
        if Ranks.join(device).world > 1 and device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    notes: list[str] = []
    kind, fields = kinds.one("train_data", spec.train_data)
    trained = _images(spec, "train_data", kind, fields, notes)
    stream = _stream(spec, trained, kind, fields, device)
    objective = _objective(spec, trained, _evaluated(spec, trained, kind, fields, notes), device)
    total = in_steps(spec.duration(), stream.steps_per_epoch)
    if total < 1:
        raise FieldError("max_duration", f"max_duration: expected at least one batch, got {spec.duration()}.")
    rule = _rule(spec, stream.steps_per_epoch, total)
    every = {
        name: max(1, in_steps(text, stream.steps_per_epoch))
        for name, text in (("eval", spec.eval_interval), ("keep", spec.save_interval or "0ba"))
    }
    test = Test(Every(every["eval"], start=1))  # as published, not before training
    own = [_probe(name, fields) for name, fields in spec.probes.items()]
    experiment = Experiment(
        objective,
        _around(spec, rule, stream.steps_per_epoch, total),
        total,
        [Train(), test, *_monitors(spec, rule, objective), *own],
        stream=stream,
        closing=(test, *own),
        seen=stream.describe(),
    )
    _refuse_alone(spec, kind, objective, stream, total)
    with _within("probes"):
        experiment.begin()  # probes refuse what does not fit before a folder is made
    saver = spec.callbacks.get("checkpoint_saver")
    info = {
        "data_hash": stream.describe()["data"],
        "steps_per_epoch": stream.steps_per_epoch,
        "batch_size": spec.train_batch_size,
        **network_info(trained.test_images, trained.outputs),
        "loss": objective.loss.name,
        "state_freq": 0
        if saver is None
        else max(1, in_steps(_filled("checkpoint_saver", saver)["save_interval"], stream.steps_per_epoch)),
    }
    freq = every["keep"] if spec.save_interval is not None else -1
    return Built(experiment, spec.folder(), info, notes, Keeping(freq))


@contextlib.contextmanager
def _within(path: str) -> Iterator[None]:
    """Say in a refusal which key it concerns."""
    try:
        yield
    except FieldError:
        raise
    except InputError as error:
        text = str(error)
        raise FieldError(path, text if text.startswith(path) else f"{path}: {text}") from error


def steps_per_epoch(spec: TrainSpec) -> int:
    """Return how many batches an epoch of the spec's data has."""
    kind, fields = kinds.one("train_data", spec.train_data)
    return _stream(spec, _images(spec, "train_data", kind, fields, []), kind, fields, "cpu").steps_per_epoch


def _filled(callback: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return kinds.filled(kinds.CALLBACKS[callback], given)


def _images(spec: TrainSpec, path: str, kind: str, fields: Mapping[str, Any], notes: list[str]) -> ImageSet:
    """Load a data set; a folder that a file names and this machine has not is looked for where data are."""
    here = f"{path}.{kind}"
    loading = {**usual_loading(path), **fields}
    asked = path == "train_data"
    if (is_train := fields.get("is_train")) is not None and is_train is not asked:
        raise FieldError(
            f"{here}.is_train",
            f"{here}.is_train: expected {asked}: limen trains on training data and evaluates held-out data, "
            f"got {loading['is_train']}.",
        )
    folder = fields.get("datadir") or None
    if folder is not None:
        folder = str(Path(os.path.expandvars(folder)).expanduser())
        if not Path(folder).is_dir() and (
            spec.data_dir or os.environ.get("DATA_DIR") or os.environ.get("DATASETS")
        ):
            notes.append(
                f"{here}.datadir: there is no folder {folder}; looking where the data of this machine are."
            )
            folder = None
    folder = folder or spec.data_dir
    rest = {name: value for name, value in fields.items() if name not in kinds.LOADING}
    if fields.get("download") and kind in kinds.IMAGE_SETS and kind != "imagenet":
        datasets.fetch(NOISE.sub("", kind), folder)
    try:
        with _within(here):
            return datasets.images(kind, rest, folder)
    except DataError as error:
        raise DataError(f"{here}: {error}") from error


def _evaluated(
    spec: TrainSpec, trained: ImageSet, kind: str, fields: Mapping[str, Any], notes: list[str]
) -> ImageSet:
    """Load what is evaluated on: the set that is trained on, where it is the same but for noise."""
    other, its = kinds.one("eval_data", spec.eval_data)

    def identity(name: str, given: Mapping[str, Any]) -> tuple[Any, ...]:
        own = data_fields(name)
        rest = {key: value for key, value in given.items() if key not in own}
        return NOISE.sub("", name), given.get("datadir"), sorted(rest.items(), key=str)

    if identity(other, its) == identity(kind, fields) and its.get("is_train") is not True:
        return trained
    evaluated = _images(spec, "eval_data", other, its, notes)
    shapes = [tuple(x.images.shape[1:]) for x in (trained, evaluated)]
    if trained.classes != evaluated.classes or shapes[0] != shapes[1]:
        raise FieldError(
            "eval_data",
            f"eval_data.{other}: expected {trained.classes} classes and inputs {shapes[0]} as {kind} has, "
            f"got {evaluated.classes} and {shapes[1]}.",
        )
    return evaluated


def _stream(
    spec: TrainSpec, trained: ImageSet, kind: str, fields: Mapping[str, Any], device: str
) -> Minibatches:
    if spec.train_batch_size > len(trained.images):
        raise FieldError(
            "train_batch_size",
            f"train_batch_size: expected at most {len(trained.images)}, the number of examples of {kind}, "
            f"got {spec.train_batch_size}.",
        )
    mixing = {
        name: kinds.filled(kinds.ALGORITHMS[name], spec.algorithms[name])[number]
        for name, number in (("cutout", "length"), ("mixup", "alpha"), ("cutmix", "alpha"))
        if name in spec.algorithms
    }
    rest = {name: value for name, value in fields.items() if name not in kinds.LOADING}
    with _within("train_data"):
        drawn = trained.stream(rest)
    noisy = drawn.get("label_noise") is not None or drawn.get("target_noise") is not None
    _refuse_unfit(kind, trained, noisy, spec.algorithms)
    with _within("train_data"):
        return Minibatches(
            trained.images,
            trained.labels,
            spec.train_batch_size,
            seed=spec.seed,
            replicate=spec.replicate,
            shuffle=fields.get("shuffle", True),
            drop_last=fields.get("drop_last", True),
            device=device,
            **drawn,
            **mixing,
        )


def _refuse_alone(spec: TrainSpec, kind: str, objective: Training, stream: Minibatches, total: int) -> None:
    """Refuse a batch of so few examples that the network, its BatchNorm above all, cannot train on it."""
    rest = 0 if stream.drop_last else stream.n % stream.batch_size
    last = stream.steps_per_epoch - 1
    if rest and last < total:
        path = f"train_data.{kind}.drop_last"
        said = f"expected True, for an epoch's last batch would have {rest} of {stream.n} examples"
    else:
        path, rest, last = "train_batch_size", stream.batch_size, 0
        said = f"expected more, got {rest}"
    if rest >= max(2, objective.ranks.world):
        return
    try:
        _ = objective.at(State(objective.start(), torch.zeros(())), stream(last)).loss
    except ValueError as error:  # PyTorch's BatchNorm raises it, and InputError is one
        raise FieldError(path, f"{path}: {said}: {str(error).splitlines()[0].rstrip('.')}.") from error


def _refuse_unfit(kind: str, trained: ImageSet, noisy: bool, algorithms: Mapping[str, Any]) -> None:
    """Refuse by its key what the data are not made for."""
    words = trained.labels.ndim > 1 and not trained.labels.is_floating_point()
    one_class, images = not words and trained.classes is not None, trained.images.ndim == 4
    needs = {
        f"train_data.{kind}.sigma": (noisy and words, "one class an example"),
        "algorithms.label_smoothing": (not one_class, "one class an example"),
        "algorithms.mixup": (words, "one target an example, rather than words"),
        "algorithms.cutmix": (not images, "images"),
        "algorithms.cutout": (not images, "images"),
    }
    for path, (unfit, expected) in needs.items():
        head, _, name = path.partition(".")
        if unfit and (head == "train_data" or name in algorithms):
            raise FieldError(path, f"{path}: expected data with {expected}, got {kind}. Leave it out.")


def _objective(spec: TrainSpec, trained: ImageSet, evaluated: ImageSet, device: str) -> Training:
    kind, fields = kinds.one("model", spec.model)
    own = spec.own_fields(kind)
    said = kinds.filled(own, {name: value for name, value in fields.items() if name in own})
    if said["num_classes"] is not None and said["num_classes"] != trained.classes:
        raise FieldError(
            "model",
            f"model.{kind}.num_classes: expected {trained.classes}, as many as the data have, "
            f"got {said['num_classes']}.",
        )
    arguments = {name: value for name, value in fields.items() if name not in ("loss_name", "num_classes")}
    shape = tuple(evaluated.test_images.shape[1:])
    seed = generator(spec.seed, "weights", spec.replicate).initial_seed() & (2**63 - 1)
    with _within("model"):
        module = models.build(
            kind, input_shape=shape, outputs=trained.outputs, seed=seed, arguments=arguments
        )
        algorithms = spec.algorithms
        smoothing = algorithms.get("label_smoothing")
        objective = Training(
            module,
            said["loss_name"],
            evaluation=(evaluated.test_images, evaluated.test_labels),
            eval_batch_size=spec.eval_batch_size,
            device=device,
            precision=spec.precision,
            channels_last="channels_last" in algorithms,
            label_smoothing=0.0
            if smoothing is None
            else kinds.filled(kinds.ALGORITHMS["label_smoothing"], smoothing)["smoothing"],
        )
    if (start := spec.start_from()) is not None:
        _take(objective, start)
    return objective


def _take(objective: Training, checkpoint: Path) -> None:
    """Give the network the weights and buffers of a checkpoint."""
    from limen.models.checkpoint import read_weights

    if not checkpoint.is_file():
        found = sorted(checkpoint.parent.glob("state_*ba.pt"), key=lambda path: (len(path.name), path.name))
        has = (
            f"It has: {', '.join(path.name for path in found)}."
            if found
            else "There are no such files at all."
        )
        field = "load_batch" if found else "exp_hash"
        raise FieldError(field, f"{field}: expected the checkpoint {checkpoint}, but there is none. {has}")
    weights = read_weights(checkpoint)
    module = objective.training.module
    own = module.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unlike = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or extra or unlike:
        named = {"lacks": missing, "has besides": extra, "has in another shape": unlike}
        said = "; ".join(
            f"{words} {', '.join(found[:3])}{' …' if found[3:] else ''}"
            for words, found in named.items()
            if found
        )
        raise FieldError("model", f"model: the checkpoint {checkpoint} is of another network: it {said}.")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def _rule(spec: TrainSpec, per_epoch: int, total: int) -> Scheduled:
    kind, fields = kinds.one("optimizer", spec.optimizer)
    with _within(f"optimizer.{kind}"):
        rule: Scheduled = dynamics.make(kind, fields)  # type: ignore[assignment]
        rule = replace(rule, schedule=_schedule(spec, per_epoch, total), grad_clip_norm=spec.grad_clip_norm)
    return rule


def _around(spec: TrainSpec, rule: Dynamics, per_epoch: int, total: int) -> Dynamics:
    """Return the rule with the algorithms around it that the spec asks for."""
    asked: dict[str, dict[str, Any]] = {
        name: kinds.filled(kinds.ALGORITHMS[name], spec.algorithms[name])
        for name in ("sam", "ema", "swa")
        if name in spec.algorithms
    }
    if asked.keys() >= {"ema", "swa"}:
        raise FieldError(
            "algorithms", "algorithms: expected one average of the weights, got ema and swa. Keep one."
        )

    def steps(name: str, field: str) -> int:
        return in_steps(asked[name][field], per_epoch, total)

    with _within("algorithms"):
        if "sam" in asked:
            rule = SAM(rule, asked["sam"]["rho"])
        if "ema" in asked:
            rule = EMA(rule, steps("ema", "half_life"))
        if "swa" in asked:
            rule = SWA(rule, steps("swa", "swa_start"), max(1, steps("swa", "update_interval")))
    return rule


def _schedule(spec: TrainSpec, per_epoch: int, total: int) -> Schedule:
    """Return the schedule with its times in batches; milestones scale with the run, the warm-up where it is said."""
    if not spec.schedulers:
        return Constant()
    kind, given = kinds.one("schedulers", spec.schedulers)
    fields = kinds.filled(kinds.SCHEDULERS[kind], given)
    ratio = spec.scale_schedule_ratio
    warmup_ratio = ratio if fields.pop("scale_warmup", False) else 1.0

    def steps(text: str, by: float) -> int:
        return in_steps(scaled(text, by), per_epoch, total)

    for name in ("t_max", "t_0"):
        if name in fields:
            fields[name] = steps(fields[name], ratio)
    if "t_warmup" in fields:
        fields["t_warmup"] = steps(fields["t_warmup"], warmup_ratio)
    if "milestones" in fields:
        fields["milestones"] = tuple(steps(text, ratio) for text in fields["milestones"])
    with _within(f"schedulers.{kind}"):
        return SCHEDULES[kind](**fields)


def _monitors(spec: TrainSpec, rule: Scheduled, objective: Training) -> list[Probe]:
    found: list[Probe] = []
    if "lr_monitor" in spec.callbacks:
        found.append(LearningRate(rule.lr_at))
    if (monitor := spec.callbacks.get("grad_monitor")) is not None:
        layers = _filled("grad_monitor", monitor)["log_layer_grad_norms"]
        found.append(GradientNorm(objective.unflatten if layers else None))
    return found


def _probe(name: str, fields: Mapping[str, Any]) -> Probe:
    with _within(f"probes.{name}"):
        made = registry.make("probes", name, fields)
        if not isinstance(made, Probe):
            raise InputError(f"probe {name!r}: expected a limen.types.Probe, got {type(made).__name__}.")
    return made
