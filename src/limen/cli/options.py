"""From a Spec class to a command line: its fields become arguments, a YAML file may give them, words win."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter

from limen.cli import yaml_file
from limen.config import Spec, help_of, validate
from limen.errors import InputError
from limen.registry.values import plain

S = TypeVar("S", bound=Spec)

NAMES = Parameter(name_transform=lambda name: name, negative=())
"""Options keep the underscores of the published commands; hyphens are accepted too."""

GROUPS = {
    "Problem": (
        "dataset",
        "arch",
        "loss",
        "opt",
        "lr",
        "beta",
        "max_steps",
        "tick",
        "max_time",
        "seed",
        "dtype",
        "model",
        "data",
    ),
    "Stopping": ("acc_goal", "loss_goal"),
    "Gradient flow": ("integrator", "rtol", "certify", "alpha", "max_step_size", "track_flow", "track_freq"),
    "Measurements": (
        *("neigs", "eig_freq", "eig_tol", "eig_above", "abridged_size", "audit_freq", "audit_steps"),
        *("nproj", "iterate_freq", "projection", "test_freq", "save_freq", "save_model"),
    ),
    "Running": (
        "device",
        "physical_batch_size",
        "results",
        "data_dir",
        "checkpoint_freq",
        "config",
        "resume",
        "overwrite",
        "quiet",
    ),
}
"""Where the help shows an option; one that is not here belongs to the problem."""

SWITCHES: set[str] = set()
"""Options that stand alone or before True or False."""


@dataclasses.dataclass(frozen=True)
class Execution:
    """How to run, as opposed to what: never part of a spec.

    Attributes:
        resume: go on with an unfinished run.
        overwrite: replace an existing run.
        quiet: no progress bar and no messages.
    """

    resume: bool = False
    overwrite: bool = False
    quiet: bool = False


EXECUTION_HELP = {
    "resume": "Go on with an unfinished run, or with a finished one to a larger number of steps.",
    "overwrite": "Replace an existing run.",
    "quiet": "No progress bar and no messages.",
}


def command(cls: type[S], action: Callable[[S, Execution], int]) -> Callable[..., int]:
    """Return a function that takes the fields of `cls` and runs `action` on the spec they make."""

    def run(*args: Any, **given: Any) -> int:
        bound = run.__signature__.bind(*args, **given).arguments  # type: ignore[attr-defined]
        config = bound.pop("config", None)
        execution = Execution(**{key: bound.pop(key) for key in EXECUTION_HELP if key in bound})
        if execution.resume and execution.overwrite:
            raise InputError(
                "resume, overwrite: expected one of them, got both. Go on with the run, or discard it."
            )
        words = {key: value for key, value in bound.items() if value is not None}
        file = yaml_file.load(Path(config)) if config is not None else {}
        origin = {key: str(config) for key in file if key not in words}
        return action(validate(cls, _merge(file, words), origin), execution)

    parameters = _parameters(cls)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__, run.__doc__ = cls.COMMAND, cls.__doc__
    return run


def _parameters(cls: type[Spec]) -> list[inspect.Parameter]:
    hints = get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    ordered = [*cls.POSITIONAL, *sorted(fields.keys() - set(cls.POSITIONAL), key=_place)]
    parameters = []
    for name in ordered:
        kind, default = plain(hints[name]), fields[name].default
        shown = "" if default in (None, dataclasses.MISSING) else f" [default: {default}]"
        about = Parameter(help=help_of(hints[name]) + shown, metavar=_metavar(kind), group=_group(name))
        # numbers and choices stay words: `config.validate` judges them, whatever file or line they come from
        kind = kind if kind is bool or get_origin(kind) is dict else str
        parameters.append(_parameter(name, kind, about, positional=name in cls.POSITIONAL))
        SWITCHES.update({name} if kind is bool else ())
    config = "YAML file with any of these, by name; what the command line says goes before."
    parameters.append(
        _parameter("config", str, Parameter(help=config, metavar="FILE", group=_group("config")))
    )
    for name, text in EXECUTION_HELP.items():
        parameters.append(_parameter(name, bool, Parameter(help=text, group=_group(name))))
        SWITCHES.add(name)
    return parameters


def _parameter(name: str, kind: Any, about: Parameter, *, positional: bool = False) -> inspect.Parameter:
    # a YAML file may give what the command line leaves out: what is required is judged after merging
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, place, default=None, annotation=Annotated[kind | None, about])


def _group(name: str) -> Group:
    title = next((title for title, names in GROUPS.items() if name in names), "Problem")
    return Group(title, sort_key=list(GROUPS).index(title))


def _place(name: str) -> int:
    ordered = [name for names in GROUPS.values() for name in names]
    return ordered.index(name) if name in ordered else 0


def _metavar(kind: Any) -> str:
    words = {int: "INT", float: "FLOAT", str: "TEXT"}
    return "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else words.get(kind, "")


def _merge(file: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    """Return the file's values overridden by the command line's; dotted options override key by key."""
    nested = {
        key: file[key] | words[key]
        for key in words
        if isinstance(words[key], dict) and isinstance(file.get(key), dict)
    }
    return {**file, **words, **nested}


def normalise(words: list[str]) -> list[str]:
    """Join `--flag True` to `--flag=True`: the published commands take their switches either way."""
    out: list[str] = []
    for word in words:
        if out and word.lower() in ("true", "false") and _is_switch(out[-1]):
            out[-1] = f"{out[-1]}={word}"
        else:
            out.append(word)
    return out


def _is_switch(word: str) -> bool:
    return word.startswith("--") and word[2:].replace("-", "_") in SWITCHES
