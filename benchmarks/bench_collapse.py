"""The collapse report of VGG-16: tracing, counting, and the Gram matrices alone; one thread.

Beside it the published way, Python loops over pairs of neurons, on its first layers, and from them what it would take
for all: its time goes with the square of the neurons times their numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from limen.collapse import count
from limen.collapse.gram import gram
from limen.collapse.report import parts, report
from limen.models import build
from limen.symmetry import neuron_groups


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Return the least of some times, after one that is not counted."""
    work()
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def loops(V: Tensor) -> int:
    """Count as the published notebooks do."""
    norms = [v.norm() for v in V]
    most = max(norms)
    founders: list[Tensor] = []
    for v, norm in zip(V, norms, strict=True):
        if norm < 0.1 * most:
            continue
        if all(2 * (v - a).square().sum() / (v.square().sum() + a.square().sum()) >= 0.1 for a in founders):
            founders.append(v)
    return len(founders)


def run() -> None:
    """Print the times: of the processor, as all benchmarks do."""
    torch.set_num_threads(1)
    net = build("vgg16gelu", input_shape=(3, 32, 32), outputs=10)
    example = torch.zeros(2, 3, 32, 32)
    weights = net.state_dict()
    groups = neuron_groups(net, example)
    layers = [parts(group, weights) for group in groups]
    neurons = sum(group.size for group in groups)
    print(f"VGG-16, {neurons} hidden neurons in {len(groups)} groups, random weights; one thread")
    print(f"  Gram matrices alone        {seconds(lambda: [gram(layer) for layer in layers]):8.3f} s")
    print(f"  tracing                    {seconds(lambda: neuron_groups(net, example)):8.3f} s")
    print(f"  counting                   {seconds(lambda: report(groups, weights)):8.3f} s")
    whole = seconds(lambda: report(neuron_groups(net, example), weights))
    print(f"  report, tracing included   {whole:8.3f} s")
    collapsed = {name: x.clone() for name, x in weights.items()}
    for group in groups:
        for slot in group.slots:
            front = collapsed[slot.parameter].movedim(slot.dim, 0)
            front[slot.index[group.size // 2 :]] = front[slot.index[:1]]  # half of each layer is one neuron
    print(f"  counting, half collapsed   {seconds(lambda: report(groups, collapsed)):8.3f} s")
    V = torch.cat(layers[2], dim=1)
    begun = time.process_time()
    found = loops(V)
    spent = time.process_time() - begun
    pairs = sum(group.size**2 for group in groups) / groups[2].size ** 2
    same = found == count(*layers[2], grouping="greedy").independent
    print(f"  published loops, {groups[2].name} alone {spent:6.2f} s ({'same' if same else 'other'} count),")
    print(f"    for the pairs of all layers about {spent * pairs:.0f} s")
