"""Squeeze and excitation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.layers.activation import Activation, maxout, relu, silu
from models.layers.squeeze_excite import SqueezeExcite


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(0))


def test_each_channel_is_multiplied_by_a_factor_between_zero_and_one(maps: Tensor) -> None:
    torch.manual_seed(0)
    layer = SqueezeExcite(6, 2, activation=relu())

    factors = layer(maps) / maps

    torch.testing.assert_close(factors, factors[:, :, :1, :1].expand_as(factors))
    assert ((factors > 0) & (factors < 1)).all()
    assert factors[0, :, 0, 0].std() > 1e-3


def test_the_factors_come_from_two_fully_connected_layers_on_the_means(maps: Tensor) -> None:
    layer = SqueezeExcite(6, 2, activation=relu())
    reduce, expand = (layer.factors.get_submodule(name) for name in ("reduce", "expand"))
    assert isinstance(reduce, nn.Conv2d)
    assert isinstance(expand, nn.Conv2d)
    assert isinstance(reduce.bias, Tensor)
    assert isinstance(expand.bias, Tensor)

    hidden = (maps.mean((2, 3)) @ reduce.weight.flatten(1).T + reduce.bias).relu()
    factors = torch.sigmoid(hidden @ expand.weight.flatten(1).T + expand.bias)

    torch.testing.assert_close(layer(maps), maps * factors[:, :, None, None])


@pytest.mark.parametrize("activation", [silu(), maxout(pieces=3)])
def test_other_activations_and_gates(activation: Activation, maps: Tensor) -> None:
    layer = SqueezeExcite(6, 2, activation=activation, gate=nn.Hardsigmoid())

    layer(maps).sum().backward()

    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_the_squeezed_features_are_checked() -> None:
    with pytest.raises(ValueError, match="squeezed must be at least 1, got 0"):
        SqueezeExcite(6, 0, activation=relu())
