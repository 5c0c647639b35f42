"""`limen collapse`: how many neurons are left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from torch import Tensor, nn

    from limen.collapse.counts import Grouping
    from limen.collapse.report import GroupCounts

EXAMPLES = """Examples:
  limen collapse results/digits/cnn-tanh/seed_0/mse/gd/lr_0.05
  limen collapse checkpoints/state_1000ba.pt --arch vgg16gelu
  limen collapse run_0 run_1 run_2 --output layers.png"""


def register(app: App) -> None:
    """Add the command."""
    app.command(collapse, help_epilogue=EXAMPLES)


def collapse(
    *paths: Annotated[
        str,
        Parameter(
            help="Folders of runs, or files of weights: a published checkpoint, a state_dict.", required=True
        ),
    ],
    arch: Annotated[
        str | None,
        Parameter(help="Network of a file of weights: an id of limen, or module:function of your own."),
    ] = None,
    input_shape: Annotated[
        str | None, Parameter(help="Shape of one input, as in 3,32,32; needed where the weights fit several.")
    ] = None,
    greedy: Annotated[
        bool,
        Parameter(
            help="Group in index order, as published; the default, single linkage, knows no order.",
            negative=(),
        ),
    ] = False,
    output: Annotated[
        str | None,
        Parameter(
            name=["--output", "-o"], help="Draw the fraction of each layer to this file: PNG, PDF or SVG."
        ),
    ] = None,
    json_file: Annotated[
        str | None, Parameter(name="--json", help="Write all counts to this file as well.")
    ] = None,
) -> int:
    """Count vanished, identical and independent neurons of each layer, with the effective rank of their vectors.

    The vector of a neuron is all that belongs to it: incoming weights, bias, outgoing weights, and its norm layer's
    scale and shift. It has vanished if its norm is below 0.1 of the layer's largest; two are identical if
    2‖a−b‖²/(‖a‖²+‖b‖²) < 0.1; independent neurons are the groups of identical ones. Of a run the latest weights are
    taken. Several networks are replicates of each other: mean ± standard deviation.
    """
    from limen.collapse.report import report
    from limen.symmetry import neuron_groups

    grouping: Grouping = "greedy" if greedy else "linkage"
    shape = _shape(input_shape)
    found = []
    for path in paths:
        module, example, weights = _network(Path(path), arch, shape)
        found.append(report(neuron_groups(module, example), weights, grouping))
    if output is not None:
        from limen.plots.collapse import layers

        layers(
            {"": [{one.group.name: one.counts.fraction for one in network} for network in found]},
            Path(output),
        )
    if json_file is not None:
        _write(Path(json_file), _numbers(paths, found, grouping))
    print("\n".join([*_table(found[0]), _total(found[0])] if len(found) == 1 else _means(paths, found)))
    if output is not None:
        print(output)
    return 0


def _shape(text: str | None) -> tuple[int, ...] | None:
    from limen.errors import InputError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise InputError(f"input_shape: expected numbers, as in 3,32,32, got {text!r}.") from None


def _network(
    path: Path, arch: str | None, shape: tuple[int, ...] | None
) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """Return network, example and weights of a run folder or a file."""
    from limen.collapse.fitting import fitting
    from limen.errors import InputError
    from limen.models.checkpoint import read_weights
    from limen.store import layout

    if not path.exists():
        raise InputError(f"{path}: there is no such folder or file.")
    if path.is_dir():
        if not (path / layout.MANIFEST).is_file():
            raise InputError(f"{path}: expected a run folder, with {layout.MANIFEST}, or a file of weights.")
        return _of_run(path, arch, shape)
    arguments: dict[str, Any] = {}
    known: dict[str, Any] = {}
    if arch is None:
        arch, arguments, known = _beside(path)
    if shape is not None:
        known["input_shape"] = shape
    weights = read_weights(path)
    module, example = fitting(arch, weights, arguments, **known)
    return module, example, weights


def _beside(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the network that the run folder around a checkpoint names, its arguments and sizes."""
    from limen import store
    from limen.errors import InputError
    from limen.store import layout

    for folder in (path.parent, path.parent.parent):
        if (folder / layout.MANIFEST).is_file():
            run = store.open_run(folder)
            return *_named(run.spec, folder), _sizes(run.info)
    raise InputError(f"{path} does not say which network it is of: add --arch, as in --arch vgg16gelu.")


