"""`run.json`: what was run, where, and how it stands."""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from limen.errors import InputError, StoreError
from limen.store import files
from limen.store.layout import FORMAT, MANIFEST

Manifest = dict[str, Any]

SURROUNDINGS = (
    "versions",
    "device",
    "hardware",
    "threads",
    "deterministic",
    "matmul",
    "ensemble",
    "physical_batch_size",
)
"""What may change at a resume, at the price of equality to the last bit."""

ESSENTIAL = ("id", "status", "why", "experiment")

FREE = {"max_steps", "acc_goal", "loss_goal", "save_freq", "save_model", "checkpoint_freq"} | {
    *("results", "data_dir", "device", "physical_batch_size"),
    *("exp_dir", "loggers", "dataloader", "save_interval", "max_duration"),
}
"""Words of a spec that may change at a resume."""

TYPES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "id": ("text", lambda value: value + ""),
    "status": ("text", lambda value: value + ""),
    "why": ("text", lambda value: value + ""),
    "experiment": ("a mapping", lambda value: {**value}),
    "spec": ("a mapping", lambda value: {**value}),
    "max_steps": ("a whole number", operator.index),
    "reached": ("a whole number", operator.index),
    "threshold": ("a number or null", lambda value: None if value is None else float(value)),
    "resumed": (
        "a list of {step, notes}",
        lambda value: [(operator.index(at["step"]), [note + "" for note in at["notes"]]) for at in value],
    ),
}
"""What the store reads back, what it must be, and an act that only such a value allows."""

RESERVED = {"format", *ESSENTIAL, "spec", "max_steps", "threshold", "started", "ended", "resumed", "reached"}
"""What the store itself reads back; nobody else may write it."""


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def plain(value: Any, what: str) -> Any:
    """Return `value` as strict JSON gives it back; nan and the infinities become strings.

    Raises:
        InputError: it holds something that JSON cannot.
    """
    try:
        return json.loads(json.dumps(value), parse_constant=str)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} is stored with the run as JSON, expected numbers, text, lists and dictionaries: {error}."
        ) from None


def exists(folder: Path) -> bool:
    """Whether there is a run in `folder`."""
    return (folder / MANIFEST).is_file()


def load(folder: Path) -> Manifest:
    """Read `run.json`.

    Raises:
        StoreError: it is missing, unreadable or of a newer format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        number, _ = int(manifest["format"]), [manifest[key] for key in ESSENTIAL]
        _check_types(manifest)
    except FileNotFoundError:
        raise StoreError(f"no run in {folder}: expected a {MANIFEST} there.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read as limen wrote it ({type(error).__name__}: {error}). "
            "Restore it from a copy, or start the run again with --overwrite."
        ) from error
    if number > FORMAT:
        raise StoreError(f"{path} has format {number}, this limen reads up to {FORMAT}: upgrade limen.")
    return manifest  # type: ignore[no-any-return]


def _check_types(manifest: Manifest) -> None:
    """Raise ValueError where a value is not of its type."""
    for key in TYPES.keys() & manifest.keys():
        expected, act = TYPES[key]
        try:
            act(manifest[key])
        except (TypeError, ValueError, LookupError):
            raise ValueError(f"{key}: expected {expected}, got {json.dumps(manifest[key])[:60]}") from None


def save(folder: Path, manifest: Manifest) -> None:
    """Write `run.json` atomically.

    Raises:
        OSError: it could not be written; the old one stands.
    """
    text = json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False)
    files.replace(folder / MANIFEST, text.encode() + b"\n")


def difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Return where two JSON values first differ, and both values there; None if they agree.

    >>> difference({"dynamics": {"lr": 0.1}}, {"dynamics": {"lr": 0.2}})
    ('dynamics.lr', 0.1, 0.2)
    """
    if old == new:
        return None
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return path, old, new
    key = next(key for key in [*old, *new] if key not in old or key not in new or old[key] != new[key])
    return difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)


def check_same(folder: Path, old: Manifest, new: Manifest) -> None:
    """Refuse to resume a run as another one.

    Raises:
        StoreError: the experiments, or the data, differ.
    """
    was, asked = old.get("data_hash"), new.get("data_hash")
    if was is not None and asked is not None and was != asked:
        raise StoreError(
            f"{folder} cannot be resumed: its run saw data with data_hash = {was}, "
            f"the data now give {asked}. "
            "Restore the data, or choose another folder (--overwrite discards the run)."
        )
    if found := difference(old["experiment"], new["experiment"]):
        field, was, asked = found
        raise StoreError(
            f"{folder} cannot be resumed: its run has {field} = {_words(was)}, asked is {_words(asked)}. "
            f"{_mend(field, old, new)}, or choose another folder (--overwrite discards the run)."
        )


def _mend(field: str, old: Manifest, new: Manifest) -> str:
    """Return what to give so that a run can be resumed: options, where those of both runs are known."""
    was, asked = old.get("spec", {}), new["spec"]
    if not was or not asked:
        return f"Give {field} as it was"
    differ = [name for name in {**was, **asked} if name not in FREE and was.get(name) != asked.get(name)]
    options = [option for name in differ for option in _options(name, was.get(name), asked.get(name))]
    given = [f"--{name} {value}" for name, value in options if value is not None]
    left = [f"--{name}" for name, value in options if value is None]
    parts = [f"Give {' '.join(given)} as it was"] * bool(given) + [f"leave out {' '.join(left)}"] * bool(left)
    text = ", ".join(parts) or f"Give {field} as it was"
    return text[0].upper() + text[1:]


def _options(name: str, was: Any, asked: Any) -> list[tuple[str, Any]]:
    """Return options and their old values, those of a mapping key by key."""
    if not isinstance(was, Mapping) or not isinstance(asked, Mapping):
        return [(name, was)]
    keys = [key for key in {**was, **asked} if was.get(key) != asked.get(key)]
    return [(f"{name}.{key}", was.get(key)) for key in keys]


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Return in words how the surroundings of a resumed run differ from those before."""
    found = []
    for name in SURROUNDINGS:
        if name in old and name in new and (differs := difference(old[name], new[name], name)):
            field, was, asked = differs
            found.append(
                f"{field} was {_words(was)}, now {_words(asked)}: equality to the last bit is not promised"
            )
    return found


def _words(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
