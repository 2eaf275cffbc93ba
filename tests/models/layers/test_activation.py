"""Activations, at values worked out by hand."""

from __future__ import annotations

from math import exp

import pytest
import torch

from models.layers.activation import Activation, elu, leaky_relu, relu, tanh
from models.layers.place import Layout


@pytest.mark.parametrize(
    ("activation", "at_minus_one"),
    [
        (relu(), 0.0),
        (tanh(), (exp(-2) - 1) / (exp(-2) + 1)),
        (leaky_relu(), -0.01),
        (leaky_relu(negative_slope=0.1), -0.1),
        (elu(), exp(-1) - 1),
        (elu(alpha=2.0), 2 * (exp(-1) - 1)),
    ],
)
def test_values(activation: Activation, at_minus_one: float) -> None:
    layer = activation.layer(1, Layout.VECTORS)

    torch.testing.assert_close(layer(torch.tensor([-1.0, 0.0])), torch.tensor([at_minus_one, 0.0]))


@pytest.mark.parametrize("activation", [relu(), tanh(), leaky_relu(), elu()])
def test_input_is_left_as_it_was(activation: Activation) -> None:
    x = torch.tensor([-1.0, 2.0])

    activation.layer(1, Layout.VECTORS)(x)

    assert x.tolist() == [-1.0, 2.0]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="negative_slope must be positive and finite, got 0"):
        leaky_relu(negative_slope=0)
    with pytest.raises(ValueError, match="alpha must be positive and finite, got -1"):
        elu(alpha=-1)
    with pytest.raises(ValueError, match="pieces must be at least 1, got 0"):
        Activation(relu().layer, pieces=0)
