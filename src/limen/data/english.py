"""English prose about Python (the interpreter's own help texts), word by word: predict the next word."""

from __future__ import annotations

import hashlib
import platform
import re
from typing import Annotated

import torch
from annotated_types import Interval
from pydantic import PositiveInt

from limen.data import Dataset, _words
from limen.errors import DataError, InputError
from limen.randomness import generator

WORD = re.compile(r"[^\W\d]+(?:'[^\W\d]+)?|\d+|([^\w\s])\1*")
SHA256 = {"3.11.7": "2a95af4ac93f5b719944030ce3769070ddf827d847cba42192afa8da989e5dc4"}
"""Of the text, by Python version, where we have seen it."""


def make(
    *,
    n: PositiveInt = 500,
    n_test: PositiveInt = 100,
    length: PositiveInt = 35,
    vocabulary: Annotated[int, Interval(ge=2)] = 1000,
    sha256: str = "",
) -> Dataset:
    """Return n training and `n_test` test rows of `length` word numbers (n, T), and the words that follow.

    The text is the standard library's `pydoc_data.topics`, its topics in alphabetical order, in lower case,
    cut into words, numbers and runs of one punctuation mark. The vocabulary is `<unk>` and the most frequent
    words of the whole text. Rows follow each other without gap or overlap; their order is shuffled once and
    for all, training rows are the first of it and test rows the last.

    Another version of Python has another text, of the same kind. A run's data hash is recorded and compared
    on resume; `sha256` asks for one text beforehand.
    Source: The Python Language Reference, Python Software Foundation.

    Args:
        n: number of training rows.
        n_test: number of test rows.
        length: words of a row.
        vocabulary: number of different words, `<unk>` included, if the text has as many.
        sha256: the first digits of the SHA-256 that the text must have; any text if empty.

    Raises:
        InputError: the text has fewer rows.
        DataError: it is not the text asked for, or not the one that this version of Python has.
    """
    text = read(sha256)
    words = [found.group() for found in WORD.finditer(text.lower())]
    numbers = _words.most_frequent(words, vocabulary)
    inputs, targets = _words.rows(_words.number(words, numbers), length)
    if n + n_test > len(inputs):
        raise InputError(
            f"english: expected n + n_test of at most {len(inputs)} rows of {length} words, "
            f"got {n} + {n_test}. Take fewer rows, or shorter ones by length."
        )
    order = torch.randperm(len(inputs), generator=generator(0, "english/split"))
    train, test = order[:n], order[len(order) - n_test :]
    return Dataset(inputs[train], targets[train], inputs[test], targets[test], len(numbers))


def read(sha256: str = "") -> str:
    """Return the text.

    Raises:
        DataError: its SHA-256 does not begin with `sha256`, or is not the one we know for this Python.
    """
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    found, version = hashlib.sha256(text.encode()).hexdigest(), platform.python_version()
    for expected, whose in ((sha256.lower(), "asked for"), (SHA256.get(version, ""), f"of Python {version}")):
        if not found.startswith(expected):
            raise DataError(
                f"english: expected the text {whose}, SHA-256 {expected}, got {found} from Python {version}. "
                "The text comes with Python: use the version that has it, or another sha256."
            )
    return text
