"""`limen train` and `limen finetune`: training by minibatches, as a configuration file says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import App, Parameter

from limen.cli import yaml_file
from limen.cli.execute import execute
from limen.cli.options import EXECUTION_HELP, Execution
from limen.config import FieldError, FinetuneSpec, TrainSpec, help_of, validate
from limen.config.kinds import split
from limen.errors import InputError

TRAIN = """Train by minibatches, as a YAML file says.

Each key of the file may be given on the command line as well, by its dotted path, and goes before:
--optimizer.sgd.lr 0.05. The run is recorded in EXP_DIR/HASH/replicate_R, with weights and curves as published
beside limen's own records. An interrupted one goes on with --resume."""

FINETUNE = """Train on from the weights of an experiment, with a fresh optimizer.

The file names the experiment (exp_hash) and which of its checkpoints (load_batch); all else is as for limen train."""

EXAMPLES = {
    "train": """Example, a small network in a minute:
  limen train -f configs/digits_cnn_train.yaml --optimizer.sgd.lr 0.1 --replicate 1""",
    "finetune": """Example, after that run:
  limen finetune -f configs/digits_cnn_finetune.yaml --exp_hash HASH""",
}

WORDS = Parameter(
    allow_leading_hyphen=True,
    show=False,
    help="Keys of the file by their dotted path, each followed by its value.",
)
FILE = Parameter(name=["--file", "-f"], help="YAML file of the configuration.", negative=())
NAME = Parameter(help="Print the hash that names the experiment, and stop.", negative=())


class Origin(Mapping[str, str]):
    """Which file a value came from, by its dotted path: none, where the command line gave it."""

    def __init__(self, file: str, given: Sequence[str]) -> None:
        self.file, self.given = file, given

    def __contains__(self, path: object) -> bool:
        return not any(f"{path}.".startswith(f"{key}.") for key in self.given)

    def __getitem__(self, path: str) -> str:
        return self.file

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def register(app: App) -> None:
    """Add the commands."""
    for kind, about in ((TrainSpec, TRAIN), (FinetuneSpec, FINETUNE)):
        app.command(
            _command(kind),
            name=kind.COMMAND,
            help=f"{about}\n\nKeys of the file:\n\n{_keys(kind)}\n",
            usage=f"Usage: limen {kind.COMMAND} -f FILE [--KEY VALUE …] [OPTIONS]",
            help_epilogue=EXAMPLES[kind.COMMAND],
        )


def _keys(kind: type[TrainSpec]) -> str:
    hints = get_type_hints(kind, include_extras=True)
    width = max(len(f.name) for f in dataclasses.fields(kind))
    return "\n\n".join(f"  {f.name.ljust(width)}  {help_of(hints[f.name])}" for f in dataclasses.fields(kind))


def _command(kind: type[TrainSpec]) -> Callable[..., int]:
    def run(
        *words: Annotated[str, WORDS],
        file: Annotated[str | None, FILE] = None,
        get_name: Annotated[bool, NAME] = False,
        resume: Annotated[bool, Parameter(help=EXECUTION_HELP["resume"])] = False,
        overwrite: Annotated[bool, Parameter(help=EXECUTION_HELP["overwrite"])] = False,
        quiet: Annotated[bool, Parameter(help=EXECUTION_HELP["quiet"])] = False,
    ) -> int:
        if resume and overwrite:
            raise InputError(
                "resume, overwrite: expected one of them, got both. Go on with the run, or discard it."
            )
        said = paths(words)
        given: dict[str, Any] = yaml_file.load(Path(file)) if file is not None else {}
        for path, value in said.items():
            put(given, path, value)
        origin = Origin(f"config file {file}", tuple(said)) if file is not None else {}
        spec = validate(kind, given, origin)
        if get_name:
            print(spec.hash())
            return 0
        try:
            return execute(spec, Execution(resume, overwrite, quiet))
        except FieldError as error:
            where = f"{origin[error.field]}: " if error.field in origin else ""
            raise InputError(f"{where}{error}") from error

    run.__name__ = kind.COMMAND
    return run


def paths(words: Sequence[str]) -> dict[str, Any]:
    """Return what `--a.b value` and `--a.b=value` give, by path; `--a.b` alone is True.

    >>> paths(["--optimizer.sgd.lr", "0.1", "--optimizer.sgd.nesterov", "--schedulers=constant"])
    {'optimizer.sgd.lr': '0.1', 'optimizer.sgd.nesterov': True, 'schedulers': 'constant'}

    Raises:
        InputError: a word has no place, or a key is given twice.
    """
    given: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise InputError(
                f"unexpected word {word!r}: expected -f FILE and --key value, as in --optimizer.sgd.lr 0.1."
            )
        key, equals, text = word[2:].partition("=")
        head, dot, rest = key.partition(".")
        key = head.replace("-", "_") + dot + rest  # hyphens are for keys, not for kinds such as fc-tanh
        if key in given:
            raise InputError(f"{key}: expected once, given twice. Keep one.")
        if not equals and (not waiting or waiting[0].startswith("--")):
            given[key] = True
        else:
            given[key] = value_of(text if equals else waiting.pop(0))
    return given


def value_of(word: str) -> Any:
    """Return a word, or what it says in YAML where it is a list or a mapping in brackets."""
    if word[:1] not in ("[", "{"):
        return word
    import yaml

    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        return word


def put(given: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path; a mapping there is replaced, what lies beside it stays."""
    head, _, rest = path.partition(".")
    _put(given, head, rest, value)


def _put(given: dict[str, Any], head: str, rest: str, value: Any) -> None:
    if not rest:
        given[head] = value
        return
    below = given.get(head)
    given[head] = {**below} if isinstance(below, Mapping) else {below: {}} if isinstance(below, str) else {}
    _put(given[head], *split(rest), value)
