"""Minibatches: pure in the step, independent between replicates, augmented as a plain loop over images would."""

from __future__ import annotations

import math

import pytest
import torch

from limen.errors import InputError
from limen.randomness import generator
from limen.streams import Minibatches, augment


def photographs(n=60, classes=5, size=8):
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, size, size), generator=draw, dtype=torch.uint8)
    return images, torch.randint(classes, (n,), generator=draw)


ALL = {
    "crop": 2, "flip": True, "label_noise": 0.3, "cutout": 0.25, "mixup": 0.4, "cutmix": 1.0,
    "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), "classes": 5,
}  # fmt: skip


WORDS = torch.zeros(60, 3, dtype=torch.int64)


def same(a, b):
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) and a.seed == b.seed


def test_a_step_is_the_same_whenever_it_is_asked_for():
    images, labels = photographs()
    one, other = (Minibatches(images, labels, 16, seed=3, **ALL) for _ in range(2))
    forth = [one(k) for k in range(9)]
    torch.rand(5)
    before = torch.random.get_rng_state()
    back = [other(k) for k in reversed(range(9))][::-1]
    assert all(same(a, b) for a, b in zip(forth, back, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before), "no global stream moves"
    assert not any(same(forth[0], batch) for batch in forth[1:])


def test_nothing_it_is_given_changes():
    images, labels = photographs()
    kept = images.clone(), labels.clone()
    stream = Minibatches(images, labels, 16, **ALL)
    for k in range(5):
        stream(k)
    assert torch.equal(images, kept[0])
    assert torch.equal(labels, kept[1])


@pytest.mark.parametrize("changes", [{"seed": 1}, {"replicate": 1}, {"seed": 1, "replicate": 1}])
def test_seeds_and_replicates_share_nothing(changes):
    images, labels = photographs()
    base, other = Minibatches(images, labels, 16, **ALL), Minibatches(images, labels, 16, **ALL, **changes)
    for k in range(4):
        assert not torch.equal(base.rows(k), other.rows(k))
        assert base(k).seed != other(k).seed
    collided = (
        Minibatches(images, labels, 16, seed=1, replicate=0),
        Minibatches(images, labels, 16, seed=0, replicate=1),
    )
    assert not torch.equal(collided[0].rows(0), collided[1].rows(0))


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_sees_each_example_once(drop_last):
    images, labels = photographs(50)
    stream = Minibatches(images, labels, 16, drop_last=drop_last, seed=2)
    assert stream.steps_per_epoch == (3 if drop_last else 4)
    orders = []
    for epoch in range(3):
        steps = range(epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch)
        assert {stream.epoch(k) for k in steps} == {epoch}
        seen = torch.cat([stream.rows(k) for k in steps])
        assert len(seen) == (48 if drop_last else 50)
        assert len(seen.unique()) == len(seen)
        orders.append(seen)
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


def test_without_shuffling_the_order_is_that_of_the_data():
    images, labels = photographs(50)
    stream = Minibatches(images, labels, 16, shuffle=False, drop_last=False)
    assert torch.equal(torch.cat([stream.rows(k) for k in range(4)]), torch.arange(50))
    assert torch.equal(stream(5).targets, labels[16:32])


def test_crop_and_flip_are_those_of_a_loop_over_images():
    images, labels = photographs()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).double(), torch.tensor([0.2, 0.25, 0.3]).double()
    stream = Minibatches(
        images,
        labels,
        20,
        crop=3,
        flip=True,
        mean=mean.tolist(),
        std=std.tolist(),
        dtype=torch.float64,
        seed=4,
    )
    corners = torch.randint(7, (2, 20), generator=generator(4, "minibatches/0/crop", 1))
    mirrored = torch.rand(20, generator=generator(4, "minibatches/0/flip", 1)) < 0.5
    assert mirrored.any()
    assert not mirrored.all()
    batch = stream(1)
    for k, row in enumerate(stream.rows(1)):
        wide = torch.zeros(3, 14, 14, dtype=torch.float64)
        wide[:, 3:11, 3:11] = images[row].double() / 255
        top, left = corners[0, k], corners[1, k]
        image = wide[:, top : top + 8, left : left + 8]
        if mirrored[k]:
            image = image.flip(2)
        torch.testing.assert_close(batch.inputs[k], (image - mean[:, None, None]) / std[:, None, None])


