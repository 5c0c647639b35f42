"""What all tests share: one torch thread, none of the user's settings, the CIFAR-shaped data made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    os.environ["MPLBACKEND"] = "Agg"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is first imported, and for child processes
    for name in ("RESULTS", "DATASETS", "DATA_DIR"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cifar_like() -> Path:
    """A folder that holds `cifar-10-batches-py` with made-up images, written once and kept."""
    import cifar_like as writer

    return writer.cached(ROOT / ".cache" / "cifar-like")


@pytest.fixture(scope="session")
def cifar100_like() -> Path:
    """A folder that holds `cifar-100-python` with made-up images, written once and kept."""
    import cifar_like as writer

    return writer.cached(ROOT / ".cache" / "cifar-like", 100)


@pytest.fixture(scope="session")
def data_dir(
    cifar_like: Path, cifar100_like: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with files for every data set that needs some, made up; MNIST's are small."""
    import made_up

    from limen.data import _idx

    folder = tmp_path_factory.mktemp("data")
    (folder / "cifar-10-batches-py").symlink_to(cifar_like / "cifar-10-batches-py")
    (folder / "cifar-100-python").symlink_to(cifar100_like / "cifar-100-python")
    made_up.mnist(folder / "MNIST")
    made_up.mnist(folder / "FashionMNIST", seed=1)
    made_up.wikitext(folder / "wikitext-2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_idx, "COUNTS", made_up.COUNTS)
        yield folder
