from __future__ import annotations

import copy

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


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_of_all_parameters_it_is_the_weight_decay_of_sgd_of_twice_the_strength(momentum: float, nesterov: bool) -> None:
    """Against torch's own weight decay, which treats biases and the scales of norms as weights."""
    torch.manual_seed(0)
    penalized = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    decayed = copy.deepcopy(penalized)
    penalty = l2(strength=0.05, parameters="all")
    one = sgd(penalized.parameters(), lr=0.1, momentum=momentum, nesterov=nesterov)
    settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 0.1}
    other = torch.optim.SGD(decayed.parameters(), lr=0.1, **settings)  # type: ignore[arg-type]
    for _ in range(5):
        images = torch.randn(6, 3)
        for model, optimizer in ((penalized, one), (decayed, other)):
            optimizer.zero_grad()
            loss = model(images).square().mean()
            (loss + penalty(model) if model is penalized else loss).backward()
            optimizer.step()
    for p, q in zip(penalized.parameters(), decayed.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_of_the_weights_it_leaves_biases_and_norms_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    l2(strength=0.1)(model).backward()
    touched = [name for name, p in model.named_parameters() if p.grad is not None]
    assert touched == ["0.weight"]


def test_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        l2(strength=-1.0)
