"""Rank correlation against scipy's."""

from __future__ import annotations

import random

import pytest
import scipy.stats

from orchestrator.reports.parts.ranks import average_ranks, kendall, spearman


@pytest.mark.parametrize("levels", [3, 20, 10_000])
def test_with_and_without_ties_they_are_scipys(levels: int) -> None:
    draw = random.Random(levels)
    a = [draw.randrange(levels) / 7 for _ in range(60)]
    b = [x + draw.randrange(levels) / 5 for x in a]
    assert average_ranks(a) == scipy.stats.rankdata(a).tolist()
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)
    assert kendall(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic, abs=1e-12)


def test_the_opposite_order_is_minus_one() -> None:
    assert (spearman([1, 2, 3], [9, 8, -1]), kendall([1, 2, 3], [9, 8, -1])) == (-1.0, -1.0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [5.0, 5.0])])
def test_a_side_that_does_not_vary_has_none(a: list[float], b: list[float]) -> None:
    assert (spearman(a, b), kendall(a, b)) == (None, None)


def test_values_near_the_ends_of_floating_point_are_ranked_all_the_same() -> None:
    a = [-1e308, -1e-308, 0.0, 1e-308, 1e308]
    assert spearman(a, a) == pytest.approx(1.0)
    assert kendall(a, a) == pytest.approx(1.0)
