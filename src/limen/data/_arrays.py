"""An unpickler that admits arrays and nothing else.

Names of NumPy in a pickle are mapped to inert stand-ins, so that loading a file runs no code but what is
below: not even NumPy's own reconstruction sees the bytes of a stranger.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limen.errors import DataError

FAULTS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ImportError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
)
"""What a damaged or hostile pickle can raise."""


class _Dtype:
    """Stands for `numpy.dtype`: remembers its code."""

    def __init__(self, code: Any = None, *flags: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Byte order and flags mean nothing for bytes."""


class _Array:
    """Stands for `numpy.ndarray`: remembers its state."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", data)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not admitted")
    return text.encode("latin1")


ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in protocol 2
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not an array")
        return ADMITTED[module, name]


def load(path: Path, expected: str, fix: str) -> dict[str, Any]:
    """Return the dictionary pickled in `path`, its keys as text; read the arrays in it with `as_bytes`.

    Args:
        path: a pickle of Python 2 or 3, any protocol.
        expected: what the file should be, for the error.
        fix: how to mend it, for the error.

    Raises:
        DataError: the file is missing, truncated, damaged, or holds anything but plain containers and arrays.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except FAULTS as error:
        raise DataError(
            f"{path}: expected {expected}, got a file that cannot be read ({error}). {fix}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: expected {expected}, but {error.strerror or error}. {fix}") from None
    if type(content) is not dict:
        raise DataError(f"{path}: expected {expected}, got a pickled {type(content).__name__}. {fix}")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()
    }


def as_bytes(value: Any) -> npt.NDArray[np.uint8] | None:
    """Return a pickled uint8 array (read-only), or None if `value` is not one."""
    if type(value) is not _Array or type(value.state) is not tuple or len(value.state) != 5:
        return None
    _, shape, dtype, fortran, data = value.state
    if type(dtype) is not _Dtype or dtype.code != "u1" or not isinstance(data, (bytes, bytearray)):
        return None
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        return None
    flat = np.frombuffer(data, dtype=np.uint8)
    if flat.size != np.prod(shape, dtype=object):
        return None
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
