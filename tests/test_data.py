"""Data sets: closed forms, the published constructions, refusals, and what every family owes."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_like import Python2Pickler

from limen import data, registry
from limen.data import cifar10
from limen.errors import DataError, InputError


def test_chebyshev_is_the_polynomial():
    made = data.load("chebyshev-5-20")
    x = made.inputs
    torch.testing.assert_close(made.targets, 16 * x**5 - 20 * x**3 + 5 * x, rtol=0, atol=1e-14)
    assert x.dtype == torch.float64
    assert x.shape == (20, 1)
    assert x[0] == -1
    assert x[-1] == 1
    torch.testing.assert_close(x.diff(dim=0), torch.full((19, 1), 2 / 19, dtype=torch.float64))
    assert made.classes is None
    assert made.outputs == 1
    assert torch.equal(made.test_inputs, x)


@pytest.mark.parametrize(("degree", "n"), [(0, 3), (1, 7), (12, 40)])
def test_chebyshev_takes_any_degree(degree, n):
    made = data.load(f"chebyshev-{degree}-{n}")
    expected = np.polynomial.chebyshev.Chebyshev.basis(degree)(made.inputs.numpy())
    np.testing.assert_allclose(made.targets.numpy(), expected, rtol=0, atol=1e-12)


def test_linear_is_whitened_and_exactly_linear():
    made = data.load("linear-60-20")
    X = made.inputs
    torch.testing.assert_close(X.T @ X, 60 * torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-12)
    A = made.targets.T @ X / 60
    torch.testing.assert_close(X @ A.T, made.targets, rtol=0, atol=1e-11)
    generator = torch.Generator().manual_seed(0)
    torch.randn(60, 20, generator=generator)
    torch.testing.assert_close(A, torch.randn(20, 20, generator=generator).double(), rtol=0, atol=1e-12)


def test_linear_refuses_fewer_examples_than_inputs():
    with pytest.raises(InputError, match=r"n >= d, got n=5, d=6.*linear-6-6"):
        data.load("linear-5-6")


def test_digits_are_split_and_standardised():
    made = data.load("digits")
    assert made.inputs.shape == (1500, 1, 8, 8)
    assert made.test_inputs.shape == (297, 1, 8, 8)
    assert made.outputs == 10
    assert made.inputs.mean(0).abs().max() < 1e-13
    assert made.inputs.square().mean().item() == pytest.approx(1)
    rows = torch.cat([made.inputs, made.test_inputs]).flatten(1)
    from sklearn.datasets import load_digits

    raw = load_digits()
    assert len(rows.unique(dim=0)) == len(np.unique(raw.images.reshape(-1, 64), axis=0))
    counts = torch.bincount(torch.cat([made.targets, made.test_targets]))
    assert counts.tolist() == np.bincount(raw.target).tolist()
    assert len(made.targets.unique()) == 10
    assert len(made.test_targets.unique()) == 10


def test_fewer_digits_are_the_first_ones():
    whole, few = data.load("digits"), data.load("digits", {"n": 100})
    assert torch.equal(few.inputs, whole.inputs[:100])
    assert torch.equal(few.targets, whole.targets[:100])
    assert torch.equal(few.test_inputs, whole.test_inputs)


def test_label_noise_replaces_that_fraction_by_other_classes():
    clean = data.load("digits")
    noisy = data.load("digits", {"label_noise": 0.2})
    assert (noisy.targets != clean.targets).sum() == 300
    assert noisy.targets.min() >= 0
    assert noisy.targets.max() <= 9
    assert torch.equal(noisy.inputs, clean.inputs)
    assert torch.equal(noisy.test_targets, clean.test_targets)
    shifts = (noisy.targets - clean.targets)[noisy.targets != clean.targets] % 10
    assert len(shifts.unique()) == 9
    other = data.load("digits", {"label_noise": 0.2, "noise_seed": 1})
    assert not torch.equal(other.targets, noisy.targets)
    assert (data.load("digits", {"label_noise": 1.0}).targets != clean.targets).all()


@pytest.mark.parametrize(
    "arguments",
    [{"n": 0}, {"n": 1501}, {"label_noise": -0.1}, {"label_noise": 1.1}, {"label_noise": float("nan")}],
)
def test_digits_refuse_what_does_not_fit(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        data.load("digits", arguments)


# CIFAR-10: the whole format once, then small batches.


def test_cifar_is_normalised_as_in_float64(cifar_like):
    made = data.load("cifar10-1k", data_dir=cifar_like)
    (images, labels), (test_images, test_labels) = cifar10.read(Path(cifar_like) / "cifar-10-batches-py")
    assert images.shape == (50_000, 3072)
    mean, std = np.empty(3072), np.empty(3072)
    for start in range(0, 3072, 256):  # NumPy's own float64 statistics, some pixels at a time
        part = images[:, start : start + 256] / 255
        mean[start : start + 256], std[start : start + 256] = part.mean(0), part.std(0)
    for got, raw in ((made.inputs, images[:1000]), (made.test_inputs[-1000:], test_images[-1000:])):
        expected = ((raw / 255 - mean) / std).astype(np.float32).reshape(-1, 3, 32, 32)
        np.testing.assert_allclose(got.numpy(), expected, rtol=2e-7, atol=1e-12)
        assert (got.numpy() != expected).mean() < 1e-4
    assert made.inputs.dtype == torch.float32
    assert made.targets.dtype == torch.int64
    assert made.targets.tolist() == labels[:1000].tolist()
    assert made.test_targets.tolist() == test_labels.tolist()
    assert made.outputs == 10
    assert made.test_inputs.shape == (10_000, 3, 32, 32)


SMALL = 20


def py2_batch(seed, **changes):
    draw = np.random.default_rng(seed)
    content = {
        b"batch_label": b"x",
        b"labels": draw.integers(0, 10, SMALL).tolist(),
        b"data": draw.integers(0, 256, (SMALL, 3072), dtype=np.uint8),
        b"filenames": [b"f"] * SMALL,
    }
    return content | {key.encode(): value for key, value in changes.items()}


def dumped(content, pickler=Python2Pickler, protocol=2):
    file = io.BytesIO()
    pickler(file, protocol=protocol).dump(content)
    return file.getvalue()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder in CIFAR's format with 20 images a batch."""
    monkeypatch.setattr(cifar10, "BATCH", SMALL)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for seed, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        (folder / name).write_bytes(dumped(py2_batch(seed)))
    return folder


