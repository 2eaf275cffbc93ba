from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from models.outputs import Outputs
from orchestrator.training.losses import Batch, cross_entropy, hinge

DRAWS = torch.Generator().manual_seed(0)
SCORES = torch.randn(6, 5, generator=DRAWS)
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])
BATCH = Batch(torch.zeros(6, 1, 1, 1), LABELS, torch.arange(6))


@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_property_equals_torchs_multi_margin_loss_times_the_number_of_classes(margin: float) -> None:
    expected = 5 * F.multi_margin_loss(SCORES, LABELS, margin=margin)
    torch.testing.assert_close(hinge(margin=margin)(SCORES, LABELS, BATCH), expected)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_property_initial_loss_at_zero_scores(classes: int) -> None:
    """C - 1 of the hinge, and ln C of the cross-entropy."""
    scores, labels = torch.zeros(3, classes), torch.tensor([0, 1, 1])
    assert hinge()(scores, labels, BATCH).item() == classes - 1
    assert cross_entropy()(scores, labels, BATCH).item() == pytest.approx(math.log(classes), rel=1e-6)


def test_by_hand() -> None:
    """Scores of the lectures' cat, car and frog: 2.9, 0 and 12.9 for the three images."""
    scores = torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    losses = [hinge()(scores[i : i + 1], torch.tensor([i]), BATCH).item() for i in range(3)]
    assert losses == pytest.approx([2.9, 0, 12.9], abs=1e-5)


def test_of_soft_labels_it_is_the_mean_over_the_classes() -> None:
    others = torch.tensor([1, 0, 3, 2, 2, 4])
    soft = 0.3 * F.one_hot(LABELS, 5) + 0.7 * F.one_hot(others, 5)
    one, other = (F.multi_margin_loss(SCORES, labels, reduction="none") * 5 for labels in (LABELS, others))
    torch.testing.assert_close(hinge()(SCORES, soft, BATCH), (0.3 * one + 0.7 * other).mean())
    hard = F.one_hot(LABELS, 5).float()
    torch.testing.assert_close(hinge()(SCORES, hard, BATCH), hinge()(SCORES, LABELS, BATCH))


def test_auxiliary_outputs_add_their_weighted_loss() -> None:
    outputs = Outputs(SCORES, (torch.zeros(6, 5),), auxiliary_weight=0.3)
    alone = hinge()(SCORES, LABELS, BATCH).item()
    assert hinge()(outputs, LABELS, BATCH).item() == pytest.approx(alone + 0.3 * 4)


def test_margin_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="margin must be more than 0, got 0"):
        hinge(margin=0.0)
