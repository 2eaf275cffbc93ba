"""Uniform weights of an absolute standard deviation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.uniform import uniform


@pytest.mark.parametrize("std", [0.01, 2.0])
def test_property_the_variance_of_u_minus_a_to_a_is_a_squared_over_3(std: float) -> None:
    for layer in (nn.Linear(400, 250), nn.Conv2d(100, 120, 3)):
        initialize(layer, uniform(std=std), torch.Generator().manual_seed(0))

        bound = layer.weight.abs().max().item()
        # 1e5 draws or more: the largest is within 0.1 % of the bound, the sample's standard deviation within 1 %.
        assert bound == pytest.approx(3**0.5 * std, rel=1e-3)
        assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)


def test_std_is_checked() -> None:
    with pytest.raises(ValueError, match="std must be positive and finite, got 0"):
        uniform(std=0)
