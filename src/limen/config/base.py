"""What every spec is: the JSON-able description of a run, its checks, and what it becomes.

One class a command is its command line, its YAML schema and the `spec` in run.json. Neither these modules nor
`validate` import torch, so that the command line answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar, get_type_hints

from annotated_types import DocInfo, Interval, doc

from limen.errors import InputError, nearest
from limen.registry.values import Mismatch, Rule, read

if TYPE_CHECKING:
    from torch import Tensor

    from limen.run import Experiment

S = TypeVar("S", bound="Spec")
DEVICE = Rule("auto, cpu, cuda or cuda:N", re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]*))?").fullmatch)


class FieldError(InputError):
    """A refusal that concerns one field of a spec.

    Attributes:
        field: its name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@contextlib.contextmanager
def about(field: str) -> Iterator[None]:
    """Note on a refusal which field it concerns."""
    try:
        yield
    except FieldError:
        raise  # it says more exactly which
    except InputError as error:
        raise FieldError(field, str(error)) from None


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every run has."""

    COMMAND: ClassVar[str]
    POSITIONAL: ClassVar[tuple[str, ...]] = ()
    REPLICATE: ClassVar[str] = "seed"
    """The field in which replicates differ."""

    seed: Annotated[int, Interval(ge=0, le=2**63 - 1), doc("Seed of the initial weights.")] = 0
    device: Annotated[str, DEVICE, doc("auto, cpu, cuda or cuda:N.")] = "auto"
    data_dir: Annotated[
        str | None, doc("Folder of data sets (default: $DATASETS, $DATA_DIR, else a cache).")
    ] = None

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return values as the fields take them, where a file may say the same in several ways."""
        return dict(given)

    @classmethod
    def how(cls) -> str:
        """Say how values are given."""
        words = " ".join(name.upper() for name in cls.POSITIONAL)
        return f"limen {cls.COMMAND} {words}, or a --config file that says them"

    def check(self) -> None:
        """Refuse what can be refused without loading anything.

        Raises:
            InputError: a name is unknown, or two values do not go together.
        """
        raise NotImplementedError

    def with_types(self) -> Self:
        """Return the spec with the arguments of plug-ins as what their families say they are."""
        raise NotImplementedError

    def root(self) -> Path:
        """Return the folder of results."""
        raise NotImplementedError

    def folder(self) -> Path:
        """Return the run's folder, as far as the spec alone tells it."""
        raise NotImplementedError

    def surest_folder(self) -> Path:
        """Return the run's folder, the network asked where the spec alone does not tell it."""
        return self.folder()

    def looks(self) -> list[int]:
        """Return every how many steps what is measured more rarely than at each of them."""
        return []

    def steps(self) -> int:
        """Return the number of steps of the dynamics."""
        raise NotImplementedError

    def build(self) -> Built:
        """Load the data, build the network and put the experiment together."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the spec with its command, as run.json keeps it."""
        return {"command": self.COMMAND, **dataclasses.asdict(self)}


def validate(cls: type[S], given: Mapping[str, Any], origin: Mapping[str, str] | None = None) -> S:
    """Build and check a spec from untyped values, as they come from a command line or a YAML file.

    Args:
        cls: which spec.
        given: values by name; numbers may be strings, and 1e5 is a whole number.
        origin: the file a value came from, for messages; nothing for the command line.

    Raises:
        InputError: a key is unknown or missing, or a value has the wrong type or range; all are listed.
    """
    hints = get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    origin = {} if origin is None else origin

    def where(name: str) -> str:
        return f"{origin[name]}: " if name in origin else ""

    faults, values = [], {}
    try:
        usual = cls.usual(given)
    except FieldError as error:
        raise InputError(f"{where(error.field)}{error}") from None
    for name, value in usual.items():
        if name not in fields:
            faults.append(f"{where(name)}unknown option {name!r}.{nearest(name, fields)}")
            continue
        try:
            values[name] = read(hints[name], value)
        except Mismatch as error:
            faults.append(f"{where(name)}{name}: {error}")
    missing = [name for name, f in fields.items() if name not in usual and not _has_default(f)]
    if missing:
        if cls.POSITIONAL:
            missing.sort(key=cls.POSITIONAL.index)
        faults.append(f"{where(missing[0])}missing: {', '.join(missing)}. Expected {cls.how()}.")
    if faults:
        raise InputError("\n".join(faults))
    try:
        spec = cls(**values)
        spec.check()
        return spec.with_types()
    except FieldError as error:
        raise InputError(f"{where(error.field)}{error}") from None


def _has_default(spec_field: dataclasses.Field[Any]) -> bool:
    return (spec_field.default, spec_field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)


def help_of(annotation: Any) -> str:
    """Return the documentation carried by an annotated field."""
    texts = [m.documentation for m in getattr(annotation, "__metadata__", ()) if isinstance(m, DocInfo)]
    return texts[0] if texts else ""


def safe(name: str) -> str:
    """Return a name that is one folder on every system: an import path loses its colon."""
    return name.replace(":", ".").replace("/", "-").replace("\\", "-")


@dataclass(frozen=True)
class Keeping:
    """How often a run is kept.

    Attributes:
        checkpoint_freq: steps between checkpoints; -1 for about every 30 seconds.
        save_freq: steps between versions of the published tensors on the way; -1 for never.
        save_model: whether the final state_dict is written as `snapshot_final`.
    """

    checkpoint_freq: int = -1
    save_freq: int = -1
    save_model: bool = False


@dataclass(frozen=True)
class Built:
    """What a spec became.

    Attributes:
        experiment: ready to run.
        folder: where it is recorded.
        info: what run.json keeps beside the spec: data hash, how examples are put together.
        notes: what the user should hear before it starts.
        keeping: how often what is written.
    """

    experiment: Experiment
    folder: Path
    info: dict[str, Any]
    notes: list[str]
    keeping: Keeping = Keeping()


def build(spec: Spec) -> Built:
    """Load the data, build the network and put the experiment together.

    Raises:
        InputError: values do not fit the data or the network.
        DataError: data files are missing or damaged.
    """
    return spec.build()


def network_info(inputs: Tensor, outputs: int) -> dict[str, Any]:
    """Return what run.json says of what the network takes and gives: shape and type of one input, and outputs.

    Args:
        inputs: of the data (n, …); bytes are images, which the network sees as floats.
        outputs: of the network.
    """
    whole = not inputs.is_floating_point() and str(inputs.dtype) != "torch.uint8"
    return {
        "input_shape": list(inputs.shape[1:]),
        "input_dtype": "int64" if whole else "float32",
        "outputs": outputs,
    }


def place(name: str) -> str:
    """Return the device that `name` stands for.

    Raises:
        InputError: this machine does not have it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.replace("gpu", "cuda").partition(":")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(index or 0) >= count:
        has = "no CUDA device" if count == 0 else f"CUDA devices up to cuda:{count - 1}"
        raise InputError(
            f"device: expected one that is there, got {name}, but this machine has {has}. Use cpu."
        )
    return name.replace("gpu", "cuda")
