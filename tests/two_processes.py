"""One of several processes that train a network together: python two_processes.py FOLDER RANK WORLD."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from limen.dynamics.sgd import SGD
from limen.models import build
from limen.objectives.training import Training
from limen.streams import Minibatches
from limen.types import Need


def network() -> nn.Module:
    """A limen network with BatchNorm, after torch's own."""
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, momentum=None))
    ours = build("cnn-bn-elu", input_shape=(3, 8, 8), outputs=4, seed=1, arguments={"width": 4})
    return nn.Sequential(theirs, ours).double()


def train() -> dict[str, torch.Tensor]:
    """Train for some steps on batches of an odd number, and look at all that is summed."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 8, 8), generator=draw, dtype=torch.uint8)
    labels = torch.randint(4, (50,), generator=draw)
    held_out = torch.randn(13, 3, 8, 8, generator=draw, dtype=torch.float64), labels[:13]
    stream = Minibatches(
        images, labels, 11, crop=1, flip=True, label_noise=0.2, classes=4, dtype=torch.float64, seed=5
    )
    objective = Training(network(), "soft_cross_entropy", evaluation=held_out, eval_batch_size=4)
    assert objective.test is not None
    rule = SGD(0.1, momentum=0.9, weight_decay=5e-4, grad_clip_norm=1.0)
    state, losses, hits = rule.init(objective, objective.start()), [], []
    for step in range(8):
        point = objective.at(state, stream(step), Need.GRAD)
        losses.append(point.loss)
        hits.append(point.accuracy)
        state, _ = rule.step(point, state)
    last = objective.at(state, stream(8), Need.GRAD | Need.CURVATURE)
    v = torch.randn(objective.dim, generator=draw, dtype=torch.float64)
    test = objective.test.at(state, need=Need.GRAD)
    return {
        "losses": torch.stack(losses),
        "accuracies": torch.stack(hits),
        "w": state.w,
        "hvp": last.hvp(v),
        "d3": last.d3(v, v),
        "test": torch.stack([test.loss, test.accuracy]),
        "test_grad": test.grad,
        **{f"buffer {name}": x for name, x in state.buffers.items()},
    }


if __name__ == "__main__":
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    torch.save(train(), folder / f"{rank}.pt")
    distributed.destroy_process_group()
