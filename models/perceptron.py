"""Rosenblatt's perceptrons with two groups of association units: the smallest network with skip connections, and its twin.

Rosenblatt 1961, Principles of Neurodynamics: Perceptrons and the Theory of Brain Mechanisms, part III.
Our deviations: sigmoids instead of thresholds, the connections among association units go one way, and all connections are
trained by gradient.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from models import checks
from models.initializers import initialize
from models.initializers.xavier import xavier
from models.layers.activation import Activation, sigmoid
from models.layers.block import linear_block
from models.layers.norm import Norm, no_norm
from models.network import Network

Coupling = Literal["series", "cross"]


@checks.takes_no(stem="it has no convolutions")
def perceptron(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    coupling: Coupling = "cross",
    width: int = 100,
    dropout: float = 0.0,
) -> Network:
    """Sensory units S (the pixels), two groups of association units A1 and A2, response units R (the logits).

    By default without normalization, with sigmoids and the Xavier initialization.

    Args:
        coupling: `series`: four layers, S -> A1 -> A2 -> R. `cross`: three layers, S -> A -> R, where A is both groups and
            A1 -> A2 are connections within the layer; in terms of the series these are skips from S to A2 and from A1 to R.
        width: units of each group.
        dropout: probability with which an input of the response units is set to 0 in training.
    """
    checks.one_of("coupling", coupling, ("series", "cross"))
    checks.at_least("width", width, 1)
    checks.probability("dropout", dropout)
    norm = no_norm() if norm is None else norm
    activation = sigmoid() if activation is None else activation

    sensory = in_channels * image_size[0] * image_size[1]
    cross = coupling == "cross"
    first = linear_block(sensory, width, norm=norm, activation=activation)
    second = linear_block(sensory + width if cross else width, width, norm=norm, activation=activation)
    parts = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    if cross:
        parts["stage1"] = CrossCoupled(first, second)
    else:
        parts |= {"stage1": first, "stage2": second}
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(2 * width if cross else width, num_classes)
    model = Network(parts)
    initialize(model, xavier(), torch.default_generator)
    return model


class CrossCoupled(nn.Module):
    """(first(s), second(s, first(s))): a layer whose second group sees the first."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, s: Tensor) -> Tensor:
        a = self.first(s)
        return torch.cat([a, self.second(torch.cat([s, a], 1))], 1)
