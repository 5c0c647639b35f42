"""The kinds that a training configuration chooses from, and the fields of each.

`optimizer: {sgd: {lr: 0.1}}` chooses the kind `sgd` and gives its fields. Models, data sets, optimizers and probes
are plug-ins and their fields the arguments of `make`; the others are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval

from limen import registry
from limen.config.base import FieldError
from limen.config.times import ABSOLUTE, TIME, read_absolute, read_list, read_time
from limen.errors import InputError, nearest
from limen.registry.values import Mismatch, read

PROBABILITY = Annotated[float, Interval(ge=0, le=1)]
POSITIVE = Annotated[float, Gt(0)]
NOT_NEGATIVE = Annotated[float, Ge(0)]
MISSING: Any = object()


@dataclass(frozen=True)
class Field:
    """One field of a kind.

    Attributes:
        type: an annotation, as `registry.values.read` takes it.
        default: where it is left out; `MISSING` if it must be given.
        reader: reads the value instead.
    """

    type: Any
    default: Any = MISSING
    reader: Callable[[Any], Any] | None = None

    def read(self, value: Any) -> Any:
        """Return a value as the field's type.

        Raises:
            Mismatch: it is none.
        """
        return self.reader(value) if self.reader is not None else read(self.type, value)


Fields = Mapping[str, Field]

MILESTONES = Field(list, reader=read_list)
WARMUP = Field(TIME, reader=read_time)
SCALE_WARMUP = Field(bool, False)
T_MAX = Field(TIME, "1dur", read_time)
ALPHA_I, ALPHA_F, GAMMA = Field(NOT_NEGATIVE, 1.0), Field(NOT_NEGATIVE, 0.0), Field(NOT_NEGATIVE, 0.1)
SCHEDULERS: Mapping[str, Fields] = {
    "constant": {"alpha": Field(NOT_NEGATIVE, 1.0)},
    "multistep": {"milestones": MILESTONES, "gamma": GAMMA},
    "multistep_with_warmup": {
        "t_warmup": WARMUP,
        "milestones": MILESTONES,
        "gamma": GAMMA,
        "scale_warmup": SCALE_WARMUP,
    },
    "linear_decay": {"alpha_i": ALPHA_I, "alpha_f": ALPHA_F, "t_max": T_MAX},
    "linear_decay_with_warmup": {
        "t_warmup": WARMUP,
        "alpha_i": ALPHA_I,
        "alpha_f": ALPHA_F,
        "t_max": T_MAX,
        "scale_warmup": SCALE_WARMUP,
    },
    "cosine_decay": {"t_max": T_MAX, "alpha_f": ALPHA_F},
    "cosine_decay_with_warmup": {
        "t_warmup": WARMUP,
        "t_max": T_MAX,
        "alpha_f": ALPHA_F,
        "scale_warmup": SCALE_WARMUP,
    },
    "cosine_warmrestart": {
        "t_0": Field(TIME, reader=read_time),
        "t_mult": Field(Annotated[int, Ge(1)], 1),
        "alpha_f": ALPHA_F,
    },
}
ALGORITHMS: Mapping[str, Fields] = {
    "channels_last": {},
    "label_smoothing": {"smoothing": Field(PROBABILITY, 0.1)},
    "mixup": {"alpha": Field(POSITIVE, 0.2)},
    "cutmix": {"alpha": Field(POSITIVE, 1.0)},
    "cutout": {"length": Field(PROBABILITY, 0.5)},
    "ema": {"half_life": Field(TIME, "1000ba", read_time)},
    "swa": {
        "swa_start": Field(TIME, "0.7dur", read_time),
        "update_interval": Field(ABSOLUTE, "1ep", read_absolute),
    },
    "sam": {"rho": Field(POSITIVE, 0.05)},
}
CALLBACKS: Mapping[str, Fields] = {
    "lr_monitor": {},
    "checkpoint_saver": {"save_interval": Field(ABSOLUTE, "1ep", read_absolute)},
    "grad_monitor": {"log_layer_grad_norms": Field(bool, False)},
    "speed_monitor": {"window_size": Field(Annotated[int, Ge(1)], 100)},
}
LOGGERS: Mapping[str, Fields] = {
    "in_memory": {},
    "wandb": {
        "project": Field(str | None, None),
        "entity": Field(str | None, None),
        "name": Field(str | None, None),
        "group": Field(str | None, None),
        "tags": Field(list, None, reader=lambda value: value),
    },
}
OPTIMIZERS = ("sgd", "decoupled_sgdw", "adam")
LOSSES = ("soft_cross_entropy", "mse", "ce")

LOADING: Fields = {
    "is_train": Field(bool, None),
    "drop_last": Field(bool, None),
    "shuffle": Field(bool, None),
    "datadir": Field(str | None, None),
    "download": Field(bool, False),
}
"""What every data set takes. What is None depends on whether it trains or evaluates."""
LABEL_NOISE: Fields = {"sigma": Field(PROBABILITY, 0.0)}
"""Of every other set: the probability that a label is replaced, afresh each time it is drawn."""
IMAGE_SETS: Mapping[str, Fields] = {
    "cifar10": {},
    "cifar100": {},
    "cifar10labelnoise": {"sigma": Field(PROBABILITY, 0.0)},
    "cifar100labelnoise": {"sigma": Field(PROBABILITY, 0.0)},
    "cifar10noisy": {"sigma": Field(NOT_NEGATIVE, 0.0)},
    "cifar10noiseless": {},
    "imagenet": {
        "resize_size": Field(Annotated[int, Interval(ge=-1)], -1),
        "crop_size": Field(Annotated[int, Ge(1)], 224),
    },
}
"""The published image sets, which have their own crop, flip and scale."""

NETWORKS: Mapping[str, str] = {
    **dict.fromkeys(("vgg16", "vgg16gelu", "vgg16bngelu", "vgg16geludo"), "mse"),
    **dict.fromkeys(("resnet", "resnetlowres"), "soft_cross_entropy"),
}
"""The published networks, and the loss where none is named."""

FFCV = (
    "limen keeps the images on the device and needs no FFCV files: name the plain data set, such as cifar10"
)
STORE = "checkpoints are written to the run folder: leave it out, and copy checkpoints/ afterwards"
UNSUPPORTED: Mapping[str, str] = {
    "object_store": STORE,
    "load_object_store": STORE,
    "load_path": "use `limen finetune` with exp_hash and load_batch, or --resume",
    "save_folder": "set EXP_DIR or --exp_dir",
    "grad_accum": "lower train_batch_size",
    "run_name": "a run is named by its hash (--get_name)",
    "validate_every_n_batches": "use eval_interval: 100ba",
    "validate_every_n_epochs": "use eval_interval: 1ep",
    "train_subset_num_batches": "use max_duration: 20ba",
    "eval_subset_num_batches": "leave it out: all of eval_data is used",
    "deterministic_mode": "leave it out: runs are reproducible as they are",
    "deepspeed": "use torchrun",
    "profiler": "use callbacks: {speed_monitor: {}}",
}
"""Published keys that limen does not have, and the nearest way there is."""


def split(path: str) -> tuple[str, str]:
    """Return the first name of a dotted path, and the rest; `module:function` is one name.

    >>> split("sgd.lr"), split("own.nets:make.width")
    (('sgd', 'lr'), ('own.nets:make', 'width'))
    """
    module, colon, name = path.partition(":")
    head, _, rest = (name if colon else path).partition(".")
    return (f"{module}:{head}" if colon else head), rest


def mapping(path: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return the kinds in a value: `sgd`, `{sgd: }` and `{sgd: {}}` are the same, and keys with dots are nested.

    >>> mapping("optimizer", {"sgd": {"lr": 0.1}, "sgd.momentum": 0.9})
    {'sgd': {'lr': 0.1, 'momentum': 0.9}}

    Raises:
        FieldError: it is something else.
    """
    given = {value: {}} if isinstance(value, str) else {} if value is None else value
    if not isinstance(given, Mapping):
        raise FieldError(path, f"{path}: expected a mapping such as {{kind: {{…}}}}, got {value!r}.")
    out: dict[str, dict[str, Any]] = {}
    for key, fields in given.items():
        kind, field = split(str(key))
        here = out.setdefault(kind, {})
        if field:
            here[field] = fields
        elif isinstance(fields, Mapping):
            here.update({str(name): item for name, item in fields.items()})
        elif fields is not None:
            raise FieldError(
                f"{path}.{kind}",
                f"{path}.{kind}: expected a mapping of its fields such as {{{_example(path)}}}, got {fields!r}.",
            )
    return out


