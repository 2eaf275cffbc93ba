"""Auxiliary classifiers: Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842, section 5.

A family passes them to `Network(heads=...)`, by the part whose maps they read.
Our deviations: other sizes of maps than the paper's 14x14, and a normalization and an activation that can be chosen. The
normalization follows the convolution only, as in torchvision.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from models import checks
from models.layers.activation import Activation
from models.layers.block import conv_block, linear_block
from models.layers.norm import Norm, layerless
from models.layers.width import scaled

PATCH, STRIDE = 5, 3
"""Of the paper's average pooling."""


def auxiliary_head(
    channels: int,
    num_classes: int,
    size: tuple[int, int],
    *,
    norm: Norm,
    activation: Activation,
    grid: int | None = None,
    dropout: float = 0.7,
    width: float = 1.0,
) -> nn.Sequential:
    """Logits (N, num_classes) from maps (N, channels, *size): pooling, 1x1 convolution, hidden layer, dropout, classifier.

    The paper's pooling takes 5x5 positions at stride 3. Where it would leave one position or none, the mean over all
    positions is taken instead, after the convolution, so that a normalization has positions to look at.

    Args:
        size: (height, width) of the maps; the inputs of the hidden layer depend on it.
        grid: averages over grid x grid cells instead, whatever the size, as torchvision does.
        width: factor on the paper's 128 channels and 1024 hidden features.
    """
    checks.probability("aux_dropout", dropout)
    pool, positions = _pooling(size, grid)
    projected, hidden = scaled(128, width), scaled(1024, width)
    conv = conv_block(channels, projected, 1, norm=norm, activation=activation)
    layers = OrderedDict[str, nn.Module]()
    if pool is not None:
        layers["pool"] = pool
    layers["conv"] = conv
    if pool is None:
        layers["mean"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = linear_block(projected * positions, hidden, norm=layerless(norm), activation=activation)
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["classifier"] = nn.Linear(hidden, num_classes)
    return nn.Sequential(layers)


def _pooling(size: tuple[int, int], grid: int | None) -> tuple[nn.Module | None, int]:
    """The pooling before the convolution, and how many positions reach the hidden layer."""
    if grid is not None:
        return nn.AdaptiveAvgPool2d(grid), grid**2
    height, width = ((length - PATCH) // STRIDE + 1 for length in size)
    if min(size) < PATCH or height * width == 1:
        return None, 1
    return nn.AvgPool2d(PATCH, stride=STRIDE), height * width
