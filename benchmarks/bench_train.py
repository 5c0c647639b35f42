"""A step of training by minibatches: how much of it the input pipeline takes, images a second, PyTorch's own loop."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limen import models
from limen.dynamics.sgd import SGD
from limen.objectives.training import Training
from limen.streams import Minibatches
from limen.types import Need

NETWORKS = (("resnetlowres", "ResNet-18, low resolution", 100), ("vgg16gelu", "VGG-16 GELU", 10))
BATCH, IMAGES = 128, 5000
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def run() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = ("fp32", "bf16") if device == "cuda" else ("fp32",)
    print(f"batch {BATCH}, 3 x 32 x 32 uint8, crop, flip, label noise, SGD with momentum and decay, {device}")
    print(
        f"{'':28}{'':6}{'stream ms':>10}{'pass ms':>9}{'update ms':>10}{'stream %':>9}{'images/s':>9}", end=""
    )
    print(f"{'torch ms':>10}{'GFLOP/s':>9}{'of peak %':>10}")
    for name, shown, classes in NETWORKS:
        for precision in precisions:
            one(name, shown, classes, device, precision)
    print(
        "stream: the batch drawn, cropped, flipped, scaled, its labels replaced. torch: nn.Module, autograd and"
    )
    print(
        "torch.optim.SGD on the same batches, channels last too. peak: a large product of matrices in the same type."
    )


def one(name: str, shown: str, classes: int, device: str, precision: str) -> None:
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(classes, (IMAGES,))
    stream = Minibatches(
        images,
        labels,
        BATCH,
        classes=classes,
        crop=4,
        flip=True,
        mean=MEAN,
        std=STD,
        label_noise=0.2,
        device=device,
    )
    net = models.build(name, input_shape=(3, 32, 32), outputs=classes)
    objective = Training(net, "soft_cross_entropy", device=device, precision=precision, channels_last=True)
    rule = SGD(0.01, momentum=0.9, weight_decay=5e-4)
    state = rule.init(objective, objective.start()).replace(buffers=objective.buffers())
    plain = torch_loop(objective.training.module, precision)
    steps, clock = (4, time.process_time) if device == "cpu" else (60, synchronised)
    seen: list[tuple[float, ...]] = []
    for k in range(steps):  # in turn, so that a drift of the machine meets both
        times = [clock()]
        batch = stream(k)
        times.append(clock())
        point = objective.at(state, batch, Need.GRAD)
        point.loss.item()
        times.append(clock())
        state, _ = rule.step(point, state)
        times.append(clock())
        plain(batch.inputs, batch.targets)
        times.append(clock())
        seen.append(tuple(b - a for a, b in itertools.pairwise(times)))
    drawn, passed, updated, theirs = (
        sorted(column[1:])[len(column[1:]) // 2] for column in zip(*seen, strict=True)
    )
    whole = drawn + passed + updated
    with FlopCounterMode(display=False) as counter:
        objective.at(state, stream(0), Need.GRAD).loss.item()
    rate = counter.get_total_flops() / whole / 1e9
    print(
        f"{shown:28}{precision:6}{drawn * 1e3:10.2f}{passed * 1e3:9.1f}{updated * 1e3:10.1f}{100 * drawn / whole:9.2f}"
        f"{BATCH / whole:9.1f}{theirs * 1e3:10.1f}{rate:9.0f}{100 * rate / peak(device, precision):10.0f}"
    )


def synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def torch_loop(module: nn.Module, precision: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """PyTorch's own loop on a copy of the network."""
    net = copy.deepcopy(module).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        optimiser.zero_grad()
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = net(inputs)
        nn.functional.cross_entropy(outputs.float(), targets).backward()
        optimiser.step()

    return step


def peak(device: str, precision: str, size: int = 2048) -> float:
    """GFLOP/s of a large product of matrices."""
    size = size if device == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    clock = time.process_time if device == "cpu" else synchronised
    best = 0.0
    for _ in range(4):
        begun = clock()
        a @ a
        best = max(best, 2 * size**3 / (clock() - begun) / 1e9)
    return best
