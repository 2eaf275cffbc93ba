from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.outputs import Outputs
from orchestrator.training.losses import Batch, as_loss

LABELS = torch.tensor([0, 2, 1])
BATCH = Batch(torch.zeros(3, 1, 2, 2), LABELS, torch.arange(3))
LOGITS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def of_three(outputs: Tensor | Outputs, labels: Tensor, batch: Batch) -> Tensor:
    assert isinstance(outputs, Outputs)
    return outputs.auxiliary[0].sum() + batch.indices.sum()


class Module(nn.Module):
    def forward(self, outputs: Any, labels: Tensor, batch: Batch) -> Tensor:
        return batch.images.sum()


def test_a_loss_is_told_outputs_labels_and_batch() -> None:
    assert as_loss(of_three)(Outputs(LOGITS, (torch.ones(2),)), LABELS, BATCH).item() == 2 + 3
    assert as_loss(Module())(LOGITS, LABELS, BATCH).item() == 0


@pytest.mark.parametrize("outputs", [LOGITS, Outputs(LOGITS, (torch.zeros(3, 4),))])
def test_a_loss_of_two_arguments_is_told_logits_and_labels(outputs: Tensor | Outputs) -> None:
    criterion = nn.CrossEntropyLoss()
    assert torch.equal(as_loss(criterion)(outputs, LABELS, BATCH), criterion(LOGITS, LABELS))
