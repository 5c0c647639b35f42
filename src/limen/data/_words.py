"""What the data sets of words share: vocabularies, and rows whose targets are the next words.

Legend: T words of a row, V words of a vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

UNKNOWN = "<unk>"


def most_frequent(words: Sequence[str], size: int) -> dict[str, int]:
    """Return numbers for `<unk>` (0) and the size − 1 most frequent words, ties in order of first appearance.

    >>> most_frequent("b a a c b a".split(), 3)
    {'<unk>': 0, 'a': 1, 'b': 2}
    """
    counted = [word for word, _ in Counter(words).most_common() if word != UNKNOWN]
    return {word: k for k, word in enumerate([UNKNOWN, *counted[: size - 1]])}


def number(words: Sequence[str], vocabulary: Mapping[str, int]) -> Tensor:
    """Return the words' numbers, int64; a word that the vocabulary lacks is `<unk>`."""
    unknown = vocabulary[UNKNOWN]
    return torch.tensor([vocabulary.get(word, unknown) for word in words], dtype=torch.int64)


def rows(numbers: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut a text into consecutive rows (n, T) and, as targets, the word after each of their words (n, T).

    >>> rows(torch.arange(8), 3)
    (tensor([[0, 1, 2],
            [3, 4, 5]]), tensor([[1, 2, 3],
            [4, 5, 6]]))
    """
    n = (len(numbers) - 1) // length
    return numbers[: n * length].view(n, length), numbers[1 : n * length + 1].view(n, length)
