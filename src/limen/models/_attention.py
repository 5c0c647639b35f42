"""Causal self-attention in primitive operations, so that derivatives of every order are right in every mode.

Shapes: n sequences, T positions, h heads, width = h·d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limen.models._norm import LayerNorm


class CausalSelfAttention(nn.Module):
    """Let each position read itself and the positions before it, with h heads.

    For each head, out_t = Σ_{s≤t} a_ts v_s with a_t = softmax over s ≤ t of q_t·k_s / √d; the heads are
    concatenated and mixed by a linear map. PyTorch's fused kernels lack some of the higher derivatives.

    Weights, in PyTorch's order and distribution (`nn.MultiheadAttention`): the linear map draws its default,
    then the matrix of queries, keys and values is xavier-uniform as one (3·width, width); biases are zero.

    Shapes: (n, T, width) to the same.

    Args:
        width: size of a vector, a multiple of `heads`.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions of `x` (n, T, width)."""
        n, T, width = x.shape
        projected = x @ self.in_proj_weight.T + self.in_proj_bias
        q, k, v = projected.view(n, T, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(later, -math.inf).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(n, T, width))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """x ← norm(x + attention(x)), then x ← norm(x + W₂ relu(W₁ x)): post-norm, without dropout.

    The order of its weights and of their draws is that of `nn.TransformerEncoderLayer`.

    Shapes: (n, T, width) to the same.

    Args:
        width: size of a vector.
        heads: number of heads.
        feedforward: hidden units of the two-layer map.
    """

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = CausalSelfAttention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x` (n, T, width)."""
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(self.linear1(x).relu()))  # type: ignore[no-any-return]
