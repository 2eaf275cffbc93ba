"""Fully connected networks of units of two layers, plain or residual, on which claims about depth are tried in seconds.

The units are those of He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385, and of He et al. 2016,
Identity Mappings in Deep Residual Networks, arXiv:1603.05027. Our deviation: linear layers instead of convolutions.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import nn

from models import checks
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import linear_block, pre_activated
from models.layers.norm import Norm, batch_norm
from models.layers.place import Layout
from models.layers.residual import join
from models.network import Network

Unit = Literal["plain", "original", "preactivation"]
UNITS = ("plain", "original", "preactivation")


@checks.takes_no(stem="it has no convolutions")
def residual_mlp(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    unit: Unit = "original",
    units: int = 9,
    width: int = 32,
    dropout: float = 0.0,
) -> Network:
    """A linear layer, units of two layers each, a linear classifier: 2 * units + 2 layers with weights.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        unit: `plain`: no shortcut. `original`: activation(x + f(x)). `preactivation`: x + f(x), where normalization and
            activation come before each linear layer, and once more after the last unit.
        units: how many.
        width: features of each layer.
        dropout: probability with which an input of the classifier is set to 0 in training.
    """
    checks.one_of("unit", unit, UNITS)
    checks.at_least("units", units, 1)
    checks.at_least("width", width, 1)
    checks.probability("dropout", dropout)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation
    make = {"plain": plain_unit, "original": original_unit, "preactivation": preactivation_unit}[unit]

    parts = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    in_features = in_channels * image_size[0] * image_size[1]
    before = unit == "preactivation"  # the activation belongs to the layer after it
    parts["stem"] = (
        _pieces_of(in_features, width, norm, activation)
        if before
        else linear_block(in_features, width, norm=norm, activation=activation)
    )
    parts["stage1"] = nn.Sequential(*(make(width, norm, activation) for _ in range(units)))
    if before:
        parts["activation"] = pre_activated(width, Layout.VECTORS, norm=norm, activation=activation)
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(width, num_classes)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def plain_unit(width: int, norm: Norm, activation: Activation) -> nn.Module:
    """The two layers of `original_unit` without the shortcut."""
    return nn.Sequential(*(linear_block(width, width, norm=norm, activation=activation) for _ in range(2)))


def original_unit(width: int, norm: Norm, activation: Activation) -> nn.Module:
    """activation(x + f(x))."""
    branch = nn.Sequential(
        linear_block(width, width, norm=norm, activation=activation),
        linear_block(width, width, norm=norm, activation=activation, ends_branch=True),
    )
    return join(branch, nn.Identity(), width, norm=norm, activation=activation, layout=Layout.VECTORS)


def preactivation_unit(width: int, norm: Norm, activation: Activation) -> nn.Module:
    """x + f(x); for an activation of several pieces x holds all pieces of each feature."""
    layers = []
    for _ in range(2):
        layers += [
            pre_activated(width, Layout.VECTORS, norm=norm, activation=activation),
            _pieces_of(width, width, norm, activation),
        ]
    return join(nn.Sequential(*layers), nn.Identity(), width, norm=norm, activation=None, layout=Layout.VECTORS)


def _pieces_of(in_features: int, width: int, norm: Norm, activation: Activation) -> nn.Module:
    """A linear layer whose normalization and activation come later; all that read its output normalize it."""
    return norm.wrap(nn.Linear(in_features, activation.pieces * width, bias=not norm.absorbs_bias))
