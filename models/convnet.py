"""A small convolutional network that trains in seconds on digits and in minutes on CIFAR-size photographs."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from models import checks
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block
from models.layers.norm import Norm, batch_norm


def convnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stages: int = 3,
    width: int = 16,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Stages of a 3x3 convolution and a 2x2 max pooling, then a linear classifier.

    By default with batch normalization, ReLU and the Kaiming initialization. Pooling comes before normalization, as in
    Jordan 2024, arXiv:2404.00498: normalization and activation are then a quarter of the work, and the classifier gets
    features of smaller mean, which train faster (two epochs of CIFAR-10: 0.695 against 0.541 accuracy, one run each).

    Args:
        stages: each halves the image and doubles the channels.
        width: channels of the first stage.
        dropout: probability with which an input of the classifier is set to 0 in training.
    """
    checks.at_least("stages", stages, 1)
    checks.at_least("width", width, 1)
    checks.probability("dropout", dropout)
    checks.image_at_least(f"convnet of {stages} stages", image_size, 2**stages)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    layers = OrderedDict[str, nn.Module]()
    channels = in_channels
    for stage in range(stages):
        out_channels = width * 2**stage
        layers[f"stage{stage + 1}"] = conv_block(
            channels, out_channels, 3, pool=nn.MaxPool2d(2), norm=norm, activation=activation
        )
        channels = out_channels
    layers["flatten"] = nn.Flatten()
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    positions = (image_size[0] // 2**stages) * (image_size[1] // 2**stages)
    layers["classifier"] = nn.Linear(channels * positions, num_classes)
    model = nn.Sequential(layers)
    initialize(model, kaiming(), torch.default_generator)
    return model