def test_small_folder_is_read_in_order(small):
    (images, labels), (test_images, _) = cifar10.read(small)
    assert np.array_equal(images[SMALL : 2 * SMALL], py2_batch(1)[b"data"])
    assert labels[-SMALL:].tolist() == py2_batch(4)[b"labels"]
    assert np.array_equal(test_images, py2_batch(5)[b"data"])


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_python_3_are_read_too(small, protocol):
    (small / "test_batch").write_bytes(dumped(py2_batch(5), pickle.Pickler, protocol))
    assert np.array_equal(cifar10.read(small)[1][0], py2_batch(5)[b"data"])
    text_keys = {key.decode(): value for key, value in py2_batch(5).items()}
    (small / "test_batch").write_bytes(dumped(text_keys, pickle.Pickler, protocol))
    assert np.array_equal(cifar10.read(small)[1][0], py2_batch(5)[b"data"])


def test_a_column_major_array_is_read_in_its_order(small):
    pixels = np.asfortranarray(py2_batch(5)[b"data"])
    (small / "test_batch").write_bytes(dumped(py2_batch(5, data=pixels)))
    assert np.array_equal(cifar10.read(small)[1][0], pixels)


def test_the_folder_is_found_in_every_place(small, monkeypatch, tmp_path):
    expected = data.load("cifar10", {"n": 7}, small.parent).digest()
    assert data.load("cifar10", {"n": 7}, small).digest() == expected
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("DATASETS", str(empty))
    monkeypatch.setenv("DATA_DIR", str(small.parent))
    assert data.load("cifar10", {"n": 7}).digest() == expected
    monkeypatch.setenv("DATASETS", str(small.parent))
    monkeypatch.delenv("DATA_DIR")
    assert data.load("cifar10", {"n": 7}).digest() == expected
    with pytest.raises(
        DataError, match="limen data fetch cifar10"
    ):  # a folder named is the only one looked at
        data.load("cifar10", {"n": 7}, empty)


