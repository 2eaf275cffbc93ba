"""The penalties of norms: l1 and elastic_net by hand, and what l1 does to weights (l2 has its own file)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from orchestrator.training.penalties import elastic_net, l1, l2


def linear() -> nn.Linear:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.bias.fill_(7.0)
    return model


def gradient(penalty: object, model: nn.Linear) -> Tensor:
    model.zero_grad()
    penalty(model).backward()  # type: ignore[operator]
    assert model.weight.grad is not None
    return model.weight.grad


def test_values_by_hand() -> None:
    model = linear()
    assert l1(strength=0.1)(model).item() == pytest.approx(0.3)
    assert l1(strength=0.1, parameters="all")(model).item() == pytest.approx(1.0)
    assert elastic_net(strength=0.1, beta=2)(model).item() == pytest.approx(0.1 * (2 * 5 + 3))
    assert l1(strength=0.0)(model).item() == 0


def test_property_gradients() -> None:
    """2 lambda W of l2, lambda sgn(W) of l1, lambda (2 beta W + sgn(W)) of the elastic net."""
    model = linear()
    torch.testing.assert_close(gradient(l2(strength=0.1), model), torch.tensor([[0.2, -0.4]]))
    torch.testing.assert_close(gradient(l1(strength=0.1), model), torch.tensor([[0.1, -0.1]]))
    torch.testing.assert_close(gradient(elastic_net(strength=0.1, beta=2), model), torch.tensor([[0.5, -0.9]]))


def test_property_elastic_net_of_beta_0_is_l1() -> None:
    model = linear()
    assert torch.equal(elastic_net(strength=0.1, beta=0)(model), l1(strength=0.1)(model))
    assert torch.equal(
        gradient(elastic_net(strength=0.1, beta=0), model).clone(), gradient(l1(strength=0.1), model).clone()
    )


def test_property_sparsity_of_l1_grows_with_its_strength() -> None:
    """Against the closed form: of |w - a|^2 / 2 + s |w| the minimum is at a, s nearer to 0, and at 0 where |a| <= s."""
    targets = torch.linspace(-1.05, 1.05, 22)[None]
    zeros = []
    for strength in (0.0, 0.2, 0.5, 0.9):
        model = nn.Linear(22, 1, bias=False)
        penalty = l1(strength=strength)
        for _ in range(800):
            grad = gradient(penalty, model) + (model.weight.detach() - targets)
            with torch.no_grad():
                model.weight -= 0.01 * grad
        expected = targets.sign() * (targets.abs() - strength).clamp(min=0)
        torch.testing.assert_close(model.weight.detach(), expected, rtol=0, atol=0.02)  # a step of sgn around 0
        zeros.append(int((model.weight.abs() < 0.02).sum()))
    assert zeros == [0, 4, 10, 18]


@pytest.mark.parametrize("make", [l1, elastic_net])
def test_settings_outside_their_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        make(strength=-1.0)  # type: ignore[operator]
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        elastic_net(beta=-1.0)
