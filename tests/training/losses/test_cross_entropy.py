from __future__ import annotations

import math

import pytest
import torch

from models.outputs import Outputs
from orchestrator.training.losses import cross_entropy

LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # probabilities (3/4, 1/4) and (1/2, 1/2)
LABELS = torch.tensor([0, 1])


def test_mean_of_minus_log_probability() -> None:
    assert cross_entropy()(LOGITS, LABELS).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_smoothing_spreads_evenly_over_all_classes() -> None:
    # targets (0.9, 0.1) and (0.1, 0.9)
    first = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert cross_entropy(label_smoothing=0.2)(LOGITS, LABELS).item() == pytest.approx((first + math.log(2)) / 2)


def test_smoothing_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and less than 1, got 1"):
        cross_entropy(label_smoothing=1.0)


def test_soft_labels_weigh_the_classes() -> None:
    soft = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    first = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    assert cross_entropy()(LOGITS, soft).item() == pytest.approx((first + math.log(2)) / 2)


def test_smoothing_of_soft_labels() -> None:
    # (1 - 0.2) (0.5, 0.5) + 0.1 = (0.5, 0.5); (0.8) (0, 1) + 0.1 = (0.1, 0.9)
    soft = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    first = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    loss = cross_entropy(label_smoothing=0.2)(LOGITS, soft)
    assert loss.item() == pytest.approx((first + math.log(2)) / 2)


def test_auxiliary_outputs_add_their_weighted_loss() -> None:
    main = (math.log(4 / 3) + math.log(2)) / 2
    outputs = Outputs(LOGITS, (torch.zeros(2, 2), LOGITS), auxiliary_weight=0.3)
    assert cross_entropy()(outputs, LABELS).item() == pytest.approx(main + 0.3 * math.log(2) + 0.3 * main)
