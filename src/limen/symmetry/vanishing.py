"""How fast an elementwise operation goes to zero when its arguments do.

A unit's *sign set* (all that belongs to it is zero) is invariant under gradients exactly if the loss has no
first-order term in what belongs to it. So each value carries the order k with which it vanishes, O(εᵏ), when all that
belongs to the unit is scaled by ε: parameters have order 1, products add orders, sums take the smaller, relu keeps
it, sigmoid (½ at 0) has order 0.

How it leaves zero matters as well: of a smooth f the even part f(x) + f(−x) − 2f(0) is of second order, and the loss
has a Hessian on the sign set; relu's is |x|, and it has none.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

NEVER = 99
"""Order of a constant zero."""

DRAWS = 16
STEP = 12
"""ε is 2^-12, then 2^-24: small, and far from rounding."""

ROUNDING = 2.0**-48
"""Differences below this part of the numbers are none."""


@functools.lru_cache(maxsize=4096)
def order(op: Any, template: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> int:
    """Return k such that op(…) = O(εᵏ), found by evaluating it.

    Args:
        op: an elementwise operation.
        template: its arguments; `Vanishing` in the place of tensors.
        named: its keyword arguments.
    """
    near, far = (_evaluate(op, template, named, 2.0 ** -(STEP * times)) for times in (1, 2))
    if near.dtype in (torch.bool, torch.int64):
        return 0
    known = ~(near.isnan() | far.isnan())
    near, far = near[known].abs(), far[known].abs()
    if not len(near) or near.isinf().any() or far.isinf().any():
        return 0
    return _slope(near, far)


@functools.lru_cache(maxsize=4096)
def kinked(op: Any, template: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> bool:
    """Return whether op is not smooth where its vanishing arguments are zero; arguments as of `order`.

    With x of order k it is smooth if f(x) + f(−x) − 2f(0) is of higher order than k, and f(x) − f(−x) goes to zero.
    """
    orders = [leaf.order for leaf in _leaves(template) if 0 < leaf.order < NEVER]
    if not orders:
        return False
    even: list[Tensor] = []
    odd: list[Tensor] = []
    for times in (1, 2):
        epsilon = 2.0 ** -(STEP * times)
        there, back = (_evaluate(op, template, named, epsilon, sign) for sign in (1.0, -1.0))
        here = _evaluate(op, template, named, 0.0)
        if there.dtype in (torch.bool, torch.int64):
            return True  # a comparison, which jumps somewhere
        known = there.isfinite() & back.isfinite() & here.isfinite()
        there, back, here = there[known], back[known], here[known]
        if not len(here):
            return True  # as sqrt, which has no values on one side
        size = torch.stack([there.abs(), back.abs(), here.abs()]).amax(0)
        for found, difference in ((even, there + back - 2 * here), (odd, there - back)):
            found.append(torch.where(difference.abs() > ROUNDING * size, difference.abs(), 0))
    return _slope(*even) <= min(orders) or _slope(*odd) == 0


def _slope(near: Tensor, far: Tensor) -> int:
    """Return the smallest order of numbers that were found at both ε."""
    slopes = (near.log2() - far.log2()) / STEP
    slopes[(near == 0) & (far == 0)] = NEVER
    return max(0, min(NEVER, math.floor(slopes.clamp(-NEVER, NEVER).min().item() + 0.05)))


def _leaves(tree: Any) -> list[Vanishing]:
    match tree:
        case Vanishing():
            return [tree]
        case tuple():
            return [leaf for part in tree for leaf in _leaves(part)]
    return []


class Vanishing:
    """A tensor that vanishes with order `order`; bool or integer where it is not a real number."""

    def __init__(self, order: int, dtype: torch.dtype) -> None:
        self.order = order
        self.dtype = torch.float64 if dtype.is_floating_point else dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vanishing) and (self.order, self.dtype) == (other.order, other.dtype)

    def __hash__(self) -> int:
        return hash((self.order, self.dtype))

    def draw(self, epsilon: float, generator: torch.Generator) -> Tensor:
        """Return numbers of size ε^order and either sign."""
        if self.dtype == torch.bool:
            return torch.rand(DRAWS, generator=generator) < 0.5
        if self.dtype != torch.float64:
            return torch.randint(1, 3, (DRAWS,), generator=generator).to(self.dtype)
        size = 0.5 + torch.rand(DRAWS, generator=generator, dtype=torch.float64)
        sign = 1 - 2 * (torch.rand(DRAWS, generator=generator) < 0.5).double()
        return size * sign * (0.0 if self.order >= NEVER else epsilon**self.order)


def _evaluate(
    op: Any, template: tuple[Any, ...], named: tuple[tuple[str, Any], ...], epsilon: float, side: float = 1.0
) -> Tensor:
    generator = torch.Generator().manual_seed(0)

    def fill(leaf: Any) -> Any:
        match leaf:
            case Vanishing():
                drawn = leaf.draw(epsilon, generator)
                return drawn * side if 0 < leaf.order < NEVER and drawn.is_floating_point() else drawn
            case tuple():
                return [fill(part) for part in leaf]
        return leaf

    out = op(*(fill(leaf) for leaf in template), **{name: fill(leaf) for name, leaf in named})
    return out[0] if isinstance(out, (tuple, list)) else out  # type: ignore[no-any-return]
