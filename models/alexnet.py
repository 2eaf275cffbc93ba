"""AlexNet and its relatives: five convolutions, three overlapping max poolings, three fully connected layers.

`alexnet`: Krizhevsky, Sutskever and Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks, for images of
227x227. `alexnet_owt`: Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997, in
torchvision's form. `zfnet`: Zeiler and Fergus 2013, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901.
`caffenet`: the reference network of Jia et al. 2014, Caffe, arXiv:1408.5093.

Our deviations: all weights are drawn by Kaiming's rule and biases are 0, where the papers have N(0, 0.01^2) (`init=gaussian`)
and partly biases of 1. Where pooling comes before normalization, it comes before the activation, too: the two commute if that
is monotone, as ReLU is, which then has a quarter of the work. ZFNet's contrast normalization is local response normalization,
and its filters are not renormalized in training. The fully connected layers take what is left of the image, at the papers'
sizes 6x6 positions.

No oracle: torchvision and timm have `alexnet_owt` alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Literal

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block
from models.layers.fully_connected import fully_connected
from models.layers.norm import Norm, local_response_norm, no_norm
from models.layers.width import scaled
from models.network import Network

Stem = Literal["imagenet", "cifar"]


@dataclass(frozen=True)
class Convolution:
    """One of the five, and whether a normalization belongs to it in the paper and a 3x3 max pooling follows it."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    normalized: bool = False
    pooled: bool = False


@dataclass(frozen=True)
class Variant:
    """What the networks differ in, besides the convolutions.

    Args:
        minimum: the smallest image of each stem, at which the last pooling gives one position.
        pool_first: whether pooling comes before the normalizations that belong to the paper.
        ceil_mode: whether a pooling window may reach over the edge of the map.
        dropout_first: whether dropout is of the inputs of the hidden fully connected layers instead of their outputs.
    """

    name: str
    convolutions: tuple[Convolution, ...]
    minimum: dict[str, int]
    pool_first: bool = True
    ceil_mode: bool = False
    dropout_first: bool = False


def alexnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    groups: int = 1,
    pool: Literal["before_norm", "after_norm"] = "before_norm",
    dropout: float = 0.5,
    width: float = 1.0,
) -> Network:
    """By default the network of the lectures, with ReLU and local response normalization.

    The paper's is the one in two groups, one for each of two graphics cards, with pooling after normalization.

    Args:
        norm: one that follows the activation stands after convolutions 1 and 2, as the paper's; any other in all five.
        stem: `imagenet` begins with 11x11 at stride 4, `cifar` with 3x3 at stride 1; the three poolings stay.
        groups: of convolutions 2, 4 and 5.
        dropout: rate of what the two hidden fully connected layers give.
        width: factor on the channels and on the 4096 features of those layers.
    """
    checks.at_least("groups", groups, 1)
    checks.one_of("pool", pool, ("before_norm", "after_norm"))
    variant = Variant("alexnet", _alexnet_convolutions(groups), ALEXNET_MINIMUM, pool_first=pool == "before_norm")
    norm = local_response_norm() if norm is None else norm
    return _network(variant, num_classes, in_channels, image_size, norm, activation, stem, dropout, width)


def caffenet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.5,
    width: float = 1.0,
) -> Network:
    """AlexNet in two groups with pooling before normalization.

    Its local response normalization has k = 1, and an alpha of 1e-4 that Caffe divides by its size of 5.
    Its arguments are as for `alexnet`.
    """
    variant = Variant("caffenet", _alexnet_convolutions(groups=2), ALEXNET_MINIMUM)
    norm = local_response_norm(alpha=1e-4 / 5, k=1.0) if norm is None else norm
    return _network(variant, num_classes, in_channels, image_size, norm, activation, stem, dropout, width)


def zfnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.5,
    width: float = 1.0,
) -> Network:
    """The network of figure 3, for images of 224x224: 7x7 at stride 2 first, and stride 2 in convolution 2, too.

    Args:
        stem: `imagenet` begins with 7x7 at stride 2, `cifar` with 3x3 at stride 1; all else stays.

    The others are as for `alexnet`.
    """
    variant = Variant("zfnet", ZFNET, {"imagenet": 47, "cifar": 22}, ceil_mode=True)
    norm = local_response_norm() if norm is None else norm
    return _network(variant, num_classes, in_channels, image_size, norm, activation, stem, dropout, width)


def alexnet_owt(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.5,
    width: float = 1.0,
) -> Network:
    """Fewer channels, no groups and no normalization, for images of 224x224; what torchvision calls `alexnet`.

    Args:
        norm: stands in all five convolutions, before pooling.
        dropout: rate of what the two hidden fully connected layers are given.

    The others are as for `alexnet`.
    """
    variant = Variant("alexnet_owt", ALEXNET_OWT, {"imagenet": 63, "cifar": 15}, pool_first=False, dropout_first=True)
    norm = no_norm() if norm is None else norm
    return _network(variant, num_classes, in_channels, image_size, norm, activation, stem, dropout, width)


