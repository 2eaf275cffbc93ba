"""MobileNets, versions 1 to 3.

1. Howard et al. 2017, MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv:1704.04861.
2. Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381.
3. Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244.

Our deviations: weights are drawn with variance 2 / fan-in. In version 1 the last depthwise convolution has stride 1: the
stride of 2 in the paper's table 1 contradicts the sizes beside it. The paper names no dropout there; the default is 0.
Its activation is ReLU; the authors' code, and timm's files with it, have ReLU6: take `activation=relu6` with those.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, hardswish, relu, relu6
from models.layers.block import conv_block, linear_block
from models.layers.inverted_residual import inverted_residual, torchvision_rules
from models.layers.norm import Norm, batch_norm, no_norm
from models.layers.squeeze_excite import SqueezeExcite
from models.layers.width import scaled_to_eight
from models.network import Network

Stem = Literal["imagenet", "cifar"]

# Output channels of the separable convolutions, a stage a row; from the second on the first has stride 2.
V1_CHANNELS = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))

# Table 2: expansion factor t, channels c, repeats n, stride s of the first.
V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class Bottleneck(NamedTuple):
    """A row of the third paper's tables 1 and 2."""

    kernel_size: int
    expanded: int
    channels: int
    squeeze: bool  # and excitation
    hard: bool  # hard swish, else ReLU
    stride: int


V3_STAGES = {
    "large": (
        (Bottleneck(3, 16, 16, False, False, 1),),
        (Bottleneck(3, 64, 24, False, False, 2), Bottleneck(3, 72, 24, False, False, 1)),
        (Bottleneck(5, 72, 40, True, False, 2), *(Bottleneck(5, 120, 40, True, False, 1),) * 2),
        (
            Bottleneck(3, 240, 80, False, True, 2),
            Bottleneck(3, 200, 80, False, True, 1),
            *(Bottleneck(3, 184, 80, False, True, 1),) * 2,
            Bottleneck(3, 480, 112, True, True, 1),
            Bottleneck(3, 672, 112, True, True, 1),
        ),
        (Bottleneck(5, 672, 160, True, True, 2), *(Bottleneck(5, 960, 160, True, True, 1),) * 2),
    ),
    "small": (
        (Bottleneck(3, 16, 16, True, False, 2),),
        (Bottleneck(3, 72, 24, False, False, 2), Bottleneck(3, 88, 24, False, False, 1)),
        (
            Bottleneck(5, 96, 40, True, True, 2),
            *(Bottleneck(5, 240, 40, True, True, 1),) * 2,
            Bottleneck(5, 120, 48, True, True, 1),
            Bottleneck(5, 144, 48, True, True, 1),
        ),
        (Bottleneck(5, 288, 96, True, True, 2), *(Bottleneck(5, 576, 96, True, True, 1),) * 2),
    ),
}
V3_HIDDEN = {"large": 1280, "small": 1024}


