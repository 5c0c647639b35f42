"""The 32-layer residual network for small images, with batch normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limen.models._norm import BatchNorm
from limen.models._parts import refusal

STAGES = ((16, 1), (32, 2), (64, 2))  # channels, stride of the first block
BLOCKS = 5


def make(*, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Convolution, batch normalisation, relu; three stages of five residual blocks; mean over space; linear.

    Stages have 16, 32, 64 channels, the second and third halve height and width. A block is relu(x +
    BN(conv(relu(BN(conv(x)))))), 3×3 convolutions without biases. Where a stage begins, x gives way to every
    second pixel of it, batch-normalised, with as many channels of zeros appended.

    Weights: everything is built with PyTorch's default draws; then each convolution, from the first to the
    last, is kaiming-normal (fan out, relu), and the second scale of each block zero. Batch normalisation uses
    the statistics of the batch at hand only.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021; K. He et al., Deep Residual Learning for Image Recognition, 2016.

    Args:
        input_shape: of one image, (channels, height, width), any size.
        outputs: number of outputs.

    Raises:
        InputError: the inputs are not images.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        fix = "Choose a data set of images (digits, cifar10-1k), or a fully connected net such as fc-tanh."
        raise refusal("resnet32", "images (channels, height, width)", input_shape, outputs, fix)
    return ResNet(input_shape[0], outputs)


class Shortcut(nn.Module):
    """Take every `stride`-th pixel, normalise, and append as many channels of zeros.

    Shapes: (n, c, H, W) to (n, 2c, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Bring `x` to the shape that the new stage has."""
        kept = self.norm(x[:, :, :: self.stride, :: self.stride])
        return torch.cat([kept, torch.zeros_like(kept)], dim=1)


class Block(nn.Module):
    """relu(shortcut(x) + BN(conv(relu(BN(conv(x))))))."""

    def __init__(self, before: int, channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `x` (n, channels, height, width)."""
        inner = self.bn1(self.conv1(x)).relu()
        return (self.shortcut(x) + self.bn2(self.conv2(inner))).relu()  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Images (n, channels, height, width) to (n, outputs)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        width = STAGES[0][0]
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = BatchNorm(width)
        blocks: list[Block] = []
        for after, stride in STAGES:
            for k in range(BLOCKS):
                first = k == 0 and after != width
                shortcut = Shortcut(width, stride) if first else nn.Identity()
                blocks.append(Block(width, after, stride if first else 1, shortcut))
                width = after
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, outputs)
        for module in self.modules():
            match module:
                case nn.Conv2d(weight=weight):
                    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        for block in blocks:
            nn.init.zeros_(block.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (n, channels, height, width)."""
        x = self.blocks(self.bn1(self.conv1(x)).relu())
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]