def _named(spec: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """Return architecture and arguments as a run's spec names them."""
    from limen.errors import InputError

    if "arch" in spec:
        return str(spec["arch"]), dict(spec.get("model") or {})
    if isinstance(spec.get("model"), dict) and len(spec["model"]) == 1:
        ((kind, fields),) = spec["model"].items()
        kept = {
            key: value for key, value in (fields or {}).items() if key not in ("loss_name", "num_classes")
        }
        return kind, kept
    raise InputError(f"{folder} does not name its network (a run made from Python): add --arch.")


def _of_run(
    folder: Path, arch: str | None, shape: tuple[int, ...] | None
) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """Return network, example and the latest weights of a run."""
    from limen import store
    from limen.collapse.fitting import fitting
    from limen.models.checkpoint import read_weights
    from limen.store import layout

    run = store.open_run(folder)
    states = sorted(
        (folder / layout.CHECKPOINTS).glob("state_*ba.pt"), key=lambda path: (len(path.name), path.name)
    )
    files = [folder / layout.FINAL, folder / layout.SNAPSHOT, *reversed(states)]
    latest = next((path for path in files if path.is_file()), None)
    if latest is None:
        return _rebuilt(folder, run.spec)
    named, arguments = (arch, {}) if arch is not None else _named(run.spec, folder)
    known = {} if arch is not None else _sizes(run.info)
    if shape is not None:
        known["input_shape"] = shape
    weights = read_weights(latest)
    module, example = fitting(named, weights, arguments, **known)
    return module, example, weights


def _sizes(info: dict[str, Any]) -> dict[str, Any]:
    """Return what run.json says of the network's inputs and outputs; nothing in runs of old versions."""
    import torch

    if "input_shape" not in info:
        return {}
    dtypes = {"float32": torch.float32, "int64": torch.int64}
    return {
        "input_shape": tuple(info["input_shape"]),
        "outputs": info["outputs"],
        "dtype": dtypes.get(info["input_dtype"]),
    }


KEEPING = {
    "gd": "add --save_model True",
    "flow": "add --save_model True",
    "train": "add callbacks: {checkpoint_saver: {save_interval: 1ep}} to its configuration",
    "finetune": "add callbacks: {checkpoint_saver: {save_interval: 1ep}} to its configuration",
}
"""How a run of each command keeps its weights."""


def _rebuilt(folder: Path, spec: dict[str, Any]) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """Return the network that a run trains, with the parameters of its latest checkpoint."""
    from limen.collapse.networks import network_of
    from limen.config import FinetuneSpec, FlowSpec, GDSpec, Spec, TrainSpec, build, validate
    from limen.errors import InputError
    from limen.models.checkpoint import read_plain
    from limen.store import checkpoints
    from limen.types import Need, State

    kinds: dict[str, type[Spec]] = {
        kind.COMMAND: kind for kind in (GDSpec, FlowSpec, TrainSpec, FinetuneSpec)
    }
    command = spec.get("command", "")
    if command not in kinds:
        raise InputError(
            f"{folder} keeps no weights, and was not made by limen gd, flow, train or finetune, so that its network is "
            "not known. Save its state_dict, and give that file with --arch."
        )
    saved = checkpoints.newest_first(folder)
    if not saved:
        raise InputError(
            f"{folder} keeps no weights yet: wait for its first checkpoint, or run limen {command} anew and "
            f"{KEEPING[command]}."
        )
    words = {key: value for key, value in spec.items() if key != "command"}
    experiment = build(validate(kinds[command], words)).experiment
    objective, stream = experiment.objective, experiment.stream
    network = network_of(objective)
    state = State.from_dict(read_plain(saved[0])["state"])
    point = objective.at(state, None if stream is None else stream(0), Need.NOTHING)
    return network.module, network.example(point), (objective.test or objective).state_dict(state)


def _table(layers: list[GroupCounts]) -> list[str]:
    rows = [
        ["layer", "neurons", "vanished", "identical", "independent", "fraction", "effective rank", "sets"]
    ]
    for layer in layers:
        counts = layer.counts
        sets = [
            name
            for name, kept in (("sign", layer.group.sign), ("permutation", layer.group.permutation))
            if kept.holds
        ]
        rows.append(
            [
                layer.group.name,
                *map(str, (counts.size, counts.vanished, counts.identical, counts.independent)),
                f"{counts.fraction:.3f}",
                f"{counts.effective_rank:.4g}",
                ", ".join(sets) or "none",
            ]
        )
    return _aligned(rows)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _total(layers: list[GroupCounts]) -> str:
    from limen.collapse.report import fraction

    if not layers:
        return "no hidden neurons."
    independent = sum(layer.counts.independent for layer in layers)
    size = sum(layer.counts.size for layer in layers)
    return f"independent: {independent} of {size} = {fraction(layers):.3f}"


def _means(paths: tuple[str, ...], found: list[list[GroupCounts]]) -> list[str]:
    """Return mean ± standard deviation of each layer, and the total of each network."""
    import numpy as np

    from limen.errors import InputError

    names = [[layer.group.name for layer in network] for network in found]
    if any(other != names[0] for other in names):
        raise InputError("the networks have different layers: look at them one by one.")
    rows = [["layer", "neurons", "vanished", "identical", "independent", "fraction", "effective rank"]]
    for layers in zip(*found, strict=True):
        counts = [layer.counts for layer in layers]
        columns = [
            [getattr(one, name) for one in counts]
            for name in ("vanished", "identical", "independent", "fraction", "effective_rank")
        ]
        cells = [f"{np.mean(column):.3g} ± {np.std(column, ddof=1):.2g}" for column in columns]
        rows.append([layers[0].group.name, str(counts[0].size), *cells])
    return [
        *_aligned(rows),
        *(f"{path}: {_total(network)}" for path, network in zip(paths, found, strict=True)),
    ]


def _numbers(paths: tuple[str, ...], found: list[list[GroupCounts]], grouping: Grouping) -> dict[str, Any]:
    from limen.collapse.report import fraction

    def plain(layer: GroupCounts) -> dict[str, Any]:
        counts = layer.counts
        return {
            "layer": layer.group.name,
            "neurons": counts.size,
            "vanished": counts.vanished,
            "identical": counts.identical,
            "independent": counts.independent,
            "effective_rank": counts.effective_rank,
            "clusters": counts.clusters.tolist(),
            "sign_set": {"invariant": layer.group.sign.holds, "why": layer.group.sign.why},
            "permutation_set": {
                "invariant": layer.group.permutation.holds,
                "why": layer.group.permutation.why,
            },
        }

    return {
        "grouping": grouping,
        "networks": [
            {
                "path": path,
                "fraction": fraction(network) if network else None,
                "layers": [plain(x) for x in network],
            }
            for path, network in zip(paths, found, strict=True)
        ],
    }


def _write(path: Path, numbers: dict[str, Any]) -> None:
    from limen.errors import StoreError
    from limen.store import files

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, json.dumps(numbers, indent=1, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise StoreError(
            f"cannot write {str(path)!r}: {error.strerror or error}. Name a file in a folder you may write to."
        ) from error