def mobilenet_v1(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """Depthwise 3x3 and 1x1 convolutions in turn, table 1 of the first paper; by default with batch normalization and ReLU.

    Args:
        stem: the first convolution has stride 2, or 1 for small images.
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: the paper's width multiplier alpha; channels are multiples of 8.
    """
    _check("mobilenet_v1", image_size, stem, dropout, width)
    norm = batch_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    channels = scaled_to_eight(32, width)
    parts = OrderedDict[str, nn.Module](stem=_stem(in_channels, channels, stem, norm, activation))
    for stage, row in enumerate(V1_CHANNELS):
        units = []
        for unit, asked in enumerate(row):
            stride = 2 if stage > 0 and unit == 0 else 1
            out_channels = scaled_to_eight(asked, width)
            units.append(_separable(channels, out_channels, stride=stride, norm=norm, activation=activation))
            channels = out_channels
        parts[f"stage{stage + 1}"] = nn.Sequential(*units)
    return _finished(parts | _pooled(dropout) | {"classifier": nn.Linear(channels, num_classes)})


def mobilenet_v2(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Stem = "imagenet",
    dropout: float = 0.2,
    width: float = 1.0,
) -> Network:
    """Inverted residuals, table 2 of the second paper; by default with batch normalization and ReLU6.

    Args:
        stem: the first convolution has stride 2, or 1 for small images.
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: the width multiplier; channels are multiples of 8, and the last convolution is not made narrower than 1280.
    """
    _check("mobilenet_v2", image_size, stem, dropout, width)
    norm = batch_norm() if norm is None else norm
    activation = relu6() if activation is None else activation

    channels = scaled_to_eight(32, width)
    parts = OrderedDict[str, nn.Module](stem=_stem(in_channels, channels, stem, norm, activation))
    for stage, (expansion, asked, repeats, first_stride) in enumerate(V2_STAGES):
        units, out_channels = [], scaled_to_eight(asked, width)
        for stride in (first_stride, *(1,) * (repeats - 1)):
            expanded = channels * expansion
            units.append(
                inverted_residual(channels, expanded, out_channels, 3, stride=stride, norm=norm, activation=activation)
            )
            channels = out_channels
        parts[f"stage{stage + 1}"] = nn.Sequential(*units)
    last = scaled_to_eight(1280, max(1.0, width))
    parts["head"] = conv_block(channels, last, 1, norm=norm, activation=activation)
    return _finished(parts | _pooled(dropout) | {"classifier": nn.Linear(last, num_classes)})


def mobilenet_v3(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    variant: Literal["small", "large"] = "small",
    stem: Stem = "imagenet",
    dropout: float = 0.2,
    width: float = 1.0,
) -> Network:
    """Inverted residuals with squeeze and excitation, tables 1 and 2 of the third paper; by default with batch normalization.

    Its own activations are hard swish, and ReLU in the first stages and in squeeze and excitation; one that is named stands
    for both.

    Args:
        variant: which of the two tables.
        stem: the first convolution has stride 2, or 1 for small images.
        dropout: probability with which an input of the classifier is set to 0 in training.
        width: the width multiplier; channels are multiples of 8.
    """
    checks.one_of("variant", variant, tuple(V3_STAGES))
    _check(f"mobilenet_v3_{variant}", image_size, stem, dropout, width)
    norm = batch_norm(eps=1e-3, momentum=0.01) if norm is None else norm
    plain = relu() if activation is None else activation
    hard = hardswish() if activation is None else activation

    channels = scaled_to_eight(16, width)
    parts = OrderedDict[str, nn.Module](stem=_stem(in_channels, channels, stem, norm, hard))
    for stage, rows in enumerate(V3_STAGES[variant]):
        units = []
        for row in rows:
            units.append(_bottleneck(channels, row, width, norm=norm, plain=plain, hard=hard))
            channels = scaled_to_eight(row.channels, width)
        parts[f"stage{stage + 1}"] = nn.Sequential(*units)
    parts["head"] = conv_block(channels, 6 * channels, 1, norm=norm, activation=hard)
    hidden = scaled_to_eight(V3_HIDDEN[variant], width)
    # "NBN" in the tables: no layer after the pooling is normalized, whatever the norm.
    fc = linear_block(6 * channels, hidden, norm=no_norm(), activation=hard)
    return _finished(parts | _pooled(dropout, fc=fc) | {"classifier": nn.Linear(hidden, num_classes)})


def _check(name: str, image_size: tuple[int, int], stem: Stem, dropout: float, width: float) -> None:
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    # Padding gives every layer a position of any image; of smaller ones the last stages would see nothing but padding.
    checks.image_at_least(f"{name} with the {stem} stem", image_size, 32 if stem == "imagenet" else 16)
    checks.probability("dropout", dropout)
    checks.positive("width", width)


def _stem(in_channels: int, channels: int, stem: Stem, norm: Norm, activation: Activation) -> nn.Sequential:
    return conv_block(in_channels, channels, 3, stride=2 if stem == "imagenet" else 1, norm=norm, activation=activation)


def _separable(
    in_channels: int, out_channels: int, *, stride: int, norm: Norm, activation: Activation
) -> nn.Sequential:
    """Figure 3 of the first paper: each channel by itself, then a 1x1 convolution, both normalized and activated."""
    depthwise = conv_block(
        in_channels, in_channels, 3, stride=stride, groups=in_channels, norm=norm, activation=activation
    )
    pointwise = conv_block(in_channels, out_channels, 1, norm=norm, activation=activation)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


def _bottleneck(
    in_channels: int, row: Bottleneck, width: float, *, norm: Norm, plain: Activation, hard: Activation
) -> nn.Module:
    """A unit of version 3; squeeze and excitation has a quarter of the channels and ReLU inside."""
    expanded = scaled_to_eight(row.expanded, width)
    squeezed = scaled_to_eight(expanded // 4)
    return inverted_residual(
        in_channels,
        expanded,
        scaled_to_eight(row.channels, width),
        row.kernel_size,
        stride=row.stride,
        norm=norm,
        activation=hard if row.hard else plain,
        squeeze=SqueezeExcite(expanded, squeezed, activation=plain, gate=nn.Hardsigmoid()) if row.squeeze else None,
    )


def _pooled(dropout: float, **hidden: nn.Module) -> dict[str, nn.Module]:
    parts: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), **hidden}
    return parts | {"dropout": nn.Dropout(dropout)} if dropout else parts


def _finished(parts: Mapping[str, nn.Module]) -> Network:
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def _stage_from_zero(match: re.Match[str]) -> str:
    """stage2.1.pointwise.norm.weight -> blocks.1.1.bn2.weight."""
    stage, unit, layer, kind, rest = match.groups()
    named = {
        "affine": {"depthwise": "conv_dw", "pointwise": "conv_pw"},
        "norm": {"depthwise": "bn1", "pointwise": "bn2"},
    }
    return f"blocks.{int(stage) - 1}.{unit}.{named[kind][layer]}.{rest}"


_timm_v1 = by_rules(
    (r"stem\.affine\.(.*)", r"conv_stem.\1"),
    (r"stem\.norm\.(.*)", r"bn1.\1"),
    (r"stage(\d+)\.(\d+)\.(depthwise|pointwise)\.(affine|norm)\.(.*)", _stage_from_zero),
)


def _torchvision_v2(model: nn.Module) -> dict[str, str]:
    rules = torchvision_rules(model, "conv", bare_projection=True)
    return by_rules(*rules, (r"classifier\.(.*)", r"classifier.1.\1"))(model)


def _torchvision_v3(model: nn.Module) -> dict[str, str]:
    ends = ((r"fc\.affine\.(.*)", r"classifier.0.\1"), (r"classifier\.(.*)", r"classifier.3.\1"))
    return by_rules(*torchvision_rules(model, "block"), *ends)(model)


FOREIGN = {
    "mobilenet_v1": {"timm": _timm_v1},
    "mobilenet_v2": {"torchvision": _torchvision_v2},
    "mobilenet_v3": {"torchvision": _torchvision_v3},
}
