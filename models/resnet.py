"""Residual networks: He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385.

Our deviation: the classifier's weights, too, are normal with variance 2 / fan-in.
"""

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
from models.layers.residual import Residual, ZeroPadShortcut, join


def resnet_cifar(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    depth: int = 20,
    width: int = 16,
) -> nn.Sequential:
    """The CIFAR-10 network of section 4.2: a 3x3 convolution, three stages of n residual blocks, a linear classifier.

    By default with batch normalization, ReLU and the Kaiming initialization.

    Args:
        depth: layers with weights, 6n + 2: two in each block, the first convolution and the classifier.
        width: channels of the first stage; each later stage doubles them and halves the image.
    """
    num_blocks = blocks_of_depth(depth)
    checks.at_least("width", width, 1)
    # The last stage works at a quarter of the size: below 8x8 its 3x3 kernels would see little but padding.
    checks.image_at_least("resnet_cifar", image_size, 8)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    layers = OrderedDict[str, nn.Module](stem=conv_block(in_channels, width, 3, norm=norm, activation=activation))
    channels = width
    for stage in range(3):
        blocks = []
        for block in range(num_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(basic_block(channels, width * 2**stage, stride=stride, norm=norm, activation=activation))
            channels = width * 2**stage
        layers[f"stage{stage + 1}"] = nn.Sequential(*blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(channels, num_classes)
    model = nn.Sequential(layers)
    initialize(model, kaiming(), torch.default_generator)
    return model


def basic_block(in_channels: int, out_channels: int, *, stride: int, norm: Norm, activation: Activation) -> Residual:
    """Two 3x3 convolutions with a shortcut that has no parameters (option A)."""
    branch = nn.Sequential(
        conv_block(in_channels, out_channels, 3, stride=stride, norm=norm, activation=activation),
        conv_block(out_channels, out_channels, 3, norm=norm, activation=activation, ends_branch=True),
    )
    same_shape = stride == 1 and in_channels == out_channels
    shortcut = nn.Identity() if same_shape else ZeroPadShortcut(stride, out_channels - in_channels)
    return join(branch, shortcut, out_channels, norm=norm, activation=activation)


def blocks_of_depth(depth: int) -> int:
    """The n of depth = 6n + 2: residual blocks in a stage.

    Raises:
        ValueError: there is none; the nearest depths that have one are named.
    """
    if depth >= 8 and depth % 6 == 2:
        return (depth - 2) // 6
    below = (depth - 2) // 6 * 6 + 2
    nearest = f"{below} and {below + 6}" if below >= 8 else "8"
    raise ValueError(f"depth must be 6n+2 (8, 14, 20, ...), got {depth}; nearest: {nearest}")
