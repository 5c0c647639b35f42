"""Specs of training by minibatches, with the keys of the published configuration files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Interval, doc

from limen import registry
from limen.config import kinds
from limen.config.base import Built, FieldError, Spec
from limen.config.times import ABSOLUTE, in_steps, scaled, usual
from limen.errors import InputError, nearest
from limen.registry.values import Rule

KIND = dict[str, Any]
DEVICE = Rule("auto, cpu, gpu, cuda or cuda:N", re.compile(r"auto|cpu|gpu|cuda(:(0|[1-9][0-9]*))?").fullmatch)
DIGITS = 16
"""Of a hash."""

NOT_HASHED = frozenset(
    ("replicate", "dataloader", "device", "precision", "save_interval", "loggers", "data_dir", "exp_dir")
)
"""What an experiment's hash does not cover, beside the paths of its data."""

WORKERS: kinds.Fields = {
    name: kinds.Field(kind, None)
    for name, kind in (
        ("num_workers", int),
        ("prefetch_factor", int),
        ("persistent_workers", bool),
        ("pin_memory", bool),
        ("timeout", float),
    )
}
"""Of the published data loader: read, and without effect, for there are no workers."""


@dataclass(frozen=True, kw_only=True)
class TrainSpec(Spec):
    """Train by minibatches, as a configuration file says."""

    COMMAND: ClassVar[str] = "train"
    REPLICATE: ClassVar[str] = "replicate"
    OTHERS: ClassVar[Mapping[str, str]] = dict.fromkeys(("exp_hash", "load_batch"), "finetune")
    """Keys of another command, and which."""
    KINDS: ClassVar[tuple[str, ...]] = (
        *("model", "train_data", "eval_data", "optimizer", "schedulers"),
        *("algorithms", "callbacks", "loggers", "probes"),
    )

    model: Annotated[KIND, doc("Network, loss_name among its fields: {vgg16gelu: {loss_name: mse}}.")]
    train_data: Annotated[KIND, doc("Data to train on: {cifar10labelnoise: {sigma: 0.2}}.")]
    train_batch_size: Annotated[int, Ge(1), doc("Examples of a step.")]
    max_duration: Annotated[str, ABSOLUTE.__metadata__[0], doc("How long: 1000ba (batches), 3ep (epochs).")]
    optimizer: Annotated[KIND, doc("Rule: {sgd: {lr: 0.02, momentum: 0.9}}.")]
    eval_data: Annotated[KIND, doc("Data to evaluate on: {cifar10: {}}.")]
    replicate: Annotated[
        int, Interval(ge=0, le=2**31), doc("Which of several runs that differ in nothing else.")
    ] = 0
    schedulers: Annotated[KIND, doc("Of the learning rate: {multistep: {milestones: [6000ba]}}.")] = field(
        default_factory=dict
    )
    eval_batch_size: Annotated[int, Ge(1), doc("Examples that are evaluated at once.")] = 2000
    eval_interval: Annotated[str, ABSOLUTE.__metadata__[0], doc("How often to evaluate.")] = "1ep"
    algorithms: Annotated[KIND, doc("Such as {channels_last: {}, mixup: {alpha: 0.2}}.")] = field(
        default_factory=dict
    )
    callbacks: Annotated[KIND, doc("Such as {checkpoint_saver: {save_interval: 1000ba}}.")] = field(
        default_factory=dict
    )
    loggers: Annotated[KIND, doc("in_memory (always there), wandb.")] = field(default_factory=dict)
    probes: Annotated[KIND, doc("Measurements: {eigs: {neigs: 2, freq: 100}}.")] = field(default_factory=dict)
    dataloader: Annotated[KIND, doc("Read, and without effect: there are no workers.")] = field(
        default_factory=dict
    )
    scale_schedule_ratio: Annotated[
        float, Gt(0), doc("Multiplies the length and the times of the schedule.")
    ] = 1.0
    grad_clip_norm: Annotated[float | None, Gt(0), doc("Scale longer gradients down to this.")] = None
    device: Annotated[str, DEVICE, doc("auto, cpu, gpu, cuda or cuda:N.")] = "auto"
    precision: Annotated[Literal["fp32", "bf16", "amp"], doc("Of the network's passes.")] = "fp32"
    save_interval: Annotated[
        str | None,
        ABSOLUTE.__metadata__[0],
        doc("Time between resumable checkpoints (default: about 30 seconds)."),
    ] = None
    exp_dir: Annotated[str | None, doc("Folder of experiments (default: $EXP_DIR, else exps).")] = None

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a file's values as kinds and fields: `constant` and `{constant: }` are `{constant: {}}`.

        Raises:
            FieldError: a key is one that limen does not have, or a value is no mapping.
        """
        for key in given:
            if key in kinds.UNSUPPORTED:
                raise FieldError(key, f"{key} is not supported: {kinds.UNSUPPORTED[key]}.")
            if "ffcv" in key.lower():
                raise FieldError(key, f"{key} is not supported: {kinds.FFCV}.")
            if key in cls.OTHERS:
                raise FieldError(
                    key,
                    f"{key}: expected only by `limen {cls.OTHERS[key]}`, got it in `limen {cls.COMMAND}`. "
                    f"Use `limen {cls.OTHERS[key]} -f FILE`, or leave it out.",
                )
        out = {key: value for key, value in given.items() if value is not None}
        for key in (*cls.KINDS, "dataloader"):
            if key in out and not (key == "dataloader" and isinstance(out[key], Mapping)):
                out[key] = kinds.mapping(key, out[key])
        return out

    @classmethod
    def how(cls) -> str:
        """Say how values are given."""
        return f"`limen {cls.COMMAND} -f FILE` with a file that says them, or `--name value`"

    def check(self) -> None:
        """Refuse what can be refused without loading anything.

        Raises:
            FieldError: a kind or a field is unknown, missing or does not fit.
        """
        self.with_types()

    @functools.cached_property
    def _typed(self) -> dict[str, KIND]:
        return {
            "model": self._network(),
            "train_data": self._data("train_data"),
            "eval_data": self._data("eval_data"),
            "optimizer": self._optimizer(),
            "schedulers": self._listed("schedulers", kinds.SCHEDULERS, single=True),
            "algorithms": self._listed("algorithms", kinds.ALGORITHMS),
            "callbacks": self._listed("callbacks", kinds.CALLBACKS),
            "loggers": self._listed("loggers", kinds.LOGGERS),
            "dataloader": kinds.typed("dataloader", WORKERS, self.dataloader),
            "probes": {
                name: kinds.plug_in(f"probes.{name}", "probes", name, fields)
                for name, fields in self.probes.items()
            },
        }

    def with_types(self) -> Self:
        """Return the spec with all fields as what their kinds say they are."""
        changes: dict[str, Any] = dict(self._typed)
        for name in ("max_duration", "eval_interval", "save_interval"):
            if (text := getattr(self, name)) is not None:
                changes[name] = usual(text)
        return dataclasses.replace(self, **changes)

    def _listed(self, path: str, known: Mapping[str, kinds.Fields], *, single: bool = False) -> KIND:
        given = getattr(self, path)
        if single and given:
            kinds.one(path, given)
        return {
            kind: kinds.typed(f"{path}.{kind}", kinds.choose(path, kind, known), fields or {})
            for kind, fields in given.items()
        }

    def _optimizer(self) -> KIND:
        kind, fields = kinds.one("optimizer", self.optimizer)
        kinds.choose("optimizer", kind, {name: {} for name in kinds.OPTIMIZERS})
        return {kind: kinds.plug_in(f"optimizer.{kind}", "dynamics", kind, fields)}

    def _network(self) -> KIND:
        kind, given = kinds.one("model", self.model)
        own, path = self.own_fields(kind), f"model.{kind}"
        if kind not in kinds.NETWORKS:
            self._find("model", "models", kind)
        mine = kinds.typed(path, own, {name: value for name, value in given.items() if name in own})
        rest = {name: value for name, value in given.items() if name not in own}
        if mine.get("loss_name") == "ce":
            mine["loss_name"] = "soft_cross_entropy"  # two words for one loss
        return {kind: mine | kinds.plug_in(path, "models", kind, rest)}

    @staticmethod
    def own_fields(kind: str) -> kinds.Fields:
        """Return the fields of a network that are not arguments of its plug-in."""
        return {
            "loss_name": kinds.Field(Literal[kinds.LOSSES], kinds.NETWORKS.get(kind, "soft_cross_entropy")),
            "num_classes": kinds.Field(Annotated[int, Ge(1)], None),
        }

    def _data(self, path: str) -> KIND:
        kind, given = kinds.one(path, getattr(self, path))
        own, here = data_fields(kind), f"{path}.{kind}"
        if "ffcv" in kind.lower():
            raise FieldError(here, f"{here} is not supported: {kinds.FFCV}.")
        if kind in kinds.IMAGE_SETS:
            return {kind: kinds.typed(here, own, given)}
        self._find(path, "data", kind)
        mine = kinds.typed(here, own, {name: value for name, value in given.items() if name in own})
        rest = {name: value for name, value in given.items() if name not in own}
        return {kind: mine | kinds.plug_in(here, "data", kind, rest)}

    @staticmethod
    def _find(path: str, kind: str, name: str) -> None:
        """Refuse a name that neither a plug-in nor the published code has."""
        if registry.is_import_path(name):
            return
        try:
            registry.find(kind, name)
        except InputError:
            published = kinds.NETWORKS if kind == "models" else kinds.IMAGE_SETS
            known = list(dict.fromkeys([*published, *registry.names(kind)]))
            raise FieldError(
                f"{path}.{name}",
                f"{path}: unknown {registry.KINDS[kind]} {name!r}.{nearest(name, known)} "
                f"There are: {', '.join(known)}; or your own as module:function.",
            ) from None

    def root(self) -> Path:
        """Return the folder of experiments."""
        return Path(self.exp_dir or os.environ.get("EXP_DIR") or "exps").expanduser()

    def hash(self) -> str:
        """Return the experiment's name: equal for runs that differ in their replicate, or in where and how they run.

        What is at its default is left out, so that the name stays when limen learns another key.
        """
        said: dict[str, Any] = {"command": self.COMMAND}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name in NOT_HASHED or f.name == "seed":
                continue
            default = f.default if f.default is not dataclasses.MISSING else None
            if f.name in self.KINDS:
                said[f.name] = self._telling(f.name)
            elif value != default:
                said[f.name] = value
        said["seed"] = self.seed
        words = json.dumps({key: value for key, value in said.items() if value != {}}, sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:DIGITS]

    def _telling(self, key: str) -> KIND:
        """Return the kinds of a key without paths and without what is at its default."""
        out: KIND = {}
        own: kinds.Fields
        for kind, fields in self._typed[key].items():
            match key:
                case "train_data" | "eval_data":
                    plain = {
                        name: value for name, value in fields.items() if name not in ("datadir", "download")
                    }
                    own, plug = {**data_fields(kind), **usual_loading(key)}, "data"
                case "model":
                    plain, own, plug = fields, self.own_fields(kind), "models"
                case "optimizer" | "probes":
                    plain, own, plug = fields, {}, "dynamics" if key == "optimizer" else "probes"
                case "schedulers":
                    plain, own, plug = fields, kinds.SCHEDULERS[kind], ""
                case "algorithms":
                    plain, own, plug = fields, kinds.ALGORITHMS[kind], ""
                case _:
                    plain, own, plug = fields, kinds.CALLBACKS.get(kind, {}), ""
            told = kinds.telling(own, plain)
            rest = {name: value for name, value in told.items() if name not in own}
            if plug and not (plug == "data" and kind in kinds.IMAGE_SETS):
                rest = registry.without_defaults(plug, kind, rest)
            out[kind] = {name: value for name, value in told.items() if name in own} | rest
        return {} if key == "schedulers" and out == {"constant": {}} else out

    def folder(self) -> Path:
        """Return `<root>/<hash>/replicate_<r>`."""
        return self.root() / self.hash() / f"replicate_{self.replicate}"

    def duration(self) -> str:
        """Return the length of the run, scaled."""
        return scaled(self.max_duration, self.scale_schedule_ratio)

    def steps(self) -> int:
        """Return the number of batches; the data are loaded where it is given in epochs."""
        duration = self.duration()
        if duration.endswith("ba"):
            return int(duration.removesuffix("ba"))
        from limen.config.engine import steps_per_epoch

        return in_steps(duration, steps_per_epoch(self))

    def build(self) -> Built:
        """Load the data, build the network and put the experiment together."""
        from limen.config.engine import build_training

        return build_training(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec with its command, as run.json keeps it."""
        return {"command": self.COMMAND, **dataclasses.asdict(self)}

    def start_from(self) -> Path | None:
        """Return the checkpoint whose weights the run begins with; None for fresh ones."""
        return None


