"""From words or a YAML file to the points of a study, each a checked spec with a run folder of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limen.catalogue.row import flatten
from limen.config import Spec, validate
from limen.errors import InputError, nearest
from limen.sweep import axes

MANY = 5000
"""Points from which on a study has to be meant."""

KEYS = ("command", "file", "name", "base", "grid", "zip", "points", "replicates")


@dataclass(frozen=True)
class Axis:
    """What varies together: `rows[i]` gives `names` their i-th values."""

    names: tuple[str, ...]
    rows: Sequence[Any]

    def at(self, i: int) -> dict[str, Any]:
        """Return the i-th values by name; a row that is a mapping already stays one."""
        row = self.rows[i]
        return dict(row) if isinstance(row, Mapping) else {self.names[0]: row}


@dataclass(frozen=True)
class Zipped(Sequence[Mapping[str, Any]]):
    """Columns of one length, read by rows."""

    columns: Mapping[str, axes.Values]

    def __len__(self) -> int:
        return min(map(len, self.columns.values()))

    def __getitem__(self, i: Any) -> Any:
        return {name: column[i] for name, column in self.columns.items()}


@dataclass(frozen=True)
class Sweep:
    """A study as it was asked for, nothing computed yet.

    Attributes:
        kind: of its specs.
        base: what all points share, by option; mappings such as `model` nested.
        axes: what varies; the points are their product, the last axis fastest.
        name: of the study's folder; None for one made from the points.
    """

    kind: type[Spec]
    base: dict[str, Any] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    name: str | None = None

    @property
    def count(self) -> int:
        """How many points there are; it may be more than a length can be."""
        return math.prod(len(axis.rows) for axis in self.axes)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a label and the untyped options of every point."""
        for number in range(self.count):
            varied: dict[str, Any] = {}
            for axis in reversed(self.axes):
                number, i = divmod(number, len(axis.rows))
                varied = axis.at(i) | varied
            given = {
                key: dict(value) if isinstance(value, Mapping) else value for key, value in self.base.items()
            }
            for name, value in varied.items():
                _put(given, name, value)
            yield " ".join(f"{name}={value}" for name, value in varied.items()), given


@dataclass(frozen=True)
class Point:
    """One run to be.

    Attributes:
        label: what is its own, such as `lr=0.1 seed=3`.
        spec: what to run.
        folder: where.
    """

    label: str
    spec: Spec
    folder: Path


@dataclass(frozen=True)
class Refusal:
    """A point that cannot be run, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A study, every point checked.

    Attributes:
        folder: of the study.
        title: what is varied, in words.
        points: that can be run.
        refused: that cannot.
    """

    folder: Path
    title: str
    points: list[Point]
    refused: list[Refusal]


def commands() -> dict[str, type[Spec]]:
    """Return the specs by the name of their command."""

    def below(kind: type[Spec]) -> Iterator[type[Spec]]:
        for child in kind.__subclasses__():
            if "COMMAND" in vars(child):
                yield child
            yield from below(child)

    return {kind.COMMAND: kind for kind in below(Spec)}


def from_words(words: Sequence[str], name: str | None = None) -> Sweep:
    """Return the sweep that words ask for: a command, its words in their order, and `name=values`.

    `--name values` is the same as `name=values`; several values make an axis.

    >>> sweep = from_words("gd digits fc-tanh mse lr=0.1,0.2 seed=0..7 max_steps=20".split())
    >>> sweep.count, sweep.base["max_steps"]
    (16, '20')

    Raises:
        InputError: a word does not fit.
    """
    if not words:
        raise InputError(
            "expected a command, its words and name=values, or -f FILE; got none. `limen sweep --help`."
        )
    command, *rest = words
    kind = _kind(command)
    given, plain = _named(kind, rest)
    free = [each for each in kind.POSITIONAL if each not in given]
    if len(plain) > len(free):
        extra = plain[len(free)]
        raise InputError(
            f"unexpected word {extra!r}: {command} takes {' '.join(n.upper() for n in kind.POSITIONAL)}, "
            "and the rest as name=values."
        )
    given = dict(zip(free, plain, strict=False)) | given
    base: dict[str, Any] = {}
    varied = []
    for key, text in given.items():
        values = axes.of_word(key, text) if text else [text]
        if len(values) > 1:
            varied.append(Axis((key,), values))
        else:
            _put(base, key, values[0])
    return Sweep(kind, base, tuple(varied), name)


