"""Gains by the name of an activation, and as numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.initializers import Scheme, initialize
from models.initializers.delta_orthogonal import delta_orthogonal
from models.initializers.gain import SQUARED, factor, squared
from models.initializers.kaiming import kaiming
from models.initializers.lecun import lecun
from models.initializers.orthogonal import orthogonal
from models.initializers.xavier import xavier


@pytest.mark.parametrize("name", list(SQUARED))
def test_a_name_stands_for_the_gain_of_torch(name: str) -> None:
    assert factor(name) == pytest.approx(nn.init.calculate_gain(name))  # type: ignore[arg-type]
    assert squared(name) == pytest.approx(nn.init.calculate_gain(name) ** 2)  # type: ignore[arg-type]


def weight_of(scheme: Scheme) -> torch.Tensor:
    layer = nn.Conv2d(40, 30, 3)
    initialize(layer, scheme, torch.Generator().manual_seed(0))
    return layer.weight.detach()


@pytest.mark.parametrize("make", [lecun, xavier, kaiming, orthogonal, delta_orthogonal])
def test_a_gain_multiplies_the_weights(make: Callable[..., Scheme]) -> None:
    torch.testing.assert_close(weight_of(make(gain=3.0)), 3 * weight_of(make(gain="linear")))


def test_only_kaiming_includes_the_two_of_relu() -> None:
    torch.testing.assert_close(weight_of(kaiming()), 2**0.5 * weight_of(lecun()))
    torch.testing.assert_close(weight_of(kaiming(gain="linear")), weight_of(lecun()))
    torch.testing.assert_close(weight_of(kaiming()), weight_of(lecun(gain="relu")))


def test_a_gain_is_checked() -> None:
    with pytest.raises(ValueError, match="gain must be positive and finite, got 0"):
        lecun(gain=0)
    with pytest.raises(ValueError, match="gain must be one of linear, relu, leaky_relu, tanh, selu, got elu"):
        lecun(gain="elu")  # type: ignore[arg-type]