@dataclass(frozen=True, kw_only=True)
class FinetuneSpec(TrainSpec):
    """Go on from the weights of an experiment with a fresh optimizer."""

    COMMAND: ClassVar[str] = "finetune"
    OTHERS: ClassVar[Mapping[str, str]] = {}

    exp_hash: Annotated[
        str | None, doc("The experiment whose weights to take (`limen train -f FILE --get_name`).")
    ] = None
    load_batch: Annotated[
        str | None,
        Rule("a number of batches such as 20000", re.compile(r"\d+(ba)?").fullmatch),
        doc("Which of its checkpoints: 20000 is checkpoints/state_20000ba.pt."),
    ] = None

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a file's values; a number of batches is as good as a word, and so is a hash of digits alone."""
        out = super().usual(given)
        words = {key: str(out[key]) for key in ("load_batch", "exp_hash") if isinstance(out.get(key), int)}
        if isinstance(text := {**out, **words}.get("load_batch"), str):
            count = text.removesuffix("ba")
            words["load_batch"] = str(int(count)) if count.isdecimal() else count
        return out | words

    def start_from(self) -> Path:
        """Return the checkpoint whose weights the run begins with.

        Raises:
            FieldError: the experiment or its checkpoint is not named.
        """
        if self.exp_hash is None:
            raise FieldError(
                "exp_hash",
                "exp_hash: expected the name of an experiment (`limen train -f FILE --get_name` prints it), got none. "
                "To begin with fresh weights use `limen train`.",
            )
        if self.load_batch is None:
            raise FieldError(
                "load_batch", "load_batch: expected a number of batches such as 20000, got none."
            )
        folder = self.root() / self.exp_hash / f"replicate_{self.replicate}"
        return folder / "checkpoints" / f"state_{self.load_batch}ba.pt"


def data_fields(kind: str) -> kinds.Fields:
    """Return the fields of a data set that are not arguments of its plug-in."""
    return {**kinds.LOADING, **kinds.IMAGE_SETS.get(kind, kinds.LABEL_NOISE)}


def usual_loading(path: str) -> kinds.Fields:
    """Return the fields of loading with the defaults of training or of evaluation."""
    train = path == "train_data"
    return {name: kinds.Field(bool, train) for name in ("is_train", "drop_last", "shuffle")}