def test_corners_and_mirrors_are_uniform():
    images = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5).expand(1000, 1, 5, 5)
    stream = Minibatches(images, torch.zeros(1000, dtype=torch.int64), 1000, crop=1, flip=True, shuffle=False)
    shapes = torch.stack([255 * stream(k).inputs.flatten(1) for k in range(9)]).flatten(0, 1).round()
    counts = shapes.unique(dim=0, return_counts=True)[1].double()
    assert len(counts) == 18  # nine corners, mirrored or not
    assert ((counts - 500).square() / 500).sum() < 45  # χ² with 17 degrees of freedom: 1 in 4000


def test_label_noise_is_fresh_and_uniform_over_the_other_classes():
    n, classes, p = 2000, 4, 0.3
    labels = torch.full((n,), 2)
    stream = Minibatches(torch.zeros(n, 1), labels, n, classes=classes, label_noise=p, shuffle=False)
    drawn = torch.stack([stream(k).targets for k in range(10)])
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn.sum(2), torch.ones(10, n))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    shares = drawn.mean((0, 1)).double()
    expected = torch.tensor([p / 3, p / 3, 1 - p, p / 3]).double()
    assert (((shares - expected).square() / expected).sum() * 10 * n) < 22  # χ² with 3 degrees: 1 in 10 000
    hit = drawn.argmax(2) != 2
    both = (hit[0] & hit[1]).double().mean().item()
    assert abs(both - p * p) < 4 * math.sqrt(p * p / n), "an example is hit afresh each time it is drawn"


