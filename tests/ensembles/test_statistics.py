"""Intervals, tests and corrections against scipy, and against simulations whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.analysis.intervals import tango
from orchestrator.ensembles.statistics.bootstrap import counts, interval, resampled_means
from orchestrator.ensembles.statistics.correction import corrected
from orchestrator.ensembles.statistics.tests import confidence_set, holm, level_with, mcnemar


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_resample_has_as_many_examples_each_drawn_equally_often() -> None:
    found = np.concatenate([*counts(50, 2_000, drawn())])
    assert found.shape == (2_000, 50)
    assert (found.sum(axis=1) == 50).all()
    # 2,000 resamples of 50: each example 2,000 times, standard deviation 44
    assert np.abs(found.sum(axis=0) - 2_000).max() < 200
    assert (found == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.005)


def test_the_interval_of_a_paired_difference_is_scipys() -> None:
    draw = drawn(1)
    first, second = draw.exponential(1.0, 400), draw.exponential(1.2, 400)
    means_RV = resampled_means(np.stack([first, second]), drawn(2), 20_000)
    ours = interval(means_RV[:, 0] - means_RV[:, 1])
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=drawn(3),
    ).confidence_interval
    # Both are simulations: a percentile at 2.5 % of 20,000 has a standard error of 0.03 of the standard deviation of the mean.
    spread = (first - second).std() / 20
    assert ours == pytest.approx((theirs.low, theirs.high), abs=5 * 0.03 * spread)


def test_large_numbers_lose_no_digits() -> None:
    scores = 1e6 + drawn().normal(size=(1, 1_000))
    means_R1 = resampled_means(scores, drawn(1), 500)
    assert means_R1.mean() == pytest.approx(scores.mean(), abs=0.01)
    assert means_R1.std() == pytest.approx(scores.std() / np.sqrt(1_000), rel=0.2)


def two_as_accurate(accuracy: float, draw: np.random.Generator) -> np.ndarray:
    """Who of two is right on 500 examples, of which they see a tenth differently; the true difference is 0."""
    base = draw.uniform(size=500) < accuracy
    return np.stack([base, np.where(draw.uniform(size=500) < 0.1, draw.uniform(size=500) < accuracy, base)])


def test_nominal_95_per_cent_of_losses_cover_92_to_98() -> None:
    """400 experiments of 500 examples: the share that covers has a standard error of 1.1 points."""
    draw, covered = drawn(5), 0
    for experiment in range(400):
        hard_N = draw.exponential(1.0, 500)
        losses_VN = hard_N * draw.lognormal(0, 0.5, (2, 500))
        means_RV = resampled_means(losses_VN, drawn(experiment), 1_000)
        low, high = interval(means_RV[:, 0] - means_RV[:, 1])
        covered += low <= 0 <= high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize("accuracy", [0.7, 0.95, 0.99])
def test_nominal_95_per_cent_of_accuracies_cover_92_to_98_or_more(accuracy: float) -> None:
    """Tango's interval; of the few examples that differ at 0.99 no interval can be as narrow as its level."""
    draw, covered = drawn(5), 0
    for _ in range(1_000):
        first, second = two_as_accurate(accuracy, draw)
        low, high = tango(int((first & ~second).sum()), int((~first & second).sum()), 500)
        covered += low <= 0 <= high
    assert 0.92 <= covered / 1_000 <= (0.98 if accuracy < 0.99 else 1.0)


def test_of_few_examples_that_differ_the_bootstrap_is_too_narrow() -> None:
    """Why accuracies have Tango's interval: five of 500 differ, and the bootstrap covers less than it says."""
    draw, covered = drawn(5), 0
    for experiment in range(400):
        means_RV = resampled_means(two_as_accurate(0.95, draw).astype(float), drawn(experiment), 1_000)
        low, high = interval(means_RV[:, 0] - means_RV[:, 1])
        covered += low <= 0 <= high
    assert covered / 400 < 0.92


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_1000_equal_models_is_corrected(seed: int) -> None:
    """All are truly right on 94 % of images like these. Examples are hard or easy for all, as in real sweeps."""
    draw = drawn(seed)
    ease_N = draw.beta(9.4, 0.6, 10_000)
    right_MN = (draw.uniform(size=(1_000, 10_000)) < ease_N).astype(np.float32)
    truth = ease_N.mean()
    found = corrected(right_MN, drawn(seed + 10), 300)
    assert found.naive == right_MN.mean(axis=1).max()
    assert found.naive - truth > 0.004, "the naive maximum is biased"
    assert abs(found.value - truth) < 0.002, "the corrected one is within 0.2 points"
    assert found.low <= found.value <= found.high


