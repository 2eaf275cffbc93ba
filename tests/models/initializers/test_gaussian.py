"""Gaussian weights of an absolute standard deviation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.gaussian import gaussian


@pytest.mark.parametrize("std", [0.01, 0.5, 2.0])
def test_standard_deviation_is_std_whatever_the_fan_in(std: float) -> None:
    for layer in (nn.Linear(400, 250), nn.Conv2d(100, 100, 3)):
        initialize(layer, gaussian(std=std), torch.Generator().manual_seed(0))

        # 1e5 draws or more: the sample's standard deviation is within 1 % (4.5 sigma).
        assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
        assert abs(layer.weight.mean().item()) < 0.02 * std


def test_std_is_checked() -> None:
    with pytest.raises(ValueError, match="std must be positive and finite, got 0"):
        gaussian(std=0)
