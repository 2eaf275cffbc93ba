"""Linear classifier and multi-layer perceptron."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import create
from models.checks import RefusedError
from models.layers.activation import Activation, identity, relu, tanh
from models.layers.norm import Norm, batch_norm, layer_norm, no_norm, weight_norm
from models.mlp import linear, mlp


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_linear_has_a_weight_for_each_pixel_and_class() -> None:
    assert num_parameters(linear(num_classes=10, in_channels=3, image_size=(32, 32))) == 3072 * 10 + 10


def test_mlp_parameters_by_hand() -> None:
    model = mlp(num_classes=10, in_channels=1, image_size=(8, 8), hidden=2, width=100)

    assert num_parameters(model) == (64 * 100 + 100) + (100 * 100 + 100) + (100 * 10 + 10)


def test_batch_norm_takes_the_place_of_the_bias() -> None:
    model = mlp(num_classes=10, in_channels=1, image_size=(8, 8), hidden=1, width=100, norm=batch_norm())

    assert num_parameters(model) == 64 * 100 + 2 * 100 + (100 * 10 + 10)


def test_layer_norm_keeps_the_bias() -> None:
    model = mlp(num_classes=10, in_channels=1, image_size=(8, 8), hidden=1, width=100, norm=layer_norm())

    assert num_parameters(model) == (64 * 100 + 100) + 2 * 100 + (100 * 10 + 10)


def test_mlp_is_one_flat_sequence() -> None:
    model = mlp(num_classes=10, in_channels=1, image_size=(8, 8), hidden=2, dropout=0.5)

    names = [type(layer).__name__ for layer in model]
    assert names == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_own_initialization_keeps_the_second_moment_of_relu_features() -> None:
    torch.manual_seed(0)
    model = mlp(num_classes=10, in_channels=1, image_size=(20, 20), hidden=8, width=400)
    images = torch.randn(200, 1, 20, 20)

    features = model[:-2](images)  # before the last activation: E[y^2] = 2 under the rule 2 / fan-in

    # One draw of 8 layers of 400 features: each layer's factor has a spread of about 10 %.
    assert 1 < features.square().mean().item() < 4


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_own_values_are_checked(own: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mlp(num_classes=10, in_channels=1, image_size=(8, 8), **own)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", [batch_norm(), layer_norm(), weight_norm()])
def test_linear_refuses_a_normalization(norm: Norm) -> None:
    with pytest.raises(RefusedError, match="linear has no hidden features to normalize; use norm=none, or model=mlp"):
        linear(num_classes=10, in_channels=1, image_size=(8, 8), norm=norm)


@pytest.mark.parametrize("activation", [relu(), tanh()])
def test_linear_refuses_an_activation(activation: Activation) -> None:
    with pytest.raises(RefusedError, match="linear has no hidden features to activate; use activation=identity"):
        linear(num_classes=10, in_channels=1, image_size=(8, 8), activation=activation)


def test_linear_takes_what_changes_nothing() -> None:
    torch.manual_seed(0)
    named = linear(num_classes=10, in_channels=1, image_size=(8, 8), norm=no_norm(), activation=identity())
    torch.manual_seed(0)

    own = linear(num_classes=10, in_channels=1, image_size=(8, 8))
    torch.testing.assert_close(named.state_dict(), own.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("linear", "stem", "it has no convolutions"),
        ("linear", "dropout", "it has no hidden features"),
        ("linear", "width", "it has no hidden features"),
        ("mlp", "stem", "it has no convolutions"),
    ],
)
def test_a_common_argument_that_is_not_taken_is_refused_with_the_reason(name: str, key: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{name} takes no {key}: {reason}"):
        create(name, num_classes=10, in_channels=1, image_size=(8, 8), **{key: 1})
