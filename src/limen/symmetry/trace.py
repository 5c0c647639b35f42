"""A network's forward pass as a list of tensor operations with concrete shapes.

The network runs once on a small example, in evaluation mode, and every operation that reaches the tensor library is
written down. Python control flow over shapes needs no care, as it has happened by then; what a network decides by the
*values* in a tensor cannot be seen in one pass and is refused.
"""

# mypy: disable-error-code="no-untyped-call, no-any-return"
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from limen.errors import InputError

aten = torch.ops.aten

DECIDERS = (aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default)
"""Operations that hand a number from inside a tensor to Python."""

MADE_ANEW = (
    "empty_like",
    "full_like",
    "new_empty",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones_like",
    "zeros_like",
)
"""Operations that take no more than shape and type from their input."""

FEW = 2
"""Examples that are run: more would only cost time."""


@dataclass(frozen=True)
class Ref:
    """A tensor of the pass, by number."""

    number: int


@dataclass(frozen=True)
class Call:
    """One operation: its arguments with tensors replaced by `Ref`, what it returned, and in which module it ran."""

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    out: Any
    module: str


@dataclass(frozen=True)
class Tape:
    """A forward pass.

    Attributes:
        calls: in their order.
        parameters: number of each parameter's tensor, by name.
        buffers: number of each buffer's tensor, by name.
        inputs: numbers of the example's tensors.
        outputs: numbers of the tensors that the network returned.
        shapes: of every tensor, by number.
        dtypes: of every tensor, by number.
        constants: values of what depends on neither parameters nor example (buffers among them).
    """

    calls: tuple[Call, ...]
    parameters: Mapping[str, int]
    buffers: Mapping[str, int]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: Mapping[int, tuple[int, ...]]
    dtypes: Mapping[int, torch.dtype]
    constants: Mapping[int, Tensor]


def tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in a nest of tuples, lists and dicts."""
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


class _Recorder(TorchDispatchMode):
    """Writes down each operation that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[int, int] = {}
        self.alive: list[Tensor] = []  # a tensor that died would leave its id to another
        self.live: set[int] = set()  # what depends on parameters or example
        self.calls: list[Call] = []
        self.modules: list[str] = [""]
        self.failed_in: str | None = None

    def number(self, tensor: Tensor) -> int:
        key = id(tensor)
        if key not in self.numbers:
            self.numbers[key] = len(self.alive)
            self.alive.append(tensor)
        return self.numbers[key]

    def refer(self, tree: Any) -> Any:
        return tree_map(lambda leaf: Ref(self.number(leaf)) if isinstance(leaf, Tensor) else leaf, tree)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [self.number(x) for x in tensors((args, kwargs))]
        depends = any(number in self.live for number in given)
        if depends and func in DECIDERS:
            raise InputError("it reads a number out of a tensor to decide what to do next")
        out = func(*args, **kwargs)
        if func not in DECIDERS and tensors(out):
            returned = self.refer(out)
            if depends and func.overloadpacket.__name__ not in MADE_ANEW:
                self.live.update(self.number(x) for x in tensors(out))
            self.calls.append(Call(func, self.refer(args), self.refer(kwargs), returned, self.modules[-1]))
        return out


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module in evaluation mode, and back as it was afterwards."""
    were = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in were:
            part.training = training


def call_with(module: nn.Module, state: Mapping[str, Tensor], inputs: tuple[Any, ...]) -> Any:
    """Call a module with other parameters and buffers, given by the names of `named_parameters` and `named_buffers`.

    A tensor that several parts share, or a part that has several names, is replaced once in each place.
    """
    own = {id(x): name for name, x in (*module.named_parameters(), *module.named_buffers())}
    places = {
        f"{prefix}.{leaf}" if prefix else leaf: own[id(x)]
        for prefix, part in module.named_modules()
        for leaf, x in (*part._parameters.items(), *part._buffers.items())
        if x is not None
    }
    held = {place: state[name] for place, name in places.items() if name in state}
    return functional_call(module, held, inputs, tie_weights=False)


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Have attention and recurrent layers run as the operations that they are made of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    recurrent = torch._C._get_mkldnn_enabled()  # what the public switch wraps; that one also sets precisions
    torch._C._set_mkldnn_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(recurrent)
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def _following(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Let the recorder know in which part of `module` it is."""
    names = {id(part): name for name, part in module.named_modules()}

    def enter(part: nn.Module, args: Any) -> None:
        recorder.modules.append(names.get(id(part), recorder.modules[-1]))

    def leave(part: nn.Module, args: Any, out: Any) -> Any:
        if (
            isinstance(part, _DropoutNd) and part.p > 0
        ):  # off now, but training will not treat units alike there
            out = aten.native_dropout(out, part.p, False)[0]
        recorder.modules.pop()
        return out

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _few(example: Any) -> Any:
    return tree_map(lambda x: (x[:FEW] if x.ndim else x).cpu() if isinstance(x, Tensor) else x, example)


def trace(module: nn.Module, example: Any) -> Tape:
    """Run `module` on the first examples of `example` and return the operations.

    The module is left as it was: its mode, its buffers, and the global random stream.

    Args:
        module: the network.
        example: its input (n, …), or a tuple of inputs.

    Raises:
        InputError: the network does not take the example, or decides by values what to do.
    """
    recorder = _Recorder()
    given = _few(example if isinstance(example, tuple) else (example,))
    # on the CPU: accelerators fuse what is told apart here, and labels live there
    parameters = {name: x.detach().cpu() for name, x in module.named_parameters()}
    buffers = {name: x.detach().cpu() for name, x in module.named_buffers()}
    numbers = {name: recorder.number(x) for name, x in parameters.items()}
    kept = {name: recorder.number(x) for name, x in buffers.items()}
    inputs = tuple(recorder.number(x) for x in tensors(given))
    recorder.live.update(numbers.values(), inputs)

    def run(parameters: Any, buffers: Any, given: Any) -> Any:
        return call_with(module, {**parameters, **buffers}, given)

    with (
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
        evaluating(module),
        _unfused(),
        _following(module, recorder),
    ):
        try:
            with recorder:
                out = functionalize(run)(parameters, buffers, given)
        except (
            InputError,
            RuntimeError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            AssertionError,
        ) as error:
            raise _refusal(module, recorder.modules[-1], error) from error
    returned = tuple(recorder.number(x) for x in tensors(out))
    shapes = {number: tuple(x.shape) for number, x in enumerate(recorder.alive)}
    dtypes = {number: x.dtype for number, x in enumerate(recorder.alive)}
    constants = {number: x for number, x in enumerate(recorder.alive) if number not in recorder.live}
    return Tape(tuple(recorder.calls), numbers, kept, inputs, returned, shapes, dtypes, constants)


def _refusal(module: nn.Module, where: str, error: Exception) -> InputError:
    parts = dict(module.named_modules())
    kind = type(parts[where]).__name__
    place = f"its part {where!r} ({kind})" if where else "its own forward"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"cannot trace {type(module).__name__}: {place} failed on the example: {reason}. "
        "Give an example of the shape and type that the network takes, and let the path through that part "
        "depend on shapes alone, not on the values of tensors."
    )
