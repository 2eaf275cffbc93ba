from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.training import evaluate
from orchestrator.training.batches import Split


def split_of(images: torch.Tensor) -> Split:
    count = len(images)
    labels = torch.zeros(count, dtype=torch.int64)
    return Split(np.arange(count), labels, images, torch.arange(count), lambda batch: batch, images)


def test_logits_have_maximum_zero_in_evaluation_mode_and_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "EXAMPLES_AT_ONCE", 3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(4, 5))
    images = 100 * torch.randn(8, 1, 2, 2)
    got = evaluate.logits(model.train(), split_of(images))
    assert got.dtype == torch.float32
    assert torch.equal(got.amax(1), torch.zeros(8))
    with torch.no_grad():
        whole = model.eval()(images)
    torch.testing.assert_close(got, whole - whole.amax(1, keepdim=True))
