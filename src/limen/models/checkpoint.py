"""Weights from a checkpoint of whatever make, without running any of the code that it may hold.

A checkpoint is an archive of a pickle and of raw numbers. Unpickling calls whatever the pickle names, so this reader
knows tensors and plain containers alone: all else becomes a dead husk, is never called, and is dropped.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limen.errors import DataError

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(RuntimeError, ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError),
    *(MemoryError, NotImplementedError),
)
"""What reading damaged or hostile bytes may raise."""

PLAIN = (bool, int, float, complex, str, bytes, type(None))
PREFIX = "module."
NESTS = (("state", "model"), ("model_state_dict",), ("state_dict",), ("model",), ("net",))
"""Where checkpoints of several makes keep the weights."""


class _Husk:
    """Stands for an object of a class that is not known; takes whatever a pickle does to it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Forget the item of a list that is not known."""

    def extend(self, items: object) -> None:
        """Forget the items of a list that is not known."""

    def add(self, item: object) -> None:
        """Forget the item of a set that is not known."""


def _known() -> dict[tuple[str, str], Callable[..., Any]]:
    """Return what may be called, made anew: a pickle can set attributes of what it is given, and of nothing else."""

    class Dictionary(collections.OrderedDict[Any, Any]):
        pass

    def tensor(storage: Tensor, offset: int, size: Any, stride: Any, *rest: object) -> Tensor:
        return storage.as_strided(tuple(size), tuple(stride), offset)

    def typed(
        storage: Tensor,
        offset: int,
        size: Any,
        stride: Any,
        grad: object,
        hooks: object,
        dtype: Any,
        *rest: object,
    ) -> Tensor:
        return storage.view(dtype).as_strided(tuple(size), tuple(stride), offset)

    def parameter(data: Tensor, *rest: object) -> Tensor:
        return data

    def size(*args: Any) -> tuple[Any, ...]:
        return tuple(*args)

    def device(*args: Any) -> str:
        return ":".join(map(str, args))

    def encoded(text: str, encoding: str) -> bytes:  # how protocol 2 writes bytes
        return text.encode("latin1")

    return {
        ("collections", "OrderedDict"): Dictionary,
        ("_codecs", "encode"): encoded,
        **{
            (module, kind.__name__): kind
            for module in ("builtins", "__builtin__")
            for kind in (set, frozenset, complex)
        },
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_tensor_v3"): typed,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): parameter,
        ("torch", "Size"): size,
        ("torch", "device"): device,
    }


class _Reader(pickle.Unpickler):
    """Unpickles tensors and plain containers, everything else as husks."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self._archive, self._root, self._known = archive, root, _known()
        self._storages: dict[str, Tensor] = {}
        order = f"{root}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian")

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        return self._known.get((module, name)) or type("Husk", (_Husk,), {})

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the numbers of a storage, one-dimensional."""
        kind, dtype, key, _, _ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError("it refers to something that is no tensor")
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            self._storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[key]


def read_plain(path: Path | str) -> Any:
    """Return the tensors and plain containers of a file that `torch.save` wrote, and nothing of what else it holds.

    Nothing that the file names is imported or called. Entries that are something else are left out.

    Raises:
        DataError: there is no such file, or it is no such archive.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(
                (name[: -len("/data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")), None
            )
            if root is None:
                raise ValueError("it holds no data.pkl")
            return _plain(_Reader(archive, root).load(), {})
    except OSError as error:
        raise DataError(f"{path}: expected a checkpoint, but: {error.strerror or error}.") from None
    except BROKEN as error:
        raise DataError(
            f"{path}: expected a checkpoint as torch.save has written it since version 1.6, but it cannot be read: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}. Save it again, or name another file."
        ) from None


class _Nothing:
    """Stands for what is dropped."""


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """Return a copy of tensors and plain containers; `_Nothing` for the rest, which containers leave out."""
    kind = type(value)
    if kind in PLAIN or isinstance(value, torch.dtype):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        out = seen[id(value)] = {}
        for key, item in value.items():
            if type(key) in PLAIN and (kept := _plain(item, seen)) is not _Nothing:
                out[key] = kept
        return out
    if kind in (list, tuple, set, frozenset):
        seen[id(value)] = _Nothing  # a container that holds itself
        items = [kept for item in value if (kept := _plain(item, seen)) is not _Nothing]
        seen[id(value)] = kind(items)
        return seen[id(value)]
    return _Nothing


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the weights and buffers in a checkpoint by name, without the prefix `module.`.

    A state_dict, a checkpoint of training (`state["state"]["model"]`), and those of several other makes are known.

    Raises:
        DataError: the file cannot be read, or holds no weights.
    """
    content = read_plain(path)
    for found in _candidates(content):
        tensors = {name: x for name, x in found.items() if isinstance(name, str) and isinstance(x, Tensor)}
        if tensors and len(tensors) == len(found):
            wrapped = all(name.startswith(PREFIX) for name in tensors)
            return {name.removeprefix(PREFIX) if wrapped else name: x for name, x in tensors.items()}
    raise DataError(
        f"{path}: expected weights by name, as a state_dict or under state/model, found none. "
        "Save the network's state_dict() and name that file."
    )


def _candidates(content: Any) -> Iterator[dict[Any, Any]]:
    for nest in (*NESTS, ()):
        here = content
        for key in nest:
            here = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, dict):
            yield here
