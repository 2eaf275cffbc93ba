"""Random-walk initialization: the gains of Sussillo and Abbott."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from models.checks import RefusedError
from models.initializers import initialize
from models.initializers.random_walk import linear_gain, random_walk, relu_gain
from models.resnet import resnet_cifar


def test_the_gains_of_the_paper() -> None:
    assert linear_gain(100) == pytest.approx(1.0050125)  # exp(1/200)
    assert relu_gain(100) == pytest.approx(1.4317, abs=1e-4)  # sqrt(2) exp(1.2 / 97.6)
    assert relu_gain(3) == relu_gain(6) == pytest.approx(math.sqrt(2) * math.exp(1 / 3))


@pytest.mark.parametrize("unit", ["linear", "relu"])
def test_standard_deviation(unit: str) -> None:
    layer = nn.Linear(50, 4000)
    initialize(layer, random_walk(unit=unit), torch.Generator().manual_seed(0))  # type: ignore[arg-type]

    gain = {"linear": math.exp(1 / 100), "relu": math.sqrt(2) * math.exp(1.2 / 47.6)}[unit]
    assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(50), rel=0.01)  # 2e5 draws: 4.5 sigma are 0.7 %


def test_property_the_logarithm_of_a_linear_networks_gradient_does_not_drift() -> None:
    """In a chain of 200 layers of width 10, over 300 draws; with variance 1/N alone it falls by 1/2N a layer."""
    torch.manual_seed(0)
    width, depth, draws = 10, 200, 300
    steps = {}
    for gain in (linear_gain(width), 1.0):
        vector = torch.randn(draws, width, 1, dtype=torch.float64)
        norms = [vector.norm(dim=(1, 2)).log()]
        for _ in range(depth):
            vector = gain / math.sqrt(width) * torch.randn(draws, width, width, dtype=torch.float64) @ vector
            norms.append(vector.norm(dim=(1, 2)).log())
        steps[gain] = torch.stack([after - before for before, after in pairwise(norms)]).mean().item()

    # a step's standard deviation is about sqrt(1/2N) = 0.22: that of the mean of 60,000 is 0.001
    assert abs(steps[linear_gain(width)]) < 0.006
    assert steps[1.0] == pytest.approx(-1 / (2 * width), abs=0.006)


def test_a_network_with_branches_is_told_what_to_choose() -> None:
    model = resnet_cifar(num_classes=3, in_channels=1, image_size=(8, 8), depth=8)
    with pytest.raises(RefusedError, match=r"random_walk needs a plain chain .* choose model=mlp, .* or another init"):
        initialize(model, random_walk(), torch.Generator())
