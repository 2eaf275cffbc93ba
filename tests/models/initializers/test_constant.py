"""All weights the same: why weights are random."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.constant import constant
from models.initializers.gaussian import gaussian
from models.initializers.zero import zero


def test_property_units_stay_identical_for_ever() -> None:
    """All outputs of a layer are equal, get the same gradient, and are equal after it: CS4644 lecture 10, symmetry."""
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(20, 7, generator=draws), torch.arange(20) % 3
    model = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    initialize(model, constant(value=0.3), torch.Generator())
    before = model[0].weight.detach().clone()

    for _ in range(20):
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad

    for layer in (model[0], model[2]):
        torch.testing.assert_close(layer.weight, layer.weight[:1].expand_as(layer.weight))
    assert not torch.allclose(model[0].weight, before), "it does learn, as one unit would"


def test_random_units_do_not_stay_identical() -> None:
    layer = nn.Linear(7, 6)
    initialize(layer, gaussian(), torch.Generator())
    assert not torch.allclose(layer.weight[0], layer.weight[1])


def test_zero_is_zero_and_learns_the_last_bias_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    initialize(model, zero(), torch.Generator())
    nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.int64)).backward()

    assert not any(parameter.any() for parameter in model.parameters())
    moved = [name for name, parameter in model.named_parameters() if parameter.grad.any()]
    assert moved == ["2.bias"]


def test_a_constant_of_zero_names_the_other_choice() -> None:
    with pytest.raises(ValueError, match="value must be finite and not 0, got 0; all weights are 0 with init=zero"):
        constant(value=0)
