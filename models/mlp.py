"""Networks without convolutions: a linear classifier, and multi-layer perceptrons of any depth."""

from __future__ import annotations

import torch
from torch import nn

from models import checks
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, identity, relu
from models.layers.block import linear_block
from models.layers.norm import Norm, no_norm

NO_CONVOLUTIONS = "it has no convolutions"
NO_HIDDEN = "it has no hidden features"


@checks.takes_no(stem=NO_CONVOLUTIONS, dropout=NO_HIDDEN, width=NO_HIDDEN)
def linear(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
) -> nn.Sequential:
    """One linear map from pixels to logits: multinomial logistic regression under cross-entropy.

    Raises:
        RefusedError: a norm or an activation other than `no_norm()` and `identity()`: there are no hidden features.
    """
    if norm not in (None, no_norm()):
        raise checks.RefusedError("linear has no hidden features to normalize; use norm=none, or model=mlp")
    if activation not in (None, identity()):
        raise checks.RefusedError("linear has no hidden features to activate; use activation=identity, or model=mlp")
    model = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size[0] * image_size[1], num_classes))
    initialize(model, kaiming(), torch.default_generator)
    return model


@checks.takes_no(stem=NO_CONVOLUTIONS)
def mlp(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    hidden: int = 2,
    width: int = 100,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Fully connected network; by default without normalization, with ReLU and the Kaiming initialization.

    It is one flat `nn.Sequential`: for batches of small images, another level of modules would cost as much as a layer.

    Args:
        hidden: number of hidden layers.
        width: features of each hidden layer.
        dropout: probability with which a hidden feature is set to 0 in training.
    """
    checks.at_least("hidden", hidden, 1)
    checks.at_least("width", width, 1)
    checks.probability("dropout", dropout)
    norm = no_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    layers: list[nn.Module] = [nn.Flatten()]
    in_features = in_channels * image_size[0] * image_size[1]
    for _ in range(hidden):
        layers += linear_block(in_features, width, norm=norm, activation=activation)
        if dropout:
            layers.append(nn.Dropout(dropout))
        in_features = width
    model = nn.Sequential(*layers, nn.Linear(in_features, num_classes))
    initialize(model, kaiming(), torch.default_generator)
    return model
