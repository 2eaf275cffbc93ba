"""The rule of the biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.biases import Bias, biases
from models.initializers.kaiming import kaiming


def drawn(bias: Bias, value: float) -> torch.Tensor:
    layer = nn.Linear(2, 100_000)
    initialize(layer, kaiming(bias=bias, bias_value=value), torch.Generator().manual_seed(0))
    return layer.bias.detach()


def test_property_a_constant_bias_is_its_value_everywhere() -> None:
    assert drawn("constant", 0.25).unique().tolist() == [0.25]


@pytest.mark.parametrize("bias", ["gaussian", "uniform"])
def test_property_a_random_bias_has_mean_zero_and_its_standard_deviation(bias: Bias) -> None:
    found = drawn(bias, 0.5)

    # 1e5 draws: the sample's standard deviation is within 1 % (4.5 sigma).
    assert found.std().item() == pytest.approx(0.5, rel=0.01)
    assert abs(found.mean().item()) < 0.01


def test_a_uniform_bias_is_within_its_bound() -> None:
    assert 0.85 < drawn("uniform", 0.5).abs().max().item() <= 0.5 * 3**0.5


def test_the_value_is_checked() -> None:
    with pytest.raises(ValueError, match="bias_value must be finite, got nan"):
        biases("constant", float("nan"))
    with pytest.raises(ValueError, match="bias_value must be a standard deviation, 0 or more, got -1"):
        biases("gaussian", -1)
    with pytest.raises(ValueError, match="bias must be one of constant, gaussian, uniform, got normal"):
        biases("normal")  # type: ignore[arg-type]
