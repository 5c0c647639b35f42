"""From a Spec class to a command line: its fields become arguments, a YAML file may give them, words win."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from cyclopts import Group, Parameter, Token

from limen.cli import yaml_file
from limen.config import Spec, help_of, validate
from limen.registry.values import plain

S = TypeVar("S", bound=Spec)

NAMES = Parameter(name_transform=lambda name: name, negative=())
"""Options keep the underscores of the published commands; hyphens are accepted too."""

GROUPS = {
    "Problem": ("dataset", "arch", "loss", "opt", "lr", "beta", "max_steps", "seed", "dtype", "model", "data"),
    "Stopping": ("acc_goal", "loss_goal"),
    "Measurements": (
        *("neigs", "eig_freq", "eig_tol", "abridged_size", "nproj", "iterate_freq", "test_freq"),
        *("save_freq", "save_model"),
    ),
    "Running": ("device", "physical_batch_size", "results", "data_dir", "checkpoint_freq", "config"),
}
"""Where the help shows an option; one that is not here belongs to the problem."""


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
    """Return a function whose signature is the fields of `cls` and that runs `action` on the spec it is given."""

    def run(*args: Any, **given: Any) -> int:
        bound = run.__signature__.bind(*args, **given).arguments  # type: ignore[attr-defined]
        config = bound.pop("config", None)
        execution = Execution(**{key: bound.pop(key) for key in EXECUTION_HELP if key in bound})
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
    ordered = [*cls.POSITIONAL, *(name for name in fields if name not in cls.POSITIONAL)]
    parameters = []
    for name in ordered:
        text, default = help_of(hints[name]), fields[name].default
        required = default is dataclasses.MISSING and fields[name].default_factory is dataclasses.MISSING
        shown = "" if required or default in (None, dataclasses.MISSING) else f" [default: {default}]"
        about = Parameter(help=text + shown, show_default=False, converter=_converter(hints[name]))
        positional = name in cls.POSITIONAL
        # a YAML file may give what the command line leaves out: what is required is judged after merging
        parameters.append(_parameter(name, Annotated[hints[name] | None, about], positional=positional))
    config = Annotated[str | None, Parameter(help="YAML file with any of these; the command line wins.")]
    parameters.append(_parameter("config", config))
    for name, text in EXECUTION_HELP.items():
        parameters.append(_parameter(name, Annotated[bool | None, Parameter(help=text, show_default=False)]))
    return parameters


def _parameter(name: str, annotation: Any, *, positional: bool = False) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


def _converter(annotation: Any) -> Callable[[Any, Any], Any] | None:
    """Leave numbers and choices as words: `config.validate` judges them, whatever file or line they come from."""
    plain = getattr(annotation, "__origin__", annotation)
    return None if plain is bool or getattr(plain, "__origin__", plain) is dict else _word


def _word(kind: Any, tokens: list[Token]) -> str:
    return tokens[0].value


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
    flags = {f"--{name}" for name in ("save_model", *EXECUTION_HELP)}
    out: list[str] = []
    for word in words:
        if out and word.lower() in ("true", "false") and "--" + out[-1][2:].replace("-", "_") in flags:
            out[-1] = f"{out[-1]}={word}"
        else:
            out.append(word)
    return out
