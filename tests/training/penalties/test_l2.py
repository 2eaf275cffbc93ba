from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator.training.optimizers import sgd
from orchestrator.training.penalties import l2


def test_sum_of_squares_of_the_weights_without_biases() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.fill_(7.0)
    assert l2(strength=0.1)(model).item() == pytest.approx(0.5)


def test_is_weight_decay_of_twice_the_strength() -> None:
    model = nn.Linear(2, 1, bias=False)
    start = model.weight.detach().clone()
    l2(strength=0.1)(model).backward()
    sgd(model.parameters(), lr=0.5, momentum=0.0).step()
    torch.testing.assert_close(model.weight.detach(), start * (1 - 0.5 * 2 * 0.1))


def test_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        l2(strength=-1.0)
