"""Pooling, by hand and against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax as scipy_softmax

from orchestrator.ensembles.pooling import (
    Ensemble,
    calibrated,
    calibrated_members,
    log_softmax,
    softmax,
    temperature_of,
    tempered,
    uniform,
)
from tests.ensembles.made import made_pool, pool_of

TWO = [[[0.7, 0.2, 0.1]], [[0.3, 0.6, 0.1]]]


def test_softmax_is_scipys() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)) * 30
    assert softmax(logits) == pytest.approx(scipy_softmax(logits, axis=-1))
    assert log_softmax(logits) == pytest.approx(scipy_log_softmax(logits, axis=-1))


def test_the_mean_of_probabilities() -> None:
    pool = pool_of(TWO, [0])
    assert uniform((0, 1)).of_pool(pool)[0] == pytest.approx([0.5, 0.4, 0.1], abs=1e-6)
    assert Ensemble((1, 0), (0.75, 0.25)).of_pool(pool)[0] == pytest.approx([0.4, 0.5, 0.1], abs=1e-6)


def test_the_mean_of_logits_is_the_normalized_geometric_mean() -> None:
    geometric = np.sqrt(np.prod(TWO, axis=0))[0]
    found = uniform((0, 1), "logits").of_pool(pool_of(TWO, [0]))[0]
    assert found == pytest.approx(geometric / geometric.sum(), abs=1e-6)


def test_the_majority_decides_and_the_mean_where_votes_are_equal() -> None:
    says = [[[0.6, 0.3, 0.1]], [[0.6, 0.3, 0.1]], [[0.0, 0.99, 0.01]]]
    found = uniform((0, 1, 2), "votes").of_pool(pool_of(says, [0]))[0]
    assert found == pytest.approx([(2 + 0.4) / 4, (1 + 0.53) / 4, 0.07 / 4], abs=1e-6)
    assert found.sum() == pytest.approx(1)
    tie = uniform((1, 2), "votes").of_pool(pool_of(says, [0]))[0]
    assert tie.argmax() == 1, "0.645 on average against 0.3"


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    """Labels are drawn from the probabilities, which are then made too sure or too unsure by a known factor."""
    draw = np.random.default_rng(1)
    logits_NK = draw.normal(size=(40_000, 4)) * 2
    true_NK = scipy_softmax(logits_NK, axis=1)
    labels_N = (draw.uniform(size=(40_000, 1)) > true_NK.cumsum(axis=1)).sum(axis=1)
    said_NK = scipy_softmax(logits_NK * temperature, axis=1)
    assert temperature_of(said_NK, labels_N) == pytest.approx(temperature, rel=0.03)  # 4 standard errors at this size
    floor = 1e-12 ** (1 / temperature)  # what is counted as 1e-12
    assert tempered(said_NK, temperature) == pytest.approx(true_NK, abs=2 * floor + 1e-9)


def test_of_predictions_without_an_error_no_temperature_is_fitted() -> None:
    assert temperature_of(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])) == 1.0


def test_calibrating_lowers_the_loss_and_changes_no_answer() -> None:
    pool = made_pool(6, 400)
    plain = replace(uniform((0, 1, 2)), temperature=1.0)
    warm = calibrated(plain, pool)
    at = np.arange(400), pool.labels_N
    assert np.log(warm.of_pool(pool)[at]).mean() > np.log(plain.of_pool(pool)[at]).mean()
    assert (warm.of_pool(pool).argmax(1) == plain.of_pool(pool).argmax(1)).all()
    before = calibrated_members(plain, pool)
    assert len(before.member_temperatures) == 3
    expected = np.mean(
        [scipy_softmax(pool.logits_MNK[m] / t, axis=1) for m, t in enumerate(before.member_temperatures)], axis=0
    )
    assert before.of_pool(pool) == pytest.approx(expected, abs=1e-6)


def test_a_right_class_of_probability_zero_has_a_finite_temperature() -> None:
    found = temperature_of(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1]))
    assert 1 < found <= 20
