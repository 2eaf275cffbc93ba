"""What is chosen by a loss is corrected as that; small samples keep their doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from statsmodels.stats.proportion import proportion_confint

from orchestrator.ensembles.catalogue import chosen
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.correcting import corrections
from orchestrator.ensembles.crossfitting import Fitted
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.pooling import uniform
from tests.ensembles.candidates import gathered_of, split
from tests.ensembles.made import pool_of

EXAMPLES = 120


def sure_and_unsure() -> Pool:
    """24 members of which the most accurate are too sure: by their loss others are chosen."""
    draw = np.random.default_rng(5)
    labels_N = draw.integers(0, 4, EXAMPLES)
    truth_NK = draw.normal(size=(EXAMPLES, 4)) + 1.5 * np.eye(4)[labels_N]
    skill_M, scale_M = np.linspace(1.4, 0.7, 24), np.linspace(9.0, 0.8, 24)
    noise_MNK = draw.normal(size=(24, EXAMPLES, 4))
    logits_MNK = scale_M[:, None, None] * (skill_M[:, None, None] * truth_NK + noise_MNK)
    return replace(pool_of(np.full((24, EXAMPLES, 4), 0.25), labels_N), logits_MNK=logits_MNK.astype(np.float32))


def by_hand(chosen_by_MN: np.ndarray, right_MN: np.ndarray, resamples: int) -> tuple[float, float]:
    """The mean accuracy out of bag of what is largest in the bag, and its standard error."""
    draw, found = np.random.default_rng(11), []
    for _ in range(resamples):
        bag = draw.choice(EXAMPLES, EXAMPLES)
        out = np.setdiff1d(np.arange(EXAMPLES), bag)
        found.append(right_MN[chosen_by_MN[:, bag].mean(axis=1).argmax()][out].mean())
    return float(np.mean(found)), float(np.std(found) / np.sqrt(resamples))


def compared(pool: Pool, metric: str) -> Comparison:
    loss_M = -log_softmax(pool.logits_MNK.astype(float), axis=2)[:, np.arange(EXAMPLES), pool.labels_N].mean(axis=1)
    accuracy_M = (pool.logits_MNK.argmax(axis=2) == pool.labels_N).mean(axis=1)
    values_M = accuracy_M if metric == "val/accuracy" else loss_M
    members = tuple(replace(one, value=float(value)) for one, value in zip(pool.members, values_M, strict=True))
    pool = replace(pool, members=members, larger_is_better=metric == "val/accuracy")
    test = (pool.logits_MNK, pool.labels_N, np.arange(EXAMPLES))
    return compare(gathered_of(pool, test, metric=metric), methods=["mean"], resamples=1_000)


def test_the_best_single_trial_is_chosen_by_the_objective_and_scored_by_accuracy() -> None:
    pool = sure_and_unsure()
    log_right_MN = log_softmax(pool.logits_MNK.astype(float), axis=2)[:, np.arange(EXAMPLES), pool.labels_N]
    right_MN = pool.logits_MNK.argmax(axis=2) == pool.labels_N
    by_loss, error = by_hand(log_right_MN, right_MN, 1_000)
    by_accuracy, _ = by_hand(right_MN.astype(float), right_MN, 1_000)
    assert abs(by_loss - by_accuracy) > 0.04, "the two choices differ here"
    # Both sides are simulations of 1,000 resamples: four standard errors of their difference.
    near = 4 * np.sqrt(2) * error
    found = compared(pool, "val/loss")["corrected"]
    assert found["value"] == pytest.approx(by_loss, abs=near)
    assert found["naive"] == right_MN[log_right_MN.mean(axis=1).argmax()].mean()
    assert compared(pool, "val/accuracy")["corrected"]["value"] == pytest.approx(by_accuracy, abs=near)


def test_the_winner_is_chosen_by_the_objective_too() -> None:
    """Of two methods the first is right more often and too sure, so that the second has less loss on each resample."""
    pool = sure_and_unsure()
    right_N = np.arange(EXAMPLES) % 10
    sure_NK, calm_NK = (said(pool, right_N < share, sureness) for share, sureness in ((9, 0.999999), (7, 0.8)))
    best_single, mean = chosen(["mean"])
    fitted = [Fitted(best_single, uniform((0,)), sure_NK), Fitted(mean, uniform((0, 1)), calm_NK)]
    found = corrections(pool, fitted, 1, [True, True], metric="val/nll", seed=1, resamples=400)
    assert found["winner_naive"] == 0.7
    assert found["winner_value"] == pytest.approx(0.7, abs=0.02)
    found = corrections(pool, fitted, 0, [True, True], metric="val/accuracy", seed=1, resamples=400)
    assert found["winner_value"] == pytest.approx(0.9, abs=0.02)


def said(pool: Pool, right_N: np.ndarray, sureness: float) -> np.ndarray:
    """Probabilities of something that is always equally sure."""
    said_N = np.where(right_N, pool.labels_N, (pool.labels_N + 1) % 4)
    return np.where(np.eye(4)[said_N] > 0, sureness, (1 - sureness) / 3)


def test_an_objective_that_is_none_of_these_examples_chose_nothing_by_them() -> None:
    """The first member of 24 by a value of another kind: its accuracy has no curse."""
    pool = sure_and_unsure()
    members = tuple(replace(one, value=float(-place)) for place, one in enumerate(pool.members))
    test = (pool.logits_MNK, pool.labels_N, np.arange(EXAMPLES))
    gathered = gathered_of(replace(pool, members=members), test, metric="train/accuracy")
    found = compare(gathered, methods=["mean"], resamples=1_000)["corrected"]
    naive = (pool.logits_MNK[0].argmax(axis=1) == pool.labels_N).mean()
    assert found["naive"] == naive
    assert found["value"] == pytest.approx(naive, abs=0.01)


def test_of_few_images_that_are_all_right_the_interval_is_wilsons() -> None:
    pool, test = split(3, 32, 20)
    right_NK = 12.0 * np.eye(4)[pool.labels_N].astype(np.float32)
    pool = replace(pool, logits_MNK=np.stack([right_NK] * 3))
    found = compare(gathered_of(pool, test), methods=["mean"], resamples=200)["corrected"]
    low, _ = proportion_confint(32, 32, method="wilson")
    for whose in ("", "winner_"):
        assert found[f"{whose}value"] == 1.0
        assert found[f"{whose}low"] == pytest.approx(low)
        assert found[f"{whose}high"] == 1.0
