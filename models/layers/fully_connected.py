"""The head of AlexNet and VGG: two wide fully connected layers and a linear classifier, with dropout."""

from __future__ import annotations

from torch import nn

from models.layers.activation import Activation
from models.layers.block import linear_block
from models.layers.norm import no_norm


def fully_connected(
    in_features: int,
    hidden: int,
    num_classes: int,
    *,
    activation: Activation,
    dropout: float,
    dropout_first: bool = False,
) -> dict[str, nn.Module]:
    """The parts `flatten`, `fc6`, `fc7` and `classifier` of a network, from maps to logits; none is normalized.

    Args:
        in_features: values of an example's maps.
        hidden: features of `fc6` and `fc7`.
        dropout: rate of `dropout6` and `dropout7`, which are not there at 0.
        dropout_first: whether dropout is of the inputs of the two layers instead of their outputs.
    """
    parts: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, features in ((6, in_features), (7, hidden)):
        layers: dict[str, nn.Module] = {
            f"fc{number}": linear_block(features, hidden, norm=no_norm(), activation=activation)
        }
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        parts |= reversed(layers.items()) if dropout_first else layers
    parts["classifier"] = nn.Linear(hidden, num_classes)
    return parts
