"""A small causal transformer that predicts the next word at every position."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from limen.errors import InputError
from limen.models._attention import EncoderLayer
from limen.models._parts import refusal

WORDS = "Choose a data set of words (english, wikitext-2), or a fully connected net such as fc-tanh."


def make(
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    depth: PositiveInt = 2,
    width: PositiveInt = 200,
    heads: PositiveInt = 2,
    feedforward: PositiveInt = 200,
) -> nn.Module:
    """Return embedding plus learned positions, `depth` causal encoder layers, and a linear map to scores.

    The published description fixes depth, width, heads, feed-forward width and dropout 0, and names PyTorch's
    default initialisation wherever it says nothing else; the rest follows `nn.TransformerEncoder`: post-norm,
    relu, embeddings and positions normal(0, 1) and not rescaled. Weights are drawn from the first module to the
    last: embedding, positions, layers, head. (`nn.TransformerEncoder` gives all its layers the same first
    weights; here each layer has its own draws.)

    PyTorch's word-language-model example, on which an unused transformer in the published code is built, differs:
    fixed sinusoidal positions, embeddings times √width, embedding and head uniform in ±0.1. The factor √width
    multiplies the curvature in the embedding by width, so learning rates and sharpness of the two are not to be
    compared.
    Source: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
    ICLR 2021; A. Vaswani et al., Attention Is All You Need, 2017.

    Args:
        input_shape: of one input, (T,) word numbers.
        outputs: size of the vocabulary.
        depth: number of encoder layers.
        width: size of a word's vector, a multiple of `heads`.
        heads: attention heads of each layer.
        feedforward: hidden units of each layer's two-layer map.

    Raises:
        InputError: one input is not one row of words, or `heads` does not divide `width`.
    """
    if len(input_shape) != 1:
        raise refusal("transformer", "rows of word numbers, shape (T,)", input_shape, outputs, WORDS)
    if width % heads:
        raise InputError(
            f"transformer: expected a width that is a multiple of heads, got width={width}, heads={heads}. "
            f"Choose for example width={heads * max(1, width // heads)}."
        )
    return Transformer(input_shape[0], outputs, depth, width, heads, feedforward)


class Transformer(nn.Module):
    """Word numbers (n, T) to scores (n, T, vocabulary); position t sees the words up to t only.

    Args:
        positions: T, the longest row.
        vocabulary: number of words.
        depth: number of encoder layers.
        width: size of a word's vector.
        heads: attention heads of each layer.
        feedforward: hidden units of each layer's two-layer map.
    """

    def __init__(
        self, positions: int, vocabulary: int, depth: int, width: int, heads: int, feedforward: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, feedforward) for _ in range(depth)))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, words: Tensor) -> Tensor:
        """Score every word of the vocabulary as the next one at each position of `words` (n, T).

        Raises:
            InputError: `words` are not whole numbers.
        """
        if words.dtype not in (torch.int32, torch.int64):
            kind = str(words.dtype).removeprefix("torch.")
            raise InputError(f"transformer reads word numbers (int64), got {kind}. {WORDS}")
        x = self.embedding(words) + self.positions.weight[: words.shape[1]]
        return self.head(self.layers(x))  # type: ignore[no-any-return]