def test_pixels_that_never_vary_become_zero(small):
    for path in small.iterdir():
        content = pickle.loads(path.read_bytes(), encoding="bytes")
        content[b"data"][:, 0] = 7
        path.write_bytes(dumped(content))
    made = data.load("cifar10", data_dir=small)
    assert made.inputs.isfinite().all()
    assert (made.inputs[:, 0, 0, 0] == 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": np.zeros((SMALL, 3071), np.uint8)}, r"shape \(20, 3071\)"),
        ({"data": np.zeros((SMALL, 3072), np.int16)}, "not a sound uint8 array"),
        ({"data": [1, 2]}, "not a sound uint8 array"),
        ({"labels": [0] * 19}, "19 labels"),
        ({"labels": [0] * 19 + [10]}, "a label outside"),
        ({"labels": [0] * 19 + [-1]}, "a label outside"),
        ({"labels": [0] * 19 + [0.5]}, "a label outside"),
        ({"labels": None}, "labels in a NoneType"),
    ],
)
def test_a_batch_of_another_structure_is_refused(small, changes, words):
    path = small / "data_batch_3"
    path.write_bytes(dumped(py2_batch(2, **changes)))
    with pytest.raises(DataError, match=words) as caught:
        data.load("cifar10", {"n": 7}, small)
    message = str(caught.value)
    assert str(path) in message
    assert "expected a batch of 20 CIFAR-10 images" in message
    assert "limen data fetch cifar10" in message


