"""WikiText-2, Wikipedia articles word by word, 33 278 different words: wikitext-2[-<k>k] rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import BeforeValidator, PositiveInt

from limen.data import Dataset, _images, _words
from limen.data._places import require_folder
from limen.errors import DataError, InputError

PATTERN = r"wikitext-2(?:-(?P<n>[1-9]\d?k))?"
NAMES = ("wikitext-2", "wikitext-2-1k", "wikitext-2-5k")
# The mirror of one of its authors, and the checksum that torchtext states for the archive of the first address,
# which no longer answers; not compared with a download of ours.
SOURCE: Mapping[str, Any] = {
    "url": "https://wikitext.smerity.com/wikitext-2-v1.zip",
    "checksum": "md5:542ccefacc6c27f945fb54453812b3cd",
    "folder": "wikitext-2",
}
FIX = "Run `limen data fetch wikitext-2` for a sound copy."
END = "<eos>"


def make(
    *,
    data_dir: Path | str | None = None,
    n: Annotated[int, BeforeValidator(_images.count), Interval(ge=0)] = 0,
    length: PositiveInt = 35,
) -> Dataset:
    """Return rows of `length` word numbers (n, T) of the training text, and the words that follow them.

    Words are what blanks separate, and `<eos>` at the end of each line, numbered in the order of their first
    appearance in the training text; a test word that it lacks is `<unk>`. Rows follow each other without gap
    or overlap, in the order of the text; the test set is the whole test text.
    Source: S. Merity et al., Pointer Sentinel Mixture Models, ICLR 2017.

    Args:
        data_dir: the folder that holds `wikitext-2`, or is it; by default $DATASETS, $DATA_DIR, the cache.
        n: take the first n training rows, also as "5k"; 0 for all (59 675 of 35 words).
        length: words of a row.

    Raises:
        InputError: the text has fewer rows.
        DataError: the files are missing or damaged.
    """
    folder = require_folder(
        "wikitext-2", SOURCE["folder"], "with wiki.train.tokens and wiki.test.tokens", data_dir
    )
    train, test = read(folder)
    vocabulary = {word: k for k, word in enumerate(dict.fromkeys([*train, _words.UNKNOWN]))}
    inputs, targets = _words.rows(_words.number(train, vocabulary), length)
    test_inputs, test_targets = _words.rows(_words.number(test, vocabulary), length)
    if max(n, 1) > len(inputs) or len(test_inputs) == 0:
        raise InputError(
            f"wikitext-2: expected at most {len(inputs)} training rows of {length} words "
            f"(the test text has {len(test_inputs)}), got n={n}. Take fewer rows, or shorter ones by length."
        )
    few = n or len(inputs)
    return Dataset(inputs[:few], targets[:few], test_inputs, test_targets, len(vocabulary))


def read(folder: Path) -> tuple[list[str], list[str]]:
    """Return the words of the training text and of the test text.

    Raises:
        DataError: a file is missing, empty or not UTF-8 text.
    """
    return _read_file(folder / "wiki.train.tokens"), _read_file(folder / "wiki.test.tokens")


def check(folder: Path) -> None:
    """Validate an unpacked folder.

    Raises:
        DataError: a file is missing, empty or not UTF-8 text.
    """
    read(folder)


def _read_file(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: expected a text, but {error.strerror or error}. {FIX}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected text in UTF-8, got {error.reason} at byte {error.start}. {FIX}"
        ) from None
    words = [word for line in lines for word in (*line.split(), END)]
    if set(words) <= {END}:
        raise DataError(f"{path}: expected a text, got a file without words. {FIX}")
    return words