def _example(path: str) -> str:
    examples = {"optimizer": "lr: 0.1", "schedulers": "milestones: [1000ba]", "model": "loss_name: mse"}
    return examples.get(path, "…: …")


def one(path: str, kinds: Mapping[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the only kind and its fields.

    Raises:
        FieldError: there are none, or several.
    """
    if len(kinds) != 1:
        got = ", ".join(kinds) if kinds else "none"
        raise FieldError(path, f"{path}: expected one kind, a mapping with one key, got {got}.")
    ((kind, fields),) = kinds.items()
    return kind, fields


def choose(path: str, kind: str, known: Mapping[str, Fields]) -> Fields:
    """Return the fields of a kind.

    Raises:
        FieldError: there is no such kind; the message lists those that are there.
    """
    if kind not in known:
        more = f" {FFCV}." if "ffcv" in kind.lower() else nearest(kind, known)
        raise FieldError(
            f"{path}.{kind}", f"{path}: limen has no {kind!r}.{more} There are: {', '.join(known)}."
        )
    return known[kind]


def typed(path: str, fields: Fields, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given fields at `path` with their types.

    Raises:
        FieldError: one is unknown, missing, or of the wrong type.
    """
    out = {}
    for name, value in given.items():
        if name not in fields:
            if "ffcv" in name.lower():
                raise FieldError(f"{path}.{name}", f"{path}.{name} is not supported: {FFCV}.")
            raise FieldError(
                f"{path}.{name}",
                f"{path}: unknown field {name!r}.{nearest(name, fields)} It takes: {', '.join(fields) or 'none'}.",
            )
        try:
            out[name] = fields[name].read(value)
        except Mismatch as error:
            raise FieldError(f"{path}.{name}", f"{path}.{name}: {error}") from None
    for name, field in fields.items():
        if field.default is MISSING and name not in given:
            raise FieldError(f"{path}.{name}", f"{path}.{name}: expected a value, got none.")
    return out


def filled(fields: Fields, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed fields with those that were left out at their defaults."""
    return {name: field.default for name, field in fields.items() if field.default is not MISSING} | dict(
        given
    )


def telling(fields: Fields, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the typed fields that are not at their defaults."""
    return {
        name: value for name, value in given.items() if name not in fields or fields[name].default != value
    }


def plug_in(path: str, kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a plug-in with their types; what `make` must have is there.

    Raises:
        FieldError: the plug-in or an argument is unknown, missing, or of the wrong type.
    """
    try:
        arguments = registry.check_arguments(kind, name, given)
        if not registry.is_import_path(name):
            family, spelled = registry.find(kind, name)
            for argument, (_, default) in family.arguments.items():
                if not default and argument not in {*given, *spelled, *registry.SUPPLIED}:
                    raise FieldError(f"{path}.{argument}", "expected a value, got none.")
    except FieldError as error:
        raise FieldError(error.field, f"{error.field}: {error}") from None
    except InputError as error:
        about = re.search(r"argument (?:(\w+):|'([^']+)')|already says (\w+)=", str(error))
        word = "" if about is None else next(filter(None, about.groups()))
        where = f"{path}.{word}" if word else path
        raise FieldError(where, f"{where}: {error}") from None
    return arguments
