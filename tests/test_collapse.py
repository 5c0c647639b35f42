"""Counting neurons against literal definitions and planted collapses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limen.collapse import count, effective_rank
from limen.collapse.gram import gram, row_blocks
from limen.errors import InputError


def literal(V: torch.Tensor) -> tuple[list[int], list[list[bool]]]:
    """Who has not vanished, and who is identical to whom, word for word, in exact-enough arithmetic."""
    V = V.double()
    norms = [math.sqrt(sum(float(x) ** 2 for x in v)) for v in V]
    alive = [i for i in range(len(V)) if norms[i] >= 0.1 * max(norms) and norms[i] > 0]
    same = [[False] * len(V) for _ in V]
    for i in alive:
        for j in alive:
            apart = sum(float(x) ** 2 for x in V[i] - V[j])
            same[i][j] = 2 * apart / (norms[i] ** 2 + norms[j] ** 2) < 0.1
    return alive, same


def greedy(V: torch.Tensor) -> tuple[int, int]:
    """The published loops: in index order, a neuron joins the first cluster whose founder it is identical to."""
    alive, same = literal(V)
    founders: list[int] = []
    for i in alive:
        if not any(same[founder][i] for founder in founders):
            founders.append(i)
    return len(V) - len(alive), len(founders)


def linkage(V: torch.Tensor) -> tuple[int, int]:
    """Connected components by walking."""
    alive, same = literal(V)
    left, components = set(alive), 0
    while left:
        components += 1
        reached = [left.pop()]
        while reached:
            i = reached.pop()
            near = {j for j in left if same[i][j]}
            left -= near
            reached += near
    return len(V) - len(alive), components


def cloud(seed: int, n: int = 40, d: int = 6, spread: float = 0.35) -> torch.Tensor:
    """Vectors of which many are nearly identical, in chains, and some nearly vanish."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, d, generator=draw)
    V = centres[torch.randint(4, (n,), generator=draw)] + spread * torch.randn(n, d, generator=draw) / d**0.5
    V[:: n // 8] *= 0.12
    return V


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("grouping", "by_hand"), [("linkage", linkage), ("greedy", greedy)])
def test_counts_are_those_of_literal_loops(seed, grouping, by_hand):
    V = cloud(seed, n=40 + 9 * seed, d=3 + 20 * (seed % 3))
    found = count(V, grouping=grouping)
    assert (found.vanished, found.independent) == by_hand(V)
    assert found.vanished + found.identical + found.independent == found.size == len(V)


def test_the_two_groupings_differ_on_a_chain():
    # neighbours are identical, ends are not: one component, and as many founders as the chain has lengths
    angles = torch.linspace(0, 1.2, 13)
    V = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert count(V, grouping="linkage").independent == 1
    assert count(V, grouping="greedy").independent == greedy(V)[1] > 1


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-12, 1e12))
def test_linkage_knows_no_order_and_no_scale(seed, scale):
    V = cloud(seed).double()
    order = torch.randperm(len(V), generator=torch.Generator().manual_seed(seed))
    one, other = count(V), count(scale * V[order])
    assert (one.vanished, one.independent) == (other.vanished, other.independent)
    assert other.effective_rank == pytest.approx(one.effective_rank, rel=1e-9)
    together = one.clusters[order.numpy()]
    for cluster in set(together):  # the same neurons belong together
        assert len(set(other.clusters[together == cluster])) == 1


@pytest.mark.parametrize("d", [5, 700])  # fewer and more numbers than neurons; several blocks of rows
@pytest.mark.parametrize("grouping", ["linkage", "greedy"])
def test_planted_neurons_are_counted_exactly(d, grouping):
    draw = torch.Generator().manual_seed(1)
    angles = torch.rand(300, generator=draw)
    V = torch.randn(300, d, generator=draw, dtype=torch.float64)
    if d == 5:  # in five dimensions random neurons would meet
        V = torch.eye(5, dtype=torch.float64)[torch.arange(300) % 5] * (1 + angles[:, None])
        V = V[:5].repeat(60, 1)
    V[100:140] = V[60]
    V[200:230] = 0
    V[230] = 0.09 * V.norm(dim=1).max() * V[230] / V[230].norm()
    found = count(V, grouping=grouping)
    assert found.vanished == 31
    distinct = 5 if d == 5 else 300 - 31 - 40
    assert found.independent == distinct