def _named(kind: type[Spec], words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what is given by name, and the words that are not."""
    given: dict[str, str] = {}
    plain: list[str] = []
    switches = {f.name for f in dataclasses.fields(kind) if f.default is False}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        key, equals, text = word.partition("=")
        if not word.startswith("--") and not equals:
            plain.append(word)
            continue
        head, dot, tail = key.removeprefix("--").partition(".")
        key = head.replace("-", "_") + dot + tail
        _check_key(kind, key, "")
        if not equals:
            if key in switches:
                text = "True"
            elif not waiting or waiting[0].startswith("--"):
                raise InputError(f"{key}: expected a value, got none.")
            else:
                text = waiting.pop(0)
        if key in given:
            raise InputError(f"{key}: expected once, given twice. Join the values with commas.")
        given[key] = text
    return given, plain


def from_mapping(
    content: Mapping[str, Any], where: str, name: str | None = None, shared: Mapping[str, Any] | None = None
) -> Sweep:
    """Return the sweep that a YAML file asks for.

    Args:
        content: of the file. `command` and `base` say what is shared; `grid` (every value with every other),
            `zip` (values side by side), `points` (a list of options each) and `replicates` (seeds 0, 1, …; of training
            its `replicate`) what varies.
        where: the file, for messages.
        name: of the study, before the file's own.
        shared: options that all points have unless the study says otherwise.

    Raises:
        InputError: a key is unknown, an axis is empty, or an option is given twice.
    """
    try:
        return _from_mapping(content, name, shared or {})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _from_mapping(content: Mapping[str, Any], name: str | None, shared: Mapping[str, Any]) -> Sweep:
    for key in content:
        if key not in KEYS:
            raise InputError(f"unknown key {key!r}.{nearest(key, KEYS)} There are: {', '.join(KEYS)}.")
    if "command" not in content:
        raise InputError(f"expected `command:`, one of {', '.join(commands())}, got none.")
    kind = _kind(content["command"])
    base: dict[str, Any] = {}
    for key, value in _mapping(content, "base").items():
        _check_key(kind, key, "base: ")
        _put(base, key, value)
    found: dict[str, list[Axis]] = {key: [] for key in ("points", "grid", "zip", "replicates")}
    if "points" in content:
        found["points"].append(_points(kind, content["points"]))
    for key, value in _mapping(content, "grid").items():
        found["grid"].append(Axis((key,), axes.of_yaml(f"grid: {key}", value)))
        _check_key(kind, key, "grid: ")
    if columns := {k: axes.of_yaml(f"zip: {k}", value) for k, value in _mapping(content, "zip").items()}:
        found["zip"].append(_zipped(kind, columns))
    if "grid" in content and not content["grid"]:
        raise InputError("grid: expected at least one axis such as `lr: [0.1, 0.2]`, got none. Leave it out.")
    if not isinstance(called := content.get("name"), str | None):
        raise InputError(f"name: expected a text, got {called!r}. Put it in quotes.")
    if (count := content.get("replicates")) is not None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InputError(f"replicates: expected a whole number of at least 1, got {count!r}.")
        found["replicates"].append(
            Axis((kind.REPLICATE,), axes.whole("replicates", range(count), str(count)))
        )
    _check_once(base, found)
    whole: dict[str, Any] = {}
    for key, value in shared.items():
        _check_key(kind, key, "file: ")
        whole[key] = value
    for key, value in base.items():
        beside = isinstance(whole.get(key), Mapping) and isinstance(value, Mapping)
        whole[key] = {**whole[key], **value} if beside else value
    return Sweep(kind, whole, tuple(axis for made in found.values() for axis in made), name or called)


def _check_once(base: Mapping[str, Any], found: Mapping[str, Sequence[Axis]]) -> None:
    """Refuse an option that is given twice; only `points` override the base.

    Raises:
        InputError: one is, and where.
    """
    given = [(key, where) for where, made in found.items() for axis in made for key in axis.names]
    fixed = [(key, "base") for key in flatten(base)]
    for i, (key, where) in enumerate(given):
        before = given[:i] if where == "points" else [*fixed, *given[:i]]
        for other, place in before:
            if key == other or key.startswith(f"{other}.") or other.startswith(f"{key}."):
                same = "" if key == other else f" ({other} there)"
                raise InputError(
                    f"{key}: expected once, got it in {place}{same} and in {where}"
                    f"{f', which varies the {key}' * (where == 'replicates')}. Keep one."
                )


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise InputError(f"{key}: expected a mapping of options, got {value!r}.")
    return {str(name).replace("-", "_"): item for name, item in (value or {}).items()}


def _zipped(kind: type[Spec], columns: dict[str, axes.Values]) -> Axis:
    for key in columns:
        _check_key(kind, key, "zip: ")
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{key} has {len(column)}" for key, column in columns.items())
        raise InputError(f"zip: expected columns of one length, got: {lengths}.")
    return Axis(tuple(columns), Zipped(columns))


def _points(kind: type[Spec], rows: Any) -> Axis:
    if not isinstance(rows, list) or not rows:
        raise InputError(f"points: expected a list of options such as `- {{lr: 0.1}}`, got {rows!r}.")
    read = [_mapping({"points": row}, "points") for row in rows]
    names = tuple(dict.fromkeys(key for row in read for key in row))
    for key in names:
        _check_key(kind, key, "points: ")
    return Axis(names, read)


def _kind(command: Any) -> type[Spec]:
    known = commands()
    if command not in known:
        raise InputError(
            f"unknown command {command!r} to sweep.{nearest(str(command), known)} There are: {', '.join(known)}."
        )
    return known[command]


def _check_key(kind: type[Spec], key: str, where: str) -> None:
    fields = [f.name for f in dataclasses.fields(kind)]
    if key.split(".")[0] not in fields:
        raise InputError(f"{where}unknown option {key!r}.{nearest(key, fields)}")


def _put(given: dict[str, Any], key: str, value: Any) -> None:
    """Set an option; `model.width` is the entry `width` of `model`."""
    head, dot, tail = key.partition(".")
    if dot:
        given[head] = {**given.get(head, {}), tail: value}
    else:
        given[key] = value


def expand(sweep: Sweep, *, many: bool = False) -> Plan:
    """Return the checked points of `sweep`; what is refused is listed, and the others stay.

    Args:
        sweep: what was asked for.
        many: whether more than 5000 points are meant.

    Raises:
        InputError: there are too many, all are refused for one reason, or two would share a run folder.
    """
    if sweep.count > MANY and not many:
        counts = " × ".join(f"{len(axis.rows)} {'/'.join(axis.names)}" for axis in sweep.axes)
        raise InputError(
            f"{sweep.count} points ({counts}) are more than {MANY}. Add --yes if that is meant, or take fewer."
        )
    points: list[Point] = []
    refused: list[Refusal] = []
    taken: dict[Path, str] = {}
    for label, given in sweep:
        try:
            spec = validate(sweep.kind, given)
            folder = spec.surest_folder()
        except InputError as error:
            refused.append(Refusal(label, "; ".join(str(error).splitlines())))
            continue
        if folder in taken:
            raise InputError(
                f"two points share the folder {folder}: {taken[folder] or 'one'} and {label or 'the other'}. "
                "Vary what changes the trajectory, or give them --results of their own."
            )
        taken[folder] = label
        points.append(Point(label, spec, folder))
    if not points and len({refusal.reason for refusal in refused}) == 1:
        raise InputError(refused[0].reason)
    counts = " × ".join(f"{len(axis.rows)} {'/'.join(axis.names)}" for axis in sweep.axes if axis.names)
    title = f"{sweep.kind.COMMAND}: {sweep.count} point{'s' * (sweep.count != 1)}" + (
        f" ({counts})" if counts else ""
    )
    return Plan(_study_folder(sweep, points), title, points, refused)


def _study_folder(sweep: Sweep, points: Sequence[Point]) -> Path:
    root = points[0].spec.root() if points else Path("results")
    name = sweep.name
    if name is None:
        said = json.dumps([point.spec.to_dict() for point in points], sort_keys=True, default=str)
        name = f"{sweep.kind.COMMAND}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    if not name or name != Path(name).name or name.startswith("."):
        raise InputError(f"name: expected the name of one folder, got {name!r}.")
    return root / "studies" / name
