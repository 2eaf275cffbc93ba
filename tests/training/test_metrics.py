from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from orchestrator.base.records import METRICS
from orchestrator.training import metrics


def test_loss_and_accuracy_by_hand() -> None:
    logits = torch.tensor([[0.0, -math.log(3)], [-math.log(3), 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    expected = (math.log(4 / 3) + math.log(4) + math.log(2)) / 3
    assert metrics.evaluated("val", logits, labels) == {
        "val/loss": pytest.approx(expected),
        "val/accuracy": 1 / 3,  # of equal logits the first class counts
        "val/top5_accuracy": 1.0,  # two classes
        "val/nll": pytest.approx(expected),
    }


def test_label_is_among_the_first_five_of_seven() -> None:
    row = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    labels = torch.tensor([0, 4, 5, 6])
    assert metrics.top5_accuracy(torch.tensor([row] * 4), labels) == 2 / 4


def test_of_equal_logits_the_first_five_count() -> None:
    assert metrics.top5_accuracy(torch.zeros(7, 7), torch.arange(7)) == 5 / 7
    assert metrics.accuracy(torch.zeros(7, 7), torch.arange(7)) == 1 / 7


def test_top5_accuracy_agrees_with_a_sort() -> None:
    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 12
    first = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :5]
    assert metrics.top5_accuracy(logits, labels) == (first == labels.numpy()[:, None]).any(1).mean()


def test_every_metric_of_validation_can_be_the_objective() -> None:
    assert {name for name in METRICS if name.startswith("val/")} == {f"val/{name}" for name in metrics.EVALUATED}


def test_property_top5_error_is_at_most_top1_error() -> None:
    draws = torch.Generator().manual_seed(1)
    for _ in range(20):
        logits, labels = torch.randn(50, 12, generator=draws), torch.randint(12, (50,), generator=draws)
        top1 = (logits.argmax(1) == labels).double().mean().item()
        assert 1 - metrics.top5_accuracy(logits, labels) <= 1 - top1
