"""Names for runs in a figure: what they share goes to the title, what differs to the legend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limen.analysis import Readable
from limen.analysis.readable import is_flow
from limen.catalogue.row import flatten

SPEAKING = ("dataset", "train_data", "arch", "model", "loss", "opt", "optimizer", "dynamics")
"""Keys whose values need no name before them."""

TITLE = (*SPEAKING, "lr", "tick", "beta", "seed")
"""What a title says, in this order; the rest of a spec is for the caption."""

WATCHING = frozenset(
    {
        *(
            "max_steps",
            "max_time",
            "acc_goal",
            "loss_goal",
            "neigs",
            "eig_freq",
            "eig_tol",
            "nproj",
            "iterate_freq",
        ),
        *("save_freq", "test_freq", "checkpoint_freq", "abridged_size", "save_model", "results", "data_dir"),
        *("device", "quiet", "tick", "track_flow", "track_freq", "certify", "projection"),
        *("eig_above", "audit_freq", "audit_steps"),
    }
)
"""Keys that do not change where a run goes; they name it only where nothing else tells two apart."""

RULE = ("opt", "lr", "beta")
"""What names a descent beside a flow."""

DESCENT_ONLY = frozenset({"lr", "beta", "max_steps", "track_flow", "track_freq"})
FLOW_ONLY = frozenset({"integrator", "rtol", "alpha", "max_step_size", "track_flow", "track_freq", "certify"})
"""Words that say nothing about the trajectory of the other kind."""

THRESHOLDS = {"gd": "2/lr", "polyak": "(2+2β)/lr", "nesterov": "(2+2β)/(lr(1+2β))"}


def labels(runs: Sequence[Readable]) -> list[str]:
    """Return one label a run: where its spec differs from the others', else its folder."""
    specs = [words(run) for run in runs]
    keys = [key for key in dict.fromkeys(key for spec in specs for key in spec) if _tells(key, specs)]
    keys.sort(key=lambda key: TITLE.index(key) if key in TITLE else len(TITLE))
    for chosen in ([key for key in keys if key not in WATCHING], keys):
        found = [_join([key for key in chosen if key in spec], spec) for spec in specs]
        if all(found) and len(set(found)) == len(runs):
            return found
    return _folders([run.folder for run in runs])


def title(runs: Sequence[Readable]) -> str:
    """Return what all specs share of the words that matter, or an empty string."""
    specs = [words(run) for run in runs]
    rate = [key for key in specs[0] if key.startswith("optimizer.") and key.endswith(".lr")]
    shared = [
        key
        for key in (*TITLE[:-1], *rate, TITLE[-1])
        if all(key in spec for spec in specs) and not _differs(key, specs)
    ]
    return ", ".join(_word(key, specs[0][key]) for key in shared if specs[0][key] is not None)


def words(run: Readable) -> dict[str, Any]:
    """Return the words of a run's spec that concern its own trajectory, flat; a flow's rule is `flow`."""
    flat = {key: value for key, value in flatten(run.spec).items() if key != "command"}
    if flat.get("beta") is None:
        flat.pop("beta", None)
    if not is_flow(run):
        return {key: value for key, value in flat.items() if key not in FLOW_ONLY}
    return {key: value for key, value in flat.items() if key not in DESCENT_ONLY} | {"opt": "flow"}


def threshold(run: Readable) -> str:
    """Return the formula of the run's stability threshold where its rule is known."""
    return THRESHOLDS.get(str(run.spec.get("opt", "")), "threshold")


def _tells(key: str, specs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a word tells runs apart: among descents, among flows, or one from the other."""
    flows = [spec for spec in specs if spec.get("opt") == "flow"]
    descents = [spec for spec in specs if spec.get("opt") != "flow"]
    if not flows or not descents:
        return _differs(key, specs)
    both = all(key in spec for spec in specs)
    return key in RULE or _differs(key, flows) or _differs(key, descents) or (both and _differs(key, specs))


def _differs(key: str, specs: Sequence[Mapping[str, Any]]) -> bool:
    missing = object()
    first = specs[0].get(key, missing)
    return any(spec.get(key, missing) != first for spec in specs[1:])


def _join(keys: Sequence[str], spec: Mapping[str, Any]) -> str:
    """Return words with commas between them; the learning rate belongs to its rule."""
    text = ""
    for before, key in zip([None, *keys], keys, strict=False):
        gap = "" if before is None else " " if (before, key) == ("opt", "lr") else ", "
        text += gap + _word(key, spec[key])
    return text


def _word(key: str, value: Any) -> str:
    if key in SPEAKING:
        return str(value)
    short = key.rpartition(".")[2] if key.startswith("optimizer.") else key
    return f"{key} {value}" if key == "seed" else f"{short}={value}"


def _folders(folders: Sequence[Path]) -> list[str]:
    """Return the folders without the part they share; the same folder twice keeps its name."""
    absolute = [os.path.abspath(folder) for folder in folders]  # noqa: PTH100  (resolve() would follow links)
    common = os.path.commonpath(absolute)
    return [os.path.relpath(path, common) if path != common else Path(path).name for path in absolute]