@pytest.mark.parametrize("below", [True, False])
def test_thresholds_are_sharp_in_float32(below):
    # 2‖a−b‖²/(‖a‖²+‖b‖²) = 0.1 (1 ∓ 1e-6) in 9,000 dimensions, where a float32 product would be off by as much
    n = 9000
    ratio = 0.1 * (1 - 1e-5 if below else 1 + 1e-5)
    cosine = 1 - ratio / 2  # of unit vectors: 2‖a−b‖²/2 = 2 − 2c
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(n, generator=draw, dtype=torch.float64)
    a /= a.norm()
    other = torch.randn(n, generator=draw, dtype=torch.float64)
    other -= (other @ a) * a
    b = cosine * a + math.sqrt(1 - cosine**2) * other / other.norm()
    V = torch.stack([a, b]).float()  # rounding the numbers themselves moves the ratio by about 1e-9
    assert count(V).independent == (1 if below else 2)


@pytest.mark.parametrize("below", [True, False])
def test_vanishing_is_sharp(below):
    V = torch.eye(2, dtype=torch.float64)
    V[1] *= 0.1 * (1 - 1e-12 if below else 1 + 1e-12)
    assert count(V).vanished == below


def test_a_layer_of_zeros_has_vanished_whole():
    found = count(torch.zeros(7, 3))
    assert (found.vanished, found.identical, found.independent, found.effective_rank) == (7, 0, 0, 0.0)
    assert found.fraction == 0
    assert set(found.clusters) == {-1}


def test_clusters_name_the_neurons():
    V = torch.tensor([[0.0, 1], [1, 0], [0, 1.05], [0, 0], [1, 0.01]])
    assert count(V).clusters.tolist() == [0, 1, 0, -1, 1]


@pytest.mark.parametrize("shape", [(30, 200), (200, 30), (130, 4100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gram_is_the_product_of_all_parts(shape, dtype):
    V = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wide = V.double() @ V.double().t()
    made = gram([V[:, :7], V[:, 7:]], dtype)
    assert made.dtype == dtype
    assert torch.allclose(made.double(), wide, rtol=0, atol=torch.finfo(dtype).eps * shape[1] ** 2)
    assert torch.equal(made, made.t())
    blocks = torch.cat([block for _, block in row_blocks([V[:, :7], V[:, 7:]])])
    assert torch.allclose(blocks, wide, rtol=0, atol=1e-14 * shape[1] ** 2)


@pytest.mark.parametrize("n", [20, 90])
def test_parts_side_by_side_are_one_vector(n):
    V = cloud(5, n=n, d=60)
    whole, parts = count(V), count(V[:, :1], V[:, 1:40], V[:, 40:])
    assert whole.clusters.tolist() == parts.clusters.tolist()
    assert parts.effective_rank == pytest.approx(whole.effective_rank, rel=1e-4)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_effective_rank_is_that_of_the_singular_values(shape):
    V = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sigma = torch.linalg.svdvals(V)
    p = sigma / sigma.sum()
    exact = math.exp(-float((p * p.log()).sum()))
    assert effective_rank(V) == pytest.approx(exact, rel=1e-10)
    assert effective_rank(V.float()) == pytest.approx(exact, rel=1e-4)
    assert count(V.float()).effective_rank == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("power", [0.5, 1, 2, 4])
def test_effective_rank_of_float32_weights_is_good_to_a_thousandth(power):
    # spectra that fall ever faster: at some point float32 products no longer do
    draw = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(n, 300, generator=draw, dtype=torch.float64))[0] for n in (300, 900)
    )
    sigma = torch.arange(1, 301, dtype=torch.float64) ** -power
    V = (left * sigma @ right.t()).float()
    p = sigma / sigma.sum()
    assert effective_rank(V) == pytest.approx(math.exp(-float((p * p.log()).sum())), rel=1e-3)


def test_effective_rank_of_a_collapsed_layer_is_not_that_of_its_rounding():
    # float32 weights of rank 3: in float32 products 500 false singular values of 3e-4 would raise it by a third
    draw = torch.Generator().manual_seed(0)
    pattern = torch.randn(3, 2000, generator=draw)
    V = pattern[torch.arange(512) % 3]
    sigma = torch.linalg.svdvals(V.double())[:3]
    p = sigma / sigma.sum()
    assert effective_rank(V) == pytest.approx(math.exp(-float((p * p.log()).sum())), rel=1e-9)
    assert effective_rank(torch.outer(torch.rand(50) + 1, torch.rand(80))) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counting_leaves_the_weights_alone(dtype):
    V = cloud(0, n=20, d=50).to(dtype)
    before = V.clone()
    count(V[:, :20], V[:, 20:])
    assert torch.equal(V, before)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="not finite"):
        count(torch.tensor([[1.0, math.nan], [1, 2]]))
    with pytest.raises(InputError, match="neurons, numbers of each"):
        count(torch.zeros(3))
    with pytest.raises(InputError, match="linkage, greedy"):
        count(torch.ones(3, 2), grouping="kmeans")  # type: ignore[arg-type]
