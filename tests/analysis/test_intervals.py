"""Intervals against SciPy, published examples, and simulations of how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from orchestrator.analysis.intervals import mcnemar_tells, newcombe, t_quantile, tango, welch, wilson


@pytest.mark.parametrize(
    ("b", "c", "n"), [(12, 2, 50), (3, 1, 20), (0, 7, 287), (25, 24, 287), (1, 0, 10), (140, 100, 5000)]
)
def test_at_tangos_ends_the_score_test_of_the_likelihood_gives_5_percent(b: int, c: int, n: int) -> None:
    """The test by brute force: the likelihood is maximized numerically under a difference that is held fixed."""

    def score(delta: float) -> float:
        def loss(q: float) -> float:
            probabilities = q + delta, q, 1 - 2 * q - delta
            counts = b, c, n - b - c
            pairs = [(count, p) for count, p in zip(counts, probabilities, strict=True) if count]
            return -sum(count * math.log(max(p, 1e-300)) for count, p in pairs)

        lowest, highest = max(0.0, -delta), (1 - delta) / 2
        q = optimize.minimize_scalar(loss, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}).x
        return (b - c - n * delta) / math.sqrt(n * (2 * q + delta - delta**2))

    low, high = tango(b, c, n)
    assert score(low) == pytest.approx(stats.norm.ppf(0.975), abs=1e-3)
    assert score(high) == pytest.approx(stats.norm.ppf(0.025), abs=1e-3)


def test_tango_where_nothing_or_everything_tells_apart() -> None:
    """None differ: plus and minus z^2 / (n + z^2), by solving the score equation."""
    z2 = stats.norm.ppf(0.975) ** 2
    assert tango(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))
    low, high = tango(10, 0, 10)
    assert 0 < low < high <= 1
    assert tango(7, 3, 40) == pytest.approx(tuple(-end for end in reversed(tango(3, 7, 40))))


def test_zero_is_outside_tango_exactly_where_mcnemar_tells() -> None:
    for b in range(30):
        for c in range(30):
            low, high = tango(b, c, 100)
            assert (not low <= 0 <= high) == mcnemar_tells(b, c)


def test_mcnemar_is_that_of_the_chi_squared_distribution() -> None:
    for b in range(1, 40):
        for c in range(40):
            p = stats.chi2.sf((b - c) ** 2 / (b + c), 1)
            assert mcnemar_tells(b, c) == (p < 0.05)


def test_tango_holds_the_truth_in_95_of_100() -> None:
    """287 examples as in the quickstart, 4 and 2 % of them right with one model alone: 4,000 data sets, sd 0.3 points."""
    draws = np.random.default_rng(0).multinomial(287, [0.04, 0.02, 0.94], size=4000)
    held = [low <= 0.02 <= high for low, high in (tango(int(b), int(c), 287) for b, c, _ in draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


def test_newcombes_own_example() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80, method 10."""
    assert newcombe(56, 48, 70, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (281, 287), (1, 3)])
def test_wilson_is_scipys(count: int, n: int) -> None:
    expected = stats.binomtest(count, n).proportion_ci(method="wilson")
    assert wilson(count, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("degrees", [1, 1.3, 2, 3.7, 10, 99, 101, 1e6])
def test_t_is_scipys(degrees: float) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-4)


def test_welch_is_scipys() -> None:
    first, second = [0.95, 0.97, 0.96], [0.91, 0.96, 0.92, 0.93]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert welch(first, second) == pytest.approx((expected.low, expected.high), rel=2e-4)


def test_one_seed_against_several_is_an_interval_for_the_next_one() -> None:
    """Mean 0.96, sd 0.01, t at 2 degrees of freedom; sqrt(1 + 1/3) standard deviations between a mean and a single value."""
    half = stats.t.ppf(0.975, 2) * 0.01 * math.sqrt(4 / 3)
    assert welch([0.95, 0.96, 0.97], [0.9]) == pytest.approx((0.06 - half, 0.06 + half))
    assert welch([0.9], [0.95, 0.96, 0.97]) == pytest.approx((-0.06 - half, -0.06 + half))


def test_seeds_that_all_agree_leave_no_doubt() -> None:
    assert welch([0.5, 0.5], [0.25, 0.25]) == (0.25, 0.25)
