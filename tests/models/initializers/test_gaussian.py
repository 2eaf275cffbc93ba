"""Gaussian weights of an absolute standard deviation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.gaussian import gaussian


@pytest.mark.parametrize(("std", "scale", "expected"), [(0.01, 1.0, 0.01), (0.5, 1.0, 0.5), (0.5, 4.0, 2.0)])
def test_standard_deviation_is_std_times_scale_whatever_the_fan_in(std: float, scale: float, expected: float) -> None:
    for layer in (nn.Linear(400, 250), nn.Conv2d(100, 100, 3)):
        initialize(layer, gaussian(std=std, scale=scale), torch.Generator().manual_seed(0))

        # 1e5 draws or more: the sample's standard deviation is within 1 % (4.5 sigma).
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.01)
        assert abs(layer.weight.mean().item()) < 0.02 * expected


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="std must be positive and finite, got 0"):
        gaussian(std=0)
    with pytest.raises(ValueError, match="scale must be positive and finite, got -1"):
        gaussian(scale=-1)