def test_of_one_model_nothing_is_corrected() -> None:
    right_MN = (drawn().uniform(size=(1, 2_000)) < 0.8).astype(float)
    found = corrected(right_MN, drawn(1), 2_000)
    assert found.value == pytest.approx(found.naive, abs=4 * 0.4 / np.sqrt(2_000 * 2_000 * 0.37))


def test_of_losses_the_smallest_is_the_best() -> None:
    losses_MN = drawn().exponential(1.0, (50, 400)) + np.linspace(0, 1, 50)[:, None]
    found = corrected(losses_MN, drawn(1), 500, larger_is_better=False)
    assert found.naive == losses_MN.mean(axis=1).min()
    assert found.value > found.naive
    assert found.low < found.value < found.high


def test_mcnemar_is_the_binomial_test_of_those_that_differ() -> None:
    draw = drawn(2)
    first, second = draw.uniform(size=300) < 0.9, draw.uniform(size=300) < 0.85
    alone, other = int((first & ~second).sum()), int((~first & second).sum())
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(alone, alone + other).pvalue)
    assert mcnemar(first, first) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_the_confidence_set_holds_the_best_and_leaves_out_what_is_clearly_worse() -> None:
    draw = drawn(3)
    shared_N = draw.exponential(1.0, 500)
    gaps = [0.0, 0.001, 0.5, 0.6]
    losses_VN = np.stack([shared_N + gap + draw.normal(0, 0.1, 500) for gap in gaps])
    assert confidence_set(losses_VN, seed=0) == [0, 1]


def test_equal_models_stay_together() -> None:
    draw = drawn(4)
    losses_N = draw.exponential(1.0, 200)
    assert confidence_set(np.stack([losses_N, losses_N]), seed=0) == [0, 1]
    worse_N = losses_N + 1 + draw.normal(0, 0.1, 200)
    assert confidence_set(np.stack([worse_N, losses_N, losses_N]), seed=0) == [1, 2]


def test_the_best_is_in_the_set_in_95_of_100_at_least() -> None:
    """60 experiments with one best model: 0.95 less two standard errors of 2.8 points."""
    inside = 0
    for experiment in range(60):
        draw = drawn(100 + experiment)
        losses_VN = draw.normal(1.0, 1.0, (6, 200)) + np.array([0.0, *[0.02] * 5])[:, None]
        inside += 0 in confidence_set(losses_VN, seed=experiment, resamples=300)
    assert inside / 60 >= 0.89


def test_a_confidence_set_of_models_that_tie_or_differ_by_a_constant() -> None:
    """Three that are right equally often on different examples tie; one that is always wrong is told from one that never is."""
    draw = np.random.default_rng(0)
    once = (np.arange(40) == 0).astype(float)
    tying_VN = np.stack([draw.permutation(once) for _ in range(3)])
    assert confidence_set(tying_VN, 1, resamples=200) == [0, 1, 2]
    opposite_VN = np.stack([np.ones(40), np.zeros(40)])
    assert confidence_set(opposite_VN, 1, resamples=200) == [1]
    assert confidence_set(opposite_VN[:, :1], 1, resamples=200) == [0, 1], "one example tells nothing"


def test_two_examples_tell_nothing() -> None:
    """Of two, one method has both right, one neither: exact McNemar's p is 0.5 at least, whatever the confidence set says."""
    right_VN = np.array([[True, True], [True, False], [False, False]])
    assert confidence_set((~right_VN).astype(float), 0) == [0], "by bootstrap"
    assert level_with(0, right_VN) == [0, 1, 2]


def test_level_with_the_best_is_what_the_binomial_test_does_not_tell() -> None:
    """9 and 6 examples that only the best has right: p = 2 / 2**9 = 0.004 and 2 / 2**6 = 0.031; twice the first by Holm."""
    right_VN = np.ones((3, 40), dtype=bool)
    right_VN[1, :9] = right_VN[2, :6] = False
    assert level_with(0, right_VN) == [0]
    right_VN[2, 5] = True  # 2 / 2**5 = 0.0625
    assert level_with(0, right_VN) == [0, 2]


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1])
def test_the_confidence_set_is_that_of_arch(spread: float) -> None:
    """Of ten sets of ten models at most two differ, by one model each: the resamples are others."""
    from arch.bootstrap import MCS

    differences = []
    for experiment in range(10):
        draw = drawn(200 + experiment)
        losses_VN = draw.normal(1.0, 0.5, 400) + draw.normal(0, 0.3, (10, 400)) + spread * np.arange(10)[:, None]
        theirs = MCS(losses_VN.T, size=0.05, reps=1_000, block_size=1, method="R", seed=experiment)
        theirs.compute()
        ours = confidence_set(losses_VN, seed=experiment)
        differences.append(len(set(ours) ^ {int(str(place)) for place in theirs.included}))
    assert sum(count > 0 for count in differences) <= 2
    assert max(differences) <= 1
