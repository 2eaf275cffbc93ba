"""Measures against scikit-learn, and against numbers worked out by hand."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from sklearn import metrics

from orchestrator.ensembles import measures
from orchestrator.ensembles.pooling import log_softmax, uniform
from tests.ensembles.made import made_pool


@pytest.fixture
def said() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 8 classes and labels of 300 examples."""
    draw = np.random.default_rng(3)
    logits_NK = draw.normal(size=(300, 8)) * 2
    return np.exp(log_softmax(logits_NK)), draw.integers(0, 8, 300)


def test_they_equal_scikit_learns(said: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities_NK, labels_N = said
    found = measures.measures(probabilities_NK, labels_N)
    every = list(range(8))
    assert found["accuracy"] == metrics.accuracy_score(labels_N, probabilities_NK.argmax(1))
    assert found["nll"] == pytest.approx(metrics.log_loss(labels_N, probabilities_NK, labels=every), rel=1e-12)
    top5 = metrics.top_k_accuracy_score(labels_N, probabilities_NK, k=5, labels=every)
    assert found["top5_error"] == pytest.approx(1 - top5, abs=1e-12)
    assert found["brier"] == pytest.approx(
        metrics.brier_score_loss(labels_N, probabilities_NK, labels=every, scale_by_half=False), rel=1e-12
    )
    recalls = metrics.recall_score(labels_N, probabilities_NK.argmax(1), labels=every, average=None)
    assert measures.per_class_accuracy(probabilities_NK, labels_N) == pytest.approx(recalls.tolist())


def test_calibration_by_hand() -> None:
    """Two bins of two: confidences .6 .7 (one right) and .8 .9 (both right)."""
    confidence = np.array([0.9, 0.6, 0.8, 0.7])
    probabilities_NK = np.stack([confidence, 1 - confidence], axis=1)
    labels_N = np.array([0, 1, 0, 0])
    gap = (abs(0.6 + 0.7 - 1) + abs(0.8 + 0.9 - 2)) / 4
    assert measures.expected_calibration_error(probabilities_NK, labels_N, bins=2) == pytest.approx(gap)
    found = measures.reliability(probabilities_NK, labels_N, bins=2)
    assert [(round(said, 6), right, count) for said, right, count in found] == [(0.65, 0.5, 2), (0.85, 1.0, 2)]


def test_of_two_classes_the_classwise_error_by_hand() -> None:
    """One bin: class 0 is said 0.75 on average and happens in 3 of 4; class 1 likewise."""
    confidence = np.array([0.9, 0.6, 0.8, 0.7])
    probabilities_NK = np.stack([confidence, 1 - confidence], axis=1)
    assert measures.classwise_calibration_error(probabilities_NK, np.array([0, 1, 0, 0]), bins=1) == pytest.approx(0)
    assert measures.classwise_calibration_error(probabilities_NK, np.array([0, 0, 0, 0]), bins=1) == pytest.approx(0.25)


def test_of_perfectly_calibrated_predictions_the_error_shrinks_with_the_bins_size() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.5, 1, 200_000)
    probabilities_NK = np.stack([confidence, 1 - confidence], axis=1)
    labels_N = (draw.uniform(size=200_000) > confidence).astype(int)
    # 15 bins of 13,333: the mean of |normal| with standard deviation sqrt(p q / 13333) is at most 0.0035
    assert measures.expected_calibration_error(probabilities_NK, labels_N) < 0.0035


def test_certain_and_wrong_costs_708_nats_and_no_more() -> None:
    found = measures.measures(np.array([[1.0, 0.0]]), np.array([1]))
    assert found["nll"] == pytest.approx(-math.log(sys.float_info.min))
    assert found["brier"] == 2.0
    assert found["ece"] == 1.0


@pytest.mark.parametrize("behind", [20.0, 60.0, 150.0, 600.0])
def test_a_loss_is_the_models_however_small_the_probability(behind: float) -> None:
    """The right class is so many nats behind: the loss of the member, and of two of which one is right, by hand."""
    logits_NK, labels_N = np.array([[0.0, -behind]], np.float32), np.array([1])
    one = behind + math.log1p(math.exp(-behind))
    assert measures.losses_of_logits(logits_NK, labels_N) == pytest.approx([one])
    alone, both = uniform((0,)), uniform((0, 1))
    assert measures.losses(alone.probabilities([logits_NK]), labels_N) == pytest.approx([one])
    assert measures.losses(both.probabilities([logits_NK, logits_NK - 3]), labels_N) == pytest.approx([one])


def test_no_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        measures.expected_calibration_error(np.zeros((0, 3)), np.zeros(0, dtype=int))


def test_a_class_without_examples_has_no_accuracy() -> None:
    assert measures.per_class_accuracy(np.eye(3)[[0, 0]], np.array([0, 2])) == [1.0, None, 0.0]


def test_disagreement_and_q_by_hand() -> None:
    said_MN = np.array([[0, 1, 2, 2], [0, 1, 1, 0]])
    assert measures.disagreement(said_MN).tolist() == [[0.0, 0.5], [0.5, 0.0]]
    right_MN = np.array(
        [[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]], dtype=bool
    )  # both 2, neither 2, one alone 1, other alone 1
    assert measures.q_statistic(right_MN)[0, 1] == pytest.approx((4 - 1) / (4 + 1))
    assert np.isnan(measures.q_statistic(np.ones((2, 3), dtype=bool))).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_identities_hold_of_every_ensemble(seed: int) -> None:
    pool = made_pool(2 + seed, 50, 3, seed=seed)
    measures.check_identities(log_softmax(pool.logits_MNK), pool.labels_N)


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e28])
def test_the_identities_hold_where_all_members_are_sure_and_wrong(scale: float) -> None:
    """As of networks that nearly diverged: the probability of the true class is 0 in floating-point numbers."""
    logits_MNK = np.where(np.arange(3) == 0, 0.0, -scale) * np.linspace(1, 2, 4)[:, None, None] * np.ones((4, 5, 1))
    measures.check_identities(log_softmax(logits_MNK.astype(np.float32)), np.array([0, 1, 2, 1, 1]))


def test_kl_equals_scipys() -> None:
    from scipy.stats import entropy

    pool = made_pool(3, 20, 5)
    logs_MNK = log_softmax(pool.logits_MNK)
    expected = [entropy(np.exp(logs_MNK[0]), np.exp(logs), axis=1).mean() for logs in logs_MNK]
    assert measures.kl_to_members(logs_MNK[0], logs_MNK) == pytest.approx(expected, abs=1e-12)
