"""SqueezeNet: Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, arXiv:1602.07360.

Our deviations: all weights are normal by Kaiming's rule, those of the classifier, too. As in torchvision, the first convolution
has no padding, pooling windows may reach over the edge, and the 1x1 convolution of the classifier has no padding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models import checks
from models.foreign import by_rules
from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import Activation, relu
from models.layers.block import conv_block
from models.layers.norm import Norm, no_norm
from models.layers.width import scaled
from models.network import Network


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 convolution side by side, each to half of `out_channels`."""

    def __init__(
        self, in_channels: int, squeezed: int, out_channels: int, *, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.squeeze = conv_block(in_channels, squeezed, 1, norm=norm, activation=activation)
        self.expand1x1 = conv_block(squeezed, half, 1, norm=norm, activation=activation)
        self.expand3x3 = conv_block(squeezed, half, 3, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat((self.expand1x1(x), self.expand3x3(x)), 1)


def squeezenet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    norm: Norm | None = None,
    activation: Activation | None = None,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    stem_channels: int = 96,
    stem_kernel: int = 7,
    fires: tuple[int, ...] = (3, 4, 1),
    squeeze_ratio: float = 0.125,
    dropout: float = 0.5,
    width: float = 1.0,
) -> Network:
    """A convolution, stages of fire modules, and a convolution whose means over all positions are the logits.

    By default without normalization, with ReLU. The logits are rectified as in the paper, whatever the activation: what ends
    at 1, as tanh does, could not tell classes apart.

    Args:
        stem: `imagenet` begins at stride 2 and pools before the first stage, `cifar` begins with 3x3 at stride 1 instead and
            does not pool there.
        stem_channels: of the first convolution.
        stem_kernel: size of the first convolution of `imagenet`.
        fires: fire modules of each stage; each later stage begins with a pooling. Module i of all, counted from 0, gives
            128 * (1 + floor(i / 2)) channels.
        squeeze_ratio: channels between the convolutions of a fire module, as a share of those that it gives.
        dropout: rate of what the classifier is given.
        width: factor on all channels.
    """
    checks.one_of("stem", stem, ("imagenet", "cifar"))
    checks.at_least("stem_channels", stem_channels, 1)
    checks.at_least("stem_kernel", stem_kernel, 1)
    if not fires or min(fires) < 1:
        raise ValueError(f"fires must be one or more numbers of at least 1, got {list(fires)}")
    checks.image_at_least(f"squeezenet with stem={stem}", image_size, _minimum(stem, stem_kernel, len(fires)))
    if not 0 < squeeze_ratio <= 1:
        raise ValueError(f"squeeze_ratio must be in (0, 1], got {squeeze_ratio}")
    checks.probability("dropout", dropout)
    checks.positive("width", width)
    norm = no_norm() if norm is None else norm
    activation = relu() if activation is None else activation

    channels = scaled(stem_channels, width)
    size, stride, padding = (stem_kernel, 2, 0) if stem == "imagenet" else (3, 1, 1)
    first = conv_block(in_channels, channels, size, stride=stride, padding=padding, norm=norm, activation=activation)
    parts: dict[str, nn.Module] = {"stem": first}
    # Of each fire module the channels that it gets and gives.
    given = [2 * scaled(64 * (1 + index // 2), width) for index in range(sum(fires))]
    modules = [
        Fire(taken, scaled(out, squeeze_ratio), out, norm=norm, activation=activation)
        for taken, out in zip([channels, *given], given, strict=False)
    ]
    for index, num_fires in enumerate(fires):
        pooled = index > 0 or stem == "imagenet"
        parts[f"stage{index + 1}"] = _stage([modules.pop(0) for _ in range(num_fires)], pooled=pooled)
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = _classifier(given[-1], num_classes)
    model = Network(parts)
    initialize(model, kaiming(), torch.default_generator)
    return model


def _stage(fires: Sequence[Fire], *, pooled: bool) -> nn.Module:
    layers = OrderedDict[str, nn.Module]()
    if pooled:
        layers["pool"] = nn.MaxPool2d(3, 2, ceil_mode=True)
    layers |= {f"fire{number}": fire for number, fire in enumerate(fires, start=1)}
    return nn.Sequential(layers)


def _classifier(in_channels: int, num_classes: int) -> nn.Module:
    layers = OrderedDict[str, nn.Module](affine=nn.Conv2d(in_channels, num_classes, 1), activation=nn.ReLU())
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(layers)


def _minimum(stem: str, stem_kernel: int, num_stages: int) -> int:
    """The smallest image: a pooling needs two positions, and twice as many as the next one needs."""
    if stem == "cifar":
        return 1 << (num_stages - 1)
    return stem_kernel + 2 * ((1 << num_stages) - 1)


def _torchvision(model: nn.Module) -> dict[str, str]:
    """There all layers of the convolutional part, also those without weights, are numbered in one sequence."""
    rules = [(r"stem\.affine\.(\w+)", r"features.0.\1"), (r"classifier\.affine\.(\w+)", r"classifier.1.\1")]
    number = 2
    for path, module in model.named_modules():
        if isinstance(module, nn.MaxPool2d):
            number += 1
        elif isinstance(module, Fire):
            rules.append((rf"{path}\.(\w+)\.affine\.(\w+)", rf"features.{number}.\1.\2"))
            number += 1
    return by_rules(*rules)(model)


FOREIGN = {"squeezenet": {"torchvision": _torchvision}}