@pytest.mark.parametrize(("p", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_ends_of_label_noise(p, kept):
    images, labels = photographs()
    stream = Minibatches(images, labels, 60, label_noise=p, shuffle=False)
    assert (stream(0).targets.argmax(1) == labels).double().mean() == kept


def test_target_noise_is_gaussian_on_one_hot_targets():
    n, sigma = 4000, 0.7
    labels = torch.arange(n) % 5
    stream = Minibatches(torch.zeros(n, 1), labels, n, classes=5, target_noise=sigma, dtype=torch.float64)
    noise = stream(0).targets - torch.nn.functional.one_hot(labels[stream.rows(0)], 5)
    assert abs(noise.mean().item()) < 4 * sigma / math.sqrt(5 * n)
    assert abs(noise.std().item() / sigma - 1) < 4 / math.sqrt(10 * n)
    assert abs((noise**4).mean().item() / sigma**4 - 3) < 4 * math.sqrt(96 / (5 * n))
    assert not torch.equal(stream(0).targets, stream(1).targets)


def test_cutout_zeroes_a_square_clipped_at_the_rim():
    images = torch.ones(300, 2, 8, 8)
    stream = Minibatches(images, torch.zeros(300, dtype=torch.int64), 300, cutout=0.5)
    x = stream(0).inputs
    assert torch.equal(x[:, 0], x[:, 1])
    gone = 1 - x[:, 0]
    sizes = gone.sum((1, 2))
    assert sizes.max() == 16
    assert sizes.min() == 4  # a corner
    for one in gone[:20]:
        rows, columns = one.amax(1).bool(), one.amax(0).bool()
        assert torch.equal(one.bool(), rows[:, None] & columns)


def test_mixup_mixes_inputs_and_targets_alike():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(40) % 4
    stream = Minibatches(x, labels, 20, mixup=0.5, classes=4, dtype=torch.float64)
    plain = Minibatches(x, labels, 20, classes=4, dtype=torch.float64)
    kept = set()
    for k in range(6):
        mixed, before = stream(k), plain(k)
        hot = torch.nn.functional.one_hot(before.targets, 4).double()
        draw = generator(0, "minibatches/0/mixup", k)
        partner = torch.randperm(20, generator=draw)
        moved = (partner != torch.arange(20)) & (before.targets != before.targets[partner])
        share = mixed.targets[moved][0].max().item()
        kept.add(round(share, 9))
        assert share >= 0.5
        torch.testing.assert_close(mixed.inputs, share * before.inputs + (1 - share) * before.inputs[partner])
        torch.testing.assert_close(mixed.targets, share * hot + (1 - share) * hot[partner])
    assert len(kept) == 6


def test_cutmix_weighs_targets_by_area():
    images = torch.arange(1.0, 31)[:, None, None, None].expand(30, 1, 8, 8)
    labels = torch.arange(30)
    stream = Minibatches(images, labels, 30, cutmix=1.0, classes=30, dtype=torch.float64, shuffle=False)
    areas = set()
    for k in range(8):
        batch = stream(k)
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(30, dtype=torch.float64))
        for i in range(30):
            present = torch.zeros(30, dtype=torch.float64)
            for value in batch.inputs[i].flatten():
                present[int(value) - 1] += 1 / 64
            torch.testing.assert_close(batch.targets[i], present)
        areas.add(round(batch.targets[0].max().item(), 6))
    assert len(areas) > 3


def test_a_box_in_the_middle_has_its_size():
    mask, share = augment.box(10, 12, (3, 5), torch.tensor([5]), torch.tensor([6]))
    assert (mask.sum().item(), share.item()) == (15, 15 / 120)


def test_values_and_words_pass_as_they_are():
    x, y = torch.randn(10, 2, dtype=torch.float64), torch.randn(10, 1, dtype=torch.float64)
    batch = Minibatches(x, y, 5, shuffle=False)(1)
    assert torch.equal(batch.inputs, x[5:].float())
    assert torch.equal(batch.targets, y[5:].float())
    words = torch.arange(40).view(10, 4)
    assert torch.equal(Minibatches(words, words, 5, shuffle=False)(0).inputs, words[:5])


def test_what_it_tells_of_itself_tells_streams_apart():
    images, labels = photographs()
    told = Minibatches(images, labels, 16, **ALL).describe()
    assert told == Minibatches(images.clone(), labels, 16, **ALL).describe()
    for other in (
        Minibatches(images, labels, 15, **ALL),
        Minibatches(images, (labels + 1) % 5, 16, **ALL),
        Minibatches(images, labels, 16, **{**ALL, "label_noise": 0.31}),
        Minibatches(images, labels, 16, **{**ALL, "mean": (0.4, 0.5, 0.5)}),
    ):
        assert other.describe() != told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 61}, r"batch size must be from 1 to the number of examples, 60, got 61"),
        ({"batch_size": 0}, "batch size"),
        ({"images": photographs(59)[0]}, "as many labels as images"),
        ({"images": photographs(0)[0], "labels": photographs(0)[1]}, "and some: got 0 and 0"),
        ({"label_noise": 1.5}, "probability, from 0 to 1, got 1.5"),
        ({"label_noise": -0.1}, "probability"),
        ({"label_noise": math.nan}, "probability"),
        ({"label_noise": 0.1, "labels": torch.zeros(60).long()}, "at least two classes"),
        ({"label_noise": 0.1, "target_noise": 0.1}, "not both"),
        ({"target_noise": -1.0}, "target_noise"),
        ({"cutout": 1.5}, "cutout"),
        ({"mixup": -0.1}, "mixup"),
        ({"cutmix": math.inf}, "cutmix"),
        ({"crop": -1}, "crop"),
        ({"images": torch.zeros(60, 4), "flip": True}, r"take images \(n, C, H, W\)"),
        ({"labels": torch.zeros(60, 2), "label_noise": 0.1}, "noise is for class labels"),
        ({"labels": WORDS, "label_noise": 0.1}, r"one class label an example \(n,\), got .* \(60, 3\)"),
        ({"labels": WORDS, "target_noise": 0.1}, "one class label an example"),
        ({"labels": WORDS, "mixup": 0.1}, "one class label an example"),
        ({"images": WORDS, "mixup": 0.1}, "mixup and cutmix take images or real inputs, got torch.int64"),
        ({"classes": 4}, r"run from 0 to 3, as classes=4 says, got 0 to 4"),
        ({"classes": 4, "label_noise": 0.1}, "got 0 to 4"),
        ({"labels": photographs()[1] - 1, "mixup": 0.1}, "class labels run from 0 up, got -1 to 3"),
        ({"images": torch.zeros(60, 4), "mean": (0.5,)}, "for uint8 images"),
        ({"mean": (0.5,)}, "a number a channel, 3"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    images, labels = photographs()
    given = {"images": images, "labels": labels, "batch_size": 16, **changes}
    with pytest.raises(InputError, match=words):
        Minibatches(**given)
