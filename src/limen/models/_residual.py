"""Residual networks of 18 to 152 layers for images, in the names and with the draws of torchvision's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from limen.models._norm import BatchNorm

STAGES = (64, 128, 256, 512)


class Basic(nn.Module):
    """relu(shortcut(x) + BN(conv3(relu(BN(conv3(x))))))."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm(width)
        self.relu: nn.Module = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `x` (n, channels, height, width)."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        kept = x if self.downsample is None else self.downsample(x)
        return self.relu(inner + kept)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """relu(shortcut(x) + BN(conv1(relu(BN(conv3(relu(BN(conv1(x)))))))))); the 3×3 one has the stride."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm(width * self.expansion)
        self.relu: nn.Module = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to `x` (n, channels, height, width)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(inner)))))
        kept = x if self.downsample is None else self.downsample(x)
        return self.relu(inner + kept)  # type: ignore[no-any-return]


DEPTHS: Mapping[str, tuple[type[Basic] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (Basic, (2, 2, 2, 2)),
    "resnet34": (Basic, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
"""Block and blocks of each stage, by name."""


class ResNet(nn.Module):
    """Images (n, channels, height, width) to (n, outputs).

    A 7×7 convolution of stride 2 and a 3×3 max-pool of stride 2, four stages of blocks with 64, 128, 256, 512 channels
    (times the block's expansion), of which all but the first halve height and width, the mean over space, a linear
    layer. A shortcut that changes shape is a 1×1 convolution, batch-normalised.

    Weights: everything is built with PyTorch's default draws, a block's shortcut before the block; then each
    convolution, in `modules()` order, is kaiming-normal (fan out, relu).
    Source: K. He et al., Deep Residual Learning for Image Recognition, 2016; names and stride placement as
    torchvision.

    Args:
        name: resnet18, resnet34, resnet50, resnet101 or resnet152.
        channels: of the images.
        outputs: number of outputs.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, name: str, channels: int, outputs: int) -> None:
        super().__init__()
        block, blocks = DEPTHS[name]
        self.conv1 = nn.Conv2d(channels, STAGES[0], 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm(STAGES[0])
        self.relu: nn.Module = nn.ReLU()
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, padding=1)
        before = STAGES[0]
        for number, (width, count) in enumerate(zip(STAGES, blocks, strict=True), start=1):
            stage = []
            for k in range(count):
                stride = 2 if k == 0 and number > 1 else 1
                after = width * block.expansion
                downsample = None
                if stride > 1 or before != after:
                    shrink = nn.Conv2d(before, after, 1, stride, bias=False)
                    downsample = nn.Sequential(shrink, BatchNorm(after))
                stage.append(block(before, width, stride, downsample))
                before = after
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.fc = nn.Linear(before, outputs)
        for module in self.modules():
            match module:
                case nn.Conv2d(weight=weight):
                    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (n, channels, height, width)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]
