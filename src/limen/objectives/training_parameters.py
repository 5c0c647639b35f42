"""A network's parameters as one flat vector, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limen.errors import InputError


class Parameters:
    """The parameters of a module that require a gradient, in `parameters()` order; shared ones count once.

    Attributes:
        names: of the parameters.
        dim: p, how many numbers they are.

    Raises:
        InputError: there are none.
    """

    def __init__(self, module: nn.Module) -> None:
        trainable = [(name, x) for name, x in module.named_parameters() if x.requires_grad]
        if not trainable:
            raise InputError(f"{type(module).__name__} has no parameter that requires a gradient.")
        self.names = [name for name, _ in trainable]
        canonical = {id(x): name for name, x in trainable}
        aliases = module.named_parameters(remove_duplicate=False)
        self._aliases = {name: canonical[id(x)] for name, x in aliases if id(x) in canonical}
        self._keys = list(module.state_dict())
        self._shapes = [x.shape for _, x in trainable]
        self._sizes = [x.numel() for _, x in trainable]
        self.dim = sum(self._sizes)

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return named tensors as one new vector (p,)."""
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.names])

    def unflatten(self, w: Tensor) -> dict[str, Tensor]:
        """Return views of `w` (p,) by name."""
        pieces = zip(self.names, torch.split(w, self._sizes), self._shapes, strict=True)
        return {name: piece.view(shape) for name, piece, shape in pieces}

    def state_dict(self, w: Tensor, rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state_dict of copies, with `w` (p,) and, for all else, `rest`, in the module's order."""
        parts = self.unflatten(w)
        return {
            key: parts[self._aliases[key]].clone() if key in self._aliases else rest[key].clone()
            for key in self._keys
        }
