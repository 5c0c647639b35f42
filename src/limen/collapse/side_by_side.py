"""Many small convolutional networks trained side by side by SGD with label noise, each with its own randomness.

A step of one such network is all overhead: 48 of them in one batched product cost as much as a few. Each has its own
rate, label noise and seed; the size of the minibatches is common.

Legend: M networks, n images, b in a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limen.collapse.counts import Counts, Grouping, count
from limen.errors import InputError
from limen.randomness import generator

CHANNELS = (8, 16)
HIDDEN = 32
"""Units of the convolutions and of the hidden layer."""


@dataclass(frozen=True)
class Setting:
    """How one network is trained.

    Attributes:
        lr: η of w ← w − η(g + λw).
        label_noise: probability that a label, each time it is drawn, is replaced by another class.
        batch_size: images a step; all of them, in one batch, where there are no more.
        seed: of the initial weights; with the other three, of minibatches and noise.
    """

    lr: float
    label_noise: float
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A trained network.

    Attributes:
        setting: how it was trained.
        loss: cross entropy on the training images with their true labels, nan or inf where it diverged.
        accuracy: fraction of the training images classified correctly.
        layers: what is left of the neurons of each hidden layer; empty where it diverged.
        parameters: its weights by name, as in `network`.
    """

    setting: Setting
    loss: float
    accuracy: float
    layers: tuple[Counts, ...]
    parameters: dict[str, Tensor]

    @property
    def fraction(self) -> float:
        """Independent neurons of all hidden layers as a fraction of all; nan where it diverged."""
        size = sum(layer.size for layer in self.layers)
        return sum(layer.independent for layer in self.layers) / size if size else float("nan")


def network(seed: int, classes: int = 2) -> nn.Sequential:
    """Return the network: two 3×3 convolutions of stride 2, the mean over places, a hidden layer; tanh throughout.

    For images (1, 8, 8); 8, 16 and 32 hidden units. Kaiming-normal weights (fan in, gain √2), zero biases.
    """
    net = nn.Sequential(
        nn.Conv2d(1, CHANNELS[0], 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, stride=2, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS[1], HIDDEN),
        nn.Tanh(),
        nn.Linear(HIDDEN, classes),
    )
    draw = generator(seed, "side by side/start")
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                fan_in = parameter[0].numel()
                parameter.copy_((2 / fan_in) ** 0.5 * torch.randn(parameter.shape, generator=draw))
    return net