def damaged_files():
    good = dumped(py2_batch(2))
    draw = np.random.default_rng(0)
    yield "empty", b""
    yield "text", b"<html>not found</html>"
    yield "random", draw.bytes(5000)
    yield "a list", pickle.dumps([1, 2], 2)
    yield "no labels", dumped({b"data": np.zeros((SMALL, 3072), np.uint8)})
    yield "huge length", b"\x80\x02T\xff\xff\xff\x7f"
    yield "unhashable key", b"\x80\x02}](K\x01es."
    for size in (1, 30, len(good) // 2, len(good) - 1):
        yield f"cut at {size}", good[:size]


@pytest.mark.parametrize("content", [pytest.param(c, id=name) for name, c in damaged_files()])
def test_a_damaged_file_is_refused(small, content):
    (small / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_3: expected .*`limen data fetch cifar10`"):
        cifar10.read(small)


def test_no_flip_of_a_byte_escapes_as_another_error(small):
    good = dumped(py2_batch(2))
    ends = [*range(200), *range(len(good) - 400, len(good))]
    refused = 0
    for position in ends:
        for flip in (0x01, 0x80, 0xFF):
            bad = bytearray(good)
            bad[position] ^= flip
            (small / "data_batch_3").write_bytes(bytes(bad))
            try:
                cifar10._read_batch(small / "data_batch_3")
            except DataError:
                refused += 1
    assert refused > 100


def test_a_missing_batch_is_named(small):
    (small / "test_batch").unlink()
    with pytest.raises(DataError, match=r"test_batch.*no such file.*limen data fetch cifar10"):
        data.load("cifar10", {}, small)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_does_not_run(small, tmp_path, protocol):
    victim = tmp_path / "victim"
    attack = Attack(exec, f"open({str(victim)!r}, 'w').close()")
    pickled = pickle.dumps({b"data": attack, b"labels": [0] * SMALL}, protocol)
    pickle.loads(pickled)
    assert victim.exists(), "the attack itself must work, or this test shows nothing"
    victim.unlink()
    (small / "data_batch_1").write_bytes(pickled)
    with pytest.raises(DataError, match=r"data_batch_1.*exec, which is not an array"):
        cifar10.read(small)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["loads", "fromstring", "core.multiarray.scalar", "load"])
def test_other_names_of_numpy_are_refused(small, name):
    module, _, attribute = f"numpy.{name}".rpartition(".")
    (small / "data_batch_1").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(DataError, match="which is not an array"):
        cifar10.read(small)


def test_an_encoding_other_than_latin1_is_refused(small):
    import codecs

    (small / "data_batch_1").write_bytes(pickle.dumps({b"data": Attack(codecs.encode, "abc", "rot13")}, 2))
    with pytest.raises(DataError, match="rot13"):
        cifar10.read(small)


@pytest.mark.parametrize("n", [0, 50_001, "60k", "many", 1.5])
def test_cifar_refuses_impossible_sizes(small, n):
    with pytest.raises(InputError, match="argument n"):
        data.load("cifar10", {"n": n}, small)


def test_cifar_sizes_can_be_written_in_thousands(small):
    whole = data.load("cifar10", data_dir=small)
    assert len(whole.targets) == 5 * SMALL
    assert registry.find("data", "cifar10-13k")[1] == {"n": "13k"}
    assert (
        data.load("cifar10", {"n": "2k"}, small).digest() == data.load("cifar10-2k", data_dir=small).digest()
    )
    for name in ("cifar10-51k", "cifar10-0k", "cifar10-k"):
        with pytest.raises(InputError, match="unknown data set"):
            registry.find("data", name)


def test_reading_goes_easy_on_memory(cifar_like):
    """Far below the 1.2 GB that the training images take in float64."""
    code = (
        "import resource, sys; from limen import data; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; start = peak(); "
        "data.load('cifar10-1k', data_dir=sys.argv[1]); print((peak() - start) // 1024)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(cifar_like)], capture_output=True, text=True, check=True
    )
    assert int(out.stdout) < 600


# A user's own data.


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "their_data.py").write_text(
        "import torch\n"
        "def labels(n: int = 6): return torch.rand(n, 2), torch.arange(n) % 3\n"
        "def values(): return (torch.rand(4, 2), torch.rand(4, 1)), (torch.rand(2, 2), torch.rand(2, 1))\n"
        "def nothing(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_data_of_the_user_joins_by_import_path(users_module):
    labelled = data.load("their_data:labels", {"n": 9})
    assert labelled.inputs.shape == (9, 2)
    assert labelled.classes == labelled.outputs == 3
    assert torch.equal(labelled.test_inputs, labelled.inputs)
    valued = data.load("their_data:values")
    assert valued.classes is None
    assert valued.test_targets.shape == (2, 1)
    with pytest.raises(InputError, match="got int"):
        data.load("their_data:nothing")
    with pytest.raises(InputError, match=r"no function 'label'.*Did you mean 'labels'"):
        data.load("their_data:label")


def test_digest_sees_values_shapes_and_types():
    x, y = torch.zeros(4, 2), torch.zeros(4, 1)
    made = [
        data.from_tensors((x, y)),
        data.from_tensors((x.view(2, 4)[:, :2], y[:2])),
        data.from_tensors((x, y + 1)),
        data.from_tensors((x, y)).to("cpu", torch.float64),
    ]
    assert len({one.digest() for one in made}) == 4
    assert data.from_tensors((x.clone(), y)).digest() == made[0].digest()


# What every family owes. A new file in data/ is met here by its name alone.


@pytest.fixture(params=registry.families("data"), ids=lambda family: family.stem)
def family(request):
    return request.param


def test_family_has_a_summary_and_a_default_for_every_argument(family):
    assert family.summary
    assert all(default for _, default in family.arguments.values())
    assert all(registry.find("data", name)[0].stem == family.stem for name in family.names)


def test_family_gives_sound_data_again_and_again(family, cifar_like):
    before = torch.random.get_rng_state()
    made = data.load(family.names[0], data_dir=cifar_like)
    torch.rand(3)
    drawn = torch.random.get_rng_state()
    again = data.load(family.names[0], data_dir=cifar_like)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert not torch.equal(before, drawn)
    assert made.digest() == again.digest()
    for x, y in ((made.inputs, made.targets), (made.test_inputs, made.test_targets)):
        assert len(x) == len(y) > 0
        assert x.isfinite().all()
        assert x.shape[1:] == made.input_shape
        if made.classes is None:
            assert y.is_floating_point()
        else:
            assert y.dtype == torch.int64
            assert y.min() >= 0
            assert y.max() < made.classes
    cast = made.to("cpu", torch.float64)
    assert cast.inputs.dtype == cast.test_inputs.dtype == torch.float64
