"""Kaiming initialization: variance 2 / fan-in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.kaiming import kaiming


@pytest.mark.parametrize(
    ("layer", "variance"),
    [
        (nn.Linear(400, 250), 2 / 400),
        (nn.Conv2d(100, 200, 3), 2 / 900),  # 9 weights a channel
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.01, 10.0])
def test_standard_deviation(layer: nn.Conv2d | nn.Linear, variance: float, scale: float) -> None:
    initialize(layer, kaiming(scale=scale), torch.Generator().manual_seed(0))

    # 1e5 draws or more: the sample's standard deviation is within 1 % (4.5 sigma).
    assert layer.weight.std().item() == pytest.approx(scale * variance**0.5, rel=0.01)


def test_scale_is_checked() -> None:
    with pytest.raises(ValueError, match="scale must be positive and finite, got 0"):
        kaiming(scale=0)