class Together:
    """M networks as one function of stacked parameters.

    Attributes:
        settings: one a network, of one batch size.
        parameters: by name, (M, …) each.

    Args:
        settings: as above.
        images: (n, 1, 8, 8).
        labels: class labels (n,).
        weight_decay: λ.

    Raises:
        InputError: batch sizes differ.
    """

    def __init__(
        self, settings: Sequence[Setting], images: Tensor, labels: Tensor, weight_decay: float = 0.0
    ) -> None:
        sizes = {setting.batch_size for setting in settings}
        if len(sizes) != 1:
            raise InputError(f"networks side by side see batches of one size, got {sorted(sizes)}.")
        self.settings, self.labels, self.weight_decay = list(settings), labels, weight_decay
        self.batch_size = min(sizes.pop(), len(images))
        self.classes = int(labels.max()) + 1
        self.patches = F.unfold(images.to(torch.float32), 3, padding=1, stride=2)
        starts = [dict(network(s.seed, self.classes).named_parameters()) for s in self.settings]
        self.parameters = {
            name: torch.stack([start[name].detach() for start in starts]) for name in starts[0]
        }
        self.lr = torch.tensor([s.lr for s in self.settings])
        self._epoch: tuple[int, Tensor, Tensor] = (-1, labels, labels)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return which images each network sees at a step (M, b), and their noisy labels (M, b)."""
        steps = len(self.labels) // self.batch_size
        epoch, place = divmod(step, steps)
        if self._epoch[0] != epoch:
            drawn = [self._draw(setting, epoch) for setting in self.settings]
            rows, labels = (torch.stack(part) for part in zip(*drawn, strict=True))
            self._epoch = (epoch, rows, labels)
        here = slice(place * self.batch_size, (place + 1) * self.batch_size)
        return self._epoch[1][:, here], self._epoch[2][:, here]

    def _draw(self, setting: Setting, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the order of an epoch (n,), and the labels in that order, with their noise."""
        draw = generator(setting.seed, f"side by side/{setting}", epoch)
        rows = torch.randperm(len(self.labels), generator=draw)
        labels = self.labels[rows]
        hit = torch.rand(len(rows), generator=draw) < setting.label_noise
        other = torch.randint(1, self.classes, (len(rows),), generator=draw)
        return rows, torch.where(hit, (labels + other) % self.classes, labels)

    def outputs(self, parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        """Return the networks' outputs (M, K, b) on the images `rows` (M, b)."""
        M, b = rows.shape
        flat = {name: x if name.endswith("bias") else x.flatten(2) for name, x in parameters.items()}
        x = self.patches[rows].permute(0, 2, 1, 3).reshape(M, -1, b * 16)
        x = torch.tanh(torch.baddbmm(flat["0.bias"][..., None], flat["0.weight"], x))
        x = x.view(M, -1, b, 16).transpose(1, 2).reshape(M * b, -1, 4, 4)
        x = F.unfold(x, 3, padding=1, stride=2).view(M, b, -1, 4).transpose(1, 2).reshape(M, -1, b * 4)
        x = torch.tanh(torch.baddbmm(flat["2.bias"][..., None], flat["2.weight"], x))
        x = x.view(M, -1, b, 4).mean(3)
        x = torch.tanh(torch.baddbmm(flat["6.bias"][..., None], flat["6.weight"], x))
        return torch.baddbmm(flat["8.bias"][..., None], flat["8.weight"], x)

    def step(self, step: int) -> None:
        """Advance all networks once."""
        rows, labels = self.batch(step)
        leaves = {name: x.requires_grad_() for name, x in self.parameters.items()}
        outputs = self.outputs(leaves, rows)
        loss = F.cross_entropy(outputs, labels, reduction="none").mean(1).sum()
        grads = torch.autograd.grad(loss, list(leaves.values()))
        with torch.no_grad():
            for (name, x), grad in zip(leaves.items(), grads, strict=True):
                rate = self.lr.view(-1, *[1] * (x.ndim - 1))
                self.parameters[name] = x.detach() - rate * (grad + self.weight_decay * x)

    @torch.no_grad()
    def outcomes(self, grouping: Grouping = "linkage") -> list[Outcome]:
        """Return how the networks stand."""
        found = []
        for index, setting in enumerate(self.settings):
            alone = {name: x[index].detach().clone() for name, x in self.parameters.items()}
            rows = torch.arange(len(self.labels))[None]
            outputs = self.outputs({name: x[None] for name, x in alone.items()}, rows)[0].t()
            loss = float(F.cross_entropy(outputs, self.labels))
            accuracy = float((outputs.argmax(1) == self.labels).float().mean())
            finite = all(bool(x.isfinite().all()) for x in alone.values())
            layers = tuple(count(*parts, grouping=grouping) for parts in layer_parts(alone)) if finite else ()
            found.append(Outcome(setting, loss, accuracy, layers, alone))
        return found


def layer_parts(parameters: dict[str, Tensor]) -> list[list[Tensor]]:
    """Return what belongs to the neurons of each hidden layer of `network`: weights in, bias, weights out."""
    return [
        [
            parameters[f"{here}.weight"].flatten(1),
            parameters[f"{here}.bias"][:, None],
            parameters[f"{after}.weight"].transpose(0, 1).flatten(1),
        ]
        for here, after in (("0", "2"), ("2", "6"), ("6", "8"))
    ]


def train(
    settings: Sequence[Setting],
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    weight_decay: float = 0.0,
    grouping: Grouping = "linkage",
) -> list[Outcome]:
    """Return the networks of some settings of one batch size, trained for so many steps."""
    together = Together(settings, images, labels, weight_decay)
    for step in range(steps):
        together.step(step)
    return together.outcomes(grouping)
