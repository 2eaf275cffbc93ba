"""Pooling, by hand and against scipy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax as scipy_softmax

from orchestrator.ensembles.pool import Part
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
    assert np.abs(tempered(said_NK, temperature) - true_NK).max() <= 2 * floor + 1e-9


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


@pytest.mark.parametrize("classes", [2, 10, 1_000])
def test_many_examples_are_pooled_as_one_by_one(classes: int) -> None:
    """More than are looked at together; float32 sums of a thousand classes are off by less than 1e-5 of themselves."""
    logits_NK = (np.random.default_rng(0).normal(size=(2**17 // classes + 7, classes)) * 5).astype(np.float32)
    true_NK = scipy_softmax(logits_NK.astype(float), axis=-1)
    assert (np.abs(softmax(logits_NK) - true_NK) <= 1e-5 * true_NK + 1e-12).all()
    assert softmax(logits_NK).dtype == np.float32
    expected_NK = scipy_log_softmax(logits_NK.astype(float), axis=-1)
    assert np.abs(log_softmax(logits_NK) - expected_NK).max() < 1e-12
    turned_KN = np.asfortranarray(logits_NK)
    assert (softmax(turned_KN) == softmax(logits_NK)).all()
    assert softmax(logits_NK[:0]).shape == (0, classes)


@pytest.mark.parametrize("pooling", ["probabilities", "logits", "votes"])
def test_a_thousand_members_are_pooled_as_in_float64(pooling: Any) -> None:
    pool = made_pool(1_000, 5, 10)
    weights = np.random.default_rng(0).dirichlet(np.ones(1_000))
    found_NK = Ensemble(tuple(range(1_000)), tuple(weights.tolist()), pooling).of_pool(pool)
    said_MNK = scipy_softmax(pool.logits_MNK.astype(float), axis=-1)
    mean_NK = np.einsum("m,mnk->nk", weights, said_MNK)
    votes_NK = np.einsum("m,mnk->nk", weights, np.eye(10)[pool.logits_MNK.argmax(axis=2)])
    expected = {
        "probabilities": mean_NK,
        "logits": scipy_softmax(np.einsum("m,mnk->nk", weights, pool.logits_MNK.astype(float)), axis=-1),
        "votes": (1_000 * votes_NK + mean_NK) / 1_001,
    }
    assert found_NK == pytest.approx(expected[pooling], abs=1e-7)


def test_the_temperature_is_that_of_another_optimizer() -> None:
    for seed in range(5):
        pool = made_pool(1, 200, seed=seed)
        said_NK = tempered(pool.probabilities_MNK[0].astype(float), 0.3 + 0.5 * seed)

        def nll(temperature: float, said_NK: Any = said_NK, labels_N: Any = pool.labels_N) -> float:
            logs_NK = scipy_log_softmax(np.log(said_NK) / temperature, axis=1)
            return float(-logs_NK[np.arange(200), labels_N].mean())

        found = minimize_scalar(nll, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9})
        assert temperature_of(said_NK, pool.labels_N) == pytest.approx(found.x, rel=1e-4)


def test_temperatures_stay_in_their_range() -> None:
    """Who is always wrong but once is best asked for nothing; who hardly says what it knows, for all of it."""
    labels_N = np.arange(40) % 2
    sure_NK = np.where(np.eye(2)[labels_N] == 1, 0.01, 0.99)
    assert temperature_of(sure_NK, labels_N) == 20.0
    timid_NK = np.where(np.eye(2)[labels_N] == 1, 0.501, 0.499)
    timid_NK[0] = 0.4999, 0.5001
    assert temperature_of(timid_NK, labels_N) == 0.05


def test_a_part_of_a_pool_is_the_pool_of_its_members_and_examples() -> None:
    pool, rows_n = made_pool(7, 30), np.array([3, 1, 29, 8])
    part, copy = Part(pool, [5, 0, 2], rows_n), pool.of([5, 0, 2]).at(rows_n)
    for here, there in (
        (part, copy),
        (part.of([2, 0]), copy.of([2, 0])),
        (part.at(np.array([2, 0])), copy.at(np.array([2, 0]))),
        (Part(part, [1, 2]), copy.of([1, 2])),
    ):
        assert here.members == there.members
        assert len(here) == len(there)
        for name in ("logits_MNK", "labels_N", "right_MN", "is_right_MN", "probabilities_MNK"):
            assert (getattr(here, name) == getattr(there, name)).all(), name
        assert (here.logits_of(1) == there.logits_of(1)).all()
        assert (uniform((0, 1)).of_pool(here) == uniform((0, 1)).of_pool(there)).all()
