"""The published image sets: files, scale, what training draws of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from limen import data
from limen.errors import DataError, InputError
from limen.streams import Minibatches

TEN, HUNDRED = (
    ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
)


@pytest.fixture(scope="module")
def cifar10(data_dir):
    return data.images("cifar10", {}, data_dir)


def test_cifar10_stays_bytes_and_its_test_set_is_scaled(cifar10, data_dir):
    assert (cifar10.images.dtype, tuple(cifar10.images.shape)) == (torch.uint8, (50_000, 3, 32, 32))
    assert (cifar10.classes, cifar10.outputs, cifar10.crop, cifar10.flip) == (10, 10, 4, True)
    from limen.data import cifar10 as family

    (raw, labels), (test, test_labels) = family.read(data_dir / "cifar-10-batches-py")
    assert np.array_equal(cifar10.images.flatten(1).numpy(), raw)
    assert np.array_equal(cifar10.labels.numpy(), labels)
    assert np.array_equal(cifar10.test_labels.numpy(), test_labels)
    mean, std = (np.array(x)[:, None, None] for x in TEN)
    expected = (test[:50].reshape(-1, 3, 32, 32) / 255 - mean) / std
    np.testing.assert_allclose(cifar10.test_images[:50].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "sigma", "expected"),
    [
        ("cifar10", None, {"crop": 4, "flip": True}),
        ("cifar10noiseless", None, {"crop": 0, "flip": False}),
        ("cifar10noisy", 0.3, {"crop": 4, "flip": True, "target_noise": 0.3}),
        ("cifar10labelnoise", 0.4, {"crop": 4, "flip": True, "label_noise": 0.4}),
        ("cifar10labelnoise", 0.0, {"crop": 4, "flip": True, "label_noise": 0.0}),
    ],
)
def test_each_variant_of_cifar10_draws_as_published(data_dir, name, sigma, expected):
    fields = {} if sigma is None else {"sigma": sigma}
    made = data.images(name, fields, data_dir).stream(fields)
    assert made == {"classes": 10, "mean": TEN[0], "std": TEN[1], **expected}


def test_label_noise_on_cifar100(data_dir):
    made = data.images("cifar100labelnoise", {"sigma": 0.5}, data_dir)
    stream = Minibatches(made.images, made.labels, 500, **made.stream({"sigma": 0.5}))
    batch = stream(7)
    assert batch.targets.shape == (500, 100)
    kept = (batch.targets.argmax(1) == made.labels[stream.rows(7)]).double().mean().item()
    assert abs(kept - 0.5) < 4 * 0.5 / 500**0.5
    assert made.stream({})["mean"] == HUNDRED[0]


def test_an_embedded_set_trains_as_it_is():
    made = data.images("digits", {"n": 100, "sigma": 0.2}, None)
    assert (made.images.shape, made.mean, made.crop, made.flip) == ((100, 1, 8, 8), None, 0, False)
    assert made.stream({"sigma": 0.2})["label_noise"] == 0.2
    assert made.stream({})["label_noise"] is None
    batch = Minibatches(made.images, made.labels, 10, **made.stream({}))(0)
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.dtype == torch.int64


def test_what_a_set_does_not_have_is_refused(data_dir):
    with pytest.raises(InputError, match=r"'cifar10' takes no field 'sigma'"):
        data.images("cifar10", {"sigma": 0.1}, data_dir)
    with pytest.raises(InputError, match=r"Did you mean 'sigma'"):
        data.images("cifar10noisy", {"sigm": 0.1}, data_dir)
    with pytest.raises(InputError, match="no noise"):
        data.images("chebyshev-3-20", {}, None).stream({"sigma": 0.1})
    with pytest.raises(DataError, match="limen data fetch cifar100"):
        data.images("cifar100labelnoise", {}, data_dir / "MNIST")


@pytest.fixture
def folder(tmp_path):
    """Two classes of images in two sizes, each of one colour."""
    for part, count in (("train", 3), ("val", 1)):
        for k, name in enumerate(("ant", "bee")):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((20 + 10 * i, 40, 3), [50 * k, 100, 10 * i], np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path


def test_an_image_folder_is_read_whole(folder):
    made = data.images("imagenet", {"resize_size": 20, "crop_size": 16}, folder)
    assert tuple(made.images.shape) == (6, 3, 16, 16)
    assert made.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert made.images[4, :, 3, 5].tolist() == [50, 100, 10]
    assert (made.classes, made.crop, made.flip) == (2, 2, True)
    mean, std = torch.tensor(made.mean), torch.tensor(made.std)
    expected = (torch.tensor([50, 100, 0]) / 255 - mean) / std
    torch.testing.assert_close(made.test_images[1, :, 0, 0], expected)


def test_an_image_folder_that_is_none_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"train/<class>/<image>.*does not download"):
        data.images("imagenet", {}, tmp_path / "train")
    (folder / "val" / "cow").mkdir()
    with pytest.raises(DataError, match="a class that train has too, got 'cow'"):
        data.images("imagenet", {"crop_size": 16}, folder)
    (folder / "val" / "cow").rmdir()
    (folder / "val" / "bee" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png: expected an image"):
        data.images("imagenet", {"crop_size": 16}, folder)
    with pytest.raises(DataError, match=r"GiB are free\. Lower crop_size"):
        data.images("imagenet", {"crop_size": 1_000_000}, folder)
