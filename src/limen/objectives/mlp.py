"""Many small perceptrons of one shape on the same data: outputs and gradients by a few batched matrix products.

Legend: m networks, p parameters of each, n examples, d inputs, k outputs, h units of a layer. Activations have shape
(m, h, n), so that the first layer, whose inputs all networks share, is one product. Shared inputs carry a last row of
ones, (d + 1, n), which the biases multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Slope = Callable[[Tensor, Tensor], Tensor]
"""(derivative in the activations, activations) to the derivative before the activation; may work in place."""


def _tanh_slope(grad: Tensor, after: Tensor) -> Tensor:
    before: Tensor = torch.ops.aten.tanh_backward.grad_input(grad, after, grad_input=grad)
    return before


def _relu_slope(grad: Tensor, after: Tensor) -> Tensor:
    before: Tensor = torch.ops.aten.threshold_backward(grad, after, 0)
    return before


ACTIVATIONS: Mapping[type[nn.Module], tuple[Callable[[Tensor], Tensor], Slope]] = {
    nn.Tanh: (torch.tanh_, _tanh_slope),
    nn.ReLU: (torch.relu_, _relu_slope),
}


@dataclass(frozen=True)
class Layer:
    """A linear layer, and what follows it.

    Attributes:
        weight: where its weights lie in w, (h, d) row by row.
        shape: (h, d).
        bias: where its biases lie in w; None if it has none.
        activation: a key of `ACTIVATIONS`, or None.
    """

    weight: slice
    shape: tuple[int, int]
    bias: slice | None
    activation: type[nn.Module] | None

    def weights(self, w: Tensor) -> Tensor:
        """Return the weights (m, h, d), a view of w (m, p)."""
        return w[:, self.weight].view(-1, *self.shape)

    def forward(self, w: Tensor, below: Tensor) -> Tensor:
        """Return the activations (m, h, n) above those below, (m, d, n) or the shared inputs (d + 1, n)."""
        weights = self.weights(w)
        if below.ndim == 2:
            if self.bias is None:
                z = weights.flatten(0, 1) @ below[:-1]
            else:
                z = torch.cat([weights, w[:, self.bias, None]], dim=2).flatten(0, 1) @ below
            z = z.view(len(w), self.shape[0], -1)
        elif self.bias is None:
            z = torch.bmm(weights, below)
        else:
            z = torch.baddbmm(w[:, self.bias, None], weights, below)
        return z if self.activation is None else ACTIVATIONS[self.activation][0](z)

    def backward(self, grad: Tensor, after: Tensor, below: Tensor, out: Tensor) -> Tensor:
        """Write the derivatives in weights and biases to `out` (m, p); return that before the activation.

        Args:
            grad: the derivative in the activations (m, h, n), overwritten.
            after: the activations (m, h, n).
            below: those below, (m, d, n) or the shared inputs (d + 1, n).
            out: of the shape of w.
        """
        if self.activation is not None:
            grad = ACTIVATIONS[self.activation][1](grad, after)
        place = self.weights(out)  # copied into: products straight to strided places take three times as long
        if below.ndim == 2:
            both = (grad.flatten(0, 1) @ below.t()).view(len(out), self.shape[0], -1)
            place.copy_(both[..., :-1])
            if self.bias is not None:
                out[:, self.bias] = both[..., -1]
        else:
            place.copy_(torch.bmm(grad, below.transpose(1, 2)))
            if self.bias is not None:
                out[:, self.bias] = grad.sum(2)
        return grad


def layers_of(module: nn.Module, places: Mapping[str, slice]) -> list[Layer] | None:
    """Return the layers of a Sequential of Linear, Tanh and ReLU, a Flatten perhaps before them; None of any other.

    Args:
        module: the network.
        places: where each trainable parameter lies in w, by name.
    """
    if type(module) is not nn.Sequential:
        return None
    layers: list[Layer] = []
    for number, (name, part) in enumerate(module.named_children()):
        kind = type(part)
        if isinstance(part, nn.Linear) and kind is nn.Linear:
            weight, bias = places.get(f"{name}.weight"), places.get(f"{name}.bias")
            if weight is None or (part.bias is not None and bias is None):
                return None  # frozen, or shared with another layer
            layers.append(Layer(weight, (part.out_features, part.in_features), bias, None))
        elif kind in ACTIVATIONS and layers and layers[-1].activation is None:
            last = layers[-1]
            layers[-1] = Layer(last.weight, last.shape, last.bias, kind)
        elif number > 0 or not (isinstance(part, nn.Flatten) and (part.start_dim, part.end_dim) == (1, -1)):
            return None
    whole = sum(layer.shape[0] * layer.shape[1] + (layer.shape[0] if layer.bias else 0) for layer in layers)
    used = sum(place.stop - place.start for place in places.values())
    return layers if layers and whole == used and layers[-1].activation is None else None


def forward(layers: Sequence[Layer], w: Tensor, inputs: Tensor) -> list[Tensor]:
    """Return the shared inputs (d + 1, n), then the activations (m, h, n) of each layer at w (m, p)."""
    found = [inputs]
    for layer in layers:
        found.append(layer.forward(w, found[-1]))
    return found


def backward(layers: Sequence[Layer], w: Tensor, found: Sequence[Tensor], grad: Tensor) -> Tensor:
    """Return the gradients (m, p), from `forward`'s activations and the derivative in the outputs (m, k, n)."""
    out = torch.empty_like(w)
    for number in range(len(layers) - 1, -1, -1):
        grad = layers[number].backward(grad, found[number + 1], found[number], out)
        if number:
            grad = torch.bmm(layers[number].weights(w).transpose(1, 2), grad)
    return out
