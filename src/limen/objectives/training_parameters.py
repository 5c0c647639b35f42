"""A network's parameters as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from limen.errors import InputError


class Parameters:
    """The parameters of a module that require a gradient, in `parameters()` order; shared ones count once.

    Within a kernel (out, in, height, width) the numbers may lie with the channels last: the views that `unflatten`
    gives have its shape in either case, and convolutions over images laid out so need no copy of them.

    Args:
        module: whose parameters they are.
        channels_last: whether kernels lie so.

    Attributes:
        names: of the parameters.
        dim: p, how many numbers they are.

    Raises:
        InputError: there are none.
    """

    def __init__(self, module: nn.Module, channels_last: bool = False) -> None:
        trainable = [(name, x) for name, x in module.named_parameters() if x.requires_grad]
        if not trainable:
            raise InputError(f"{type(module).__name__} has no parameter that requires a gradient.")
        self.names = [name for name, _ in trainable]
        canonical = {id(x): name for name, x in trainable}
        aliases = module.named_parameters(remove_duplicate=False)
        self._aliases = {name: canonical[id(x)] for name, x in aliases if id(x) in canonical}
        self._keys = list(module.state_dict())
        self._lies = [channels_last and x.ndim == 4 for _, x in trainable]
        shapes = [x.shape for _, x in trainable]
        self._shapes = [
            torch.Size((s[0], s[2], s[3], s[1])) if lies else s
            for s, lies in zip(shapes, self._lies, strict=True)
        ]
        self._sizes = [x.numel() for _, x in trainable]
        self.dim = sum(self._sizes)

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return named tensors as one new vector (p,)."""
        return self.join([parameters[name] for name in self.names])

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return one tensor a parameter as one new vector (p,)."""
        rows = [
            (x.permute(0, 2, 3, 1) if lies else x).reshape(-1)
            for x, lies in zip(parts, self._lies, strict=True)
        ]
        return torch.cat(rows).detach()

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """Return views of `w` (p,) by name."""
        views = [x.view(shape) for x, shape in zip(torch.split(w, self._sizes), self._shapes, strict=True)]
        turned = [x.permute(0, 3, 1, 2) if lies else x for x, lies in zip(views, self._lies, strict=True)]
        return dict(zip(self.names, turned, strict=True))

    def state_dict(self, w: Tensor, rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state_dict of copies, with `w` (p,) and, for all else, `rest`, in the module's order."""
        parts = self.unflatten(w)
        return {
            key: parts[self._aliases[key]].clone(memory_format=torch.contiguous_format)
            if key in self._aliases
            else rest[key].clone()
            for key in self._keys
        }