def _alexnet_convolutions(groups: int) -> tuple[Convolution, ...]:
    return (
        Convolution(96, 11, stride=4, normalized=True, pooled=True),
        Convolution(256, 5, padding=2, groups=groups, normalized=True, pooled=True),
        Convolution(384, 3, padding=1),
        Convolution(384, 3, padding=1, groups=groups),
        Convolution(256, 3, padding=1, groups=groups, pooled=True),
    )


ALEXNET_MINIMUM = {"imagenet": 67, "cifar": 15}

ZFNET = (
    Convolution(96, 7, stride=2, padding=1, normalized=True, pooled=True),
    Convolution(256, 5, stride=2, normalized=True, pooled=True),
    Convolution(384, 3, padding=1),
    Convolution(384, 3, padding=1),
    Convolution(256, 3, padding=1, pooled=True),
)

ALEXNET_OWT = (
    Convolution(64, 11, stride=4, padding=2, normalized=True, pooled=True),
    Convolution(192, 5, padding=2, normalized=True, pooled=True),
    Convolution(384, 3, padding=1, normalized=True),
    Convolution(256, 3, padding=1, normalized=True),
    Convolution(256, 3, padding=1, normalized=True, pooled=True),
)


def _network(
    variant: Variant,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm,
    activation: Activation | None,
    stem: Stem,
    dropout: float,
    width: float,
) -> Network:
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    checks.image_at_least(variant.name, image_size, variant.minimum[stem])
    checks.probability("dropout", dropout)
    checks.positive("width", width)
    activation = relu() if activation is None else activation

    parts: dict[str, nn.Module] = {}
    channels = in_channels
    divisor = max(convolution.groups for convolution in variant.convolutions)
    for index, convolution in enumerate(_with_stem(variant.convolutions, stem)):
        convolution = replace(convolution, channels=scaled(convolution.channels, width, divisor=divisor))
        own_norm = norm if convolution.normalized or not norm.after_activation else no_norm()
        parts[f"stage{index + 1}"] = _stage(channels, convolution, variant, norm=own_norm, activation=activation)
        channels = convolution.channels
    height, breadth = (_positions(size, variant, stem) for size in image_size)
    parts |= fully_connected(
        channels * height * breadth,
        scaled(4096, width),
        num_classes,
        activation=activation,
        dropout=dropout,
        dropout_first=variant.dropout_first,
    )
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def _with_stem(convolutions: tuple[Convolution, ...], stem: Stem) -> tuple[Convolution, ...]:
    if stem == "imagenet":
        return convolutions
    return (replace(convolutions[0], kernel_size=3, stride=1, padding=1), *convolutions[1:])


def _stage(
    in_channels: int, convolution: Convolution, variant: Variant, *, norm: Norm, activation: Activation
) -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=variant.ceil_mode) if convolution.pooled else None
    pool_first = variant.pool_first and convolution.normalized
    block = conv_block(
        in_channels,
        convolution.channels,
        convolution.kernel_size,
        stride=convolution.stride,
        padding=convolution.padding,
        groups=convolution.groups,
        pool=pool if pool_first else None,
        norm=norm,
        activation=activation,
    )
    layers = OrderedDict[str, nn.Module](conv=block)
    if pool is not None and not pool_first:
        layers["pool"] = pool
    return nn.Sequential(layers)


def _positions(size: int, variant: Variant, stem: Stem) -> int:
    """Height or width of the last map, by the rule (N - F + 2P) / S + 1."""
    round_pooled = ceil if variant.ceil_mode else floor
    for convolution in _with_stem(variant.convolutions, stem):
        size = (size - convolution.kernel_size + 2 * convolution.padding) // convolution.stride + 1
        if convolution.pooled:
            size = round_pooled((size - 3) / 2) + 1
    return size


def _torchvision() -> Sequence[tuple[str, str]]:
    numbers = zip(range(1, 6), (0, 3, 6, 8, 10), strict=True)
    return (
        *((rf"stage{stage}\.conv\.affine\.(\w+)", rf"features.{number}.\1") for stage, number in numbers),
        (r"fc6\.affine\.(\w+)", r"classifier.1.\1"),
        (r"fc7\.affine\.(\w+)", r"classifier.4.\1"),
        (r"classifier\.(\w+)", r"classifier.6.\1"),
    )


FOREIGN = {"alexnet_owt": {"torchvision": by_rules(*_torchvision())}}
