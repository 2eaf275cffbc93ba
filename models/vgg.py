"""VGG: Simonyan and Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556.

Our deviations: all weights are drawn by Kaiming's rule, where the paper starts the deeper networks from the trained layers of
the shallow one. The fully connected layers take what is left of the image, at 224x224 the paper's 7x7 positions.
Configurations A-LRN (A with local response normalization) and C (with 1x1 convolutions) are not in the list.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from models import checks
from models.foreign import Table
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block
from models.layers.fully_connected import fully_connected
from models.layers.norm import Norm, no_norm
from models.layers.width import scaled
from models.network import Network

CHANNELS = (64, 128, 256, 512)
"""Of the stages; all later ones have the last."""


@checks.takes_no(stem="it begins with 3x3 convolutions, as the stem for small images does")
def vgg(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    blocks: tuple[int, ...] = (2, 2, 3, 3, 3),
    dropout: float = 0.5,
    width: float = 1.0,
) -> Network:
    """Stages of 3x3 convolutions that end with a 2x2 max pooling, then fully connected layers.

    By default without normalization, with ReLU. A normalization stands in the convolutions alone: with batch normalization
    it is the network that torchvision calls `vgg16_bn`, which there has biases that the normalization subtracts again.

    Args:
        blocks: convolutions of each stage; each stage halves the image.
        dropout: rate of what the two hidden fully connected layers give.
        width: factor on the channels and on the 4096 features of those layers.
    """
    if not blocks or min(blocks) < 1:
        raise ValueError(f"blocks must be one or more numbers of at least 1, got {list(blocks)}")
    checks.image_at_least(f"vgg of {len(blocks)} stages", image_size, 2 ** len(blocks))
    checks.probability("dropout", dropout)
    checks.positive("width", width)
    norm = no_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    parts: dict[str, nn.Module] = {}
    channels = in_channels
    for index, num_convs in enumerate(blocks):
        out_channels = scaled(CHANNELS[min(index, len(CHANNELS) - 1)], width)
        parts[f"stage{index + 1}"] = _stage(channels, out_channels, num_convs, norm=norm, activation=activation)
        channels = out_channels
    height, breadth = (size // 2 ** len(blocks) for size in image_size)
    features, hidden = channels * height * breadth, scaled(4096, width)
    parts |= fully_connected(features, hidden, num_classes, activation=activation, dropout=dropout)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def _stage(in_channels: int, out_channels: int, num_convs: int, *, norm: Norm, activation: Activation) -> nn.Module:
    layers = OrderedDict[str, nn.Module]()
    for index in range(num_convs):
        layers[f"conv{index + 1}"] = conv_block(in_channels, out_channels, 3, norm=norm, activation=activation)
        in_channels = out_channels
    layers["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


def _table(fully_connected: tuple[str, str, str]) -> Table:
    """Both libraries number all layers of the convolutional part in one sequence, those without weights, too."""

    def table(model: nn.Module) -> dict[str, str]:
        renamed = dict(zip(("fc6.affine", "fc7.affine", "classifier"), fully_connected, strict=True))
        number = 0
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                renamed[path] = f"features.{number}"
            if path.startswith("stage") and not list(module.children()):
                number += 1
        split = {name: name.rpartition(".") for name in model.state_dict()}
        return {name: f"{renamed.get(path, path)}.{kind}" for name, (path, _, kind) in split.items()}

    return table


FOREIGN = {
    "vgg": {
        "torchvision": _table(("classifier.0", "classifier.3", "classifier.6")),
        # There the hidden fully connected layers are convolutions, whose weights have two more axes.
        "timm": _table(("pre_logits.fc1", "pre_logits.fc2", "head.fc")),
    }
}
