"""LeCun initialization: variance 1 / fan-in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.lecun import lecun


@pytest.mark.parametrize(
    ("layer", "variance"),
    [
        (nn.Linear(400, 250), 1 / 400),
        (nn.Conv2d(100, 200, 3), 1 / 900),  # 9 weights a channel
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.01, 10.0])
def test_standard_deviation(layer: nn.Conv2d | nn.Linear, variance: float, scale: float) -> None:
    initialize(layer, lecun(scale=scale), torch.Generator().manual_seed(0))

    # 1e5 draws or more: the sample's standard deviation is within 1 % (4.5 sigma).
    assert layer.weight.std().item() == pytest.approx(scale * variance**0.5, rel=0.01)


def test_scale_is_checked() -> None:
    with pytest.raises(ValueError, match="scale must be positive and finite, got 0"):
        lecun(scale=0)
