"""The operations of cells by their names, all in the order activation, convolution, normalization.

What is not in the papers follows the authors' code: the reduced channels of the oblong and of the dilated convolutions
(Real et al. 2019, arXiv:1802.01548, on its TPU form), and the two shifted halves of a reduction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.activation import Activation
from models.layers.block import activated
from models.layers.cell_text import NOTHING
from models.layers.norm import Norm
from models.layers.place import Layout, Place, Position
from models.layers.same import Pair, SamePad, same_average_pool, same_max_pool


@dataclass(frozen=True)
class Conv:
    """A convolution in a chain.

    Args:
        separable: whether it is one of each channel, followed by a 1x1 convolution.
        symmetric: whether the padding is the same on all sides, rather than that of `SamePad`, where the stride is above 1.
    """

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = (1, 1)
    dilation: int = 1
    separable: bool = False
    symmetric: bool = False


def chain(*convs: Conv, norm: Norm, activation: Activation, last: Position = Position.NO_ACTIVATION) -> nn.Sequential:
    """Activation, convolution, normalization, as often as there are convolutions.

    The map that the chain reads is read by others, too, and has one value for each feature: an activation of several pieces
    gets them from a 1x1 convolution of its own there. Within the chain, each convolution gives the pieces for the next.

    Args:
        last: where the last normalization stands.
    """
    steps = []
    for i, conv in enumerate(convs):
        layers = OrderedDict[str, nn.Module]()
        if i == 0:
            layers["activation"] = free_activation(conv.in_channels, norm=norm, activation=activation)
        else:
            layers["activation"] = activated(conv.in_channels, Layout.MAPS, norm=norm, activation=activation)
        ends = i == len(convs) - 1
        channels = conv.out_channels * (1 if ends else activation.pieces)
        _add_convolution(layers, conv, channels, norm)
        add_norm(layers, channels, norm, last if ends else Position.BEFORE_ACTIVATION)
        steps.append(nn.Sequential(layers))
    return nn.Sequential(*steps)


def free_activation(num_features: int, *, norm: Norm, activation: Activation) -> nn.Module:
    """The activation of a map that has one value for each feature, whatever the activation needs."""
    layer = activated(num_features, Layout.MAPS, norm=norm, activation=activation)
    if activation.pieces == 1:
        return layer
    pieces = convolution(num_features, num_features * activation.pieces, norm=norm)
    return nn.Sequential(OrderedDict(affine=pieces, layer=layer))


def convolution(in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm) -> nn.Module:
    """A 1x1 convolution alone."""
    return norm.wrap(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=not norm.absorbs_bias))


def add_norm(layers: OrderedDict[str, nn.Module], num_features: int, norm: Norm, position: Position) -> None:
    """Adds the normalization where there is one and it does not follow the activation."""
    if norm.after_activation:
        return
    layer = norm.layer(num_features, Place(Layout.MAPS, position))
    if not isinstance(layer, nn.Identity):
        layers["norm"] = layer


def _add_convolution(layers: OrderedDict[str, nn.Module], conv: Conv, channels: int, norm: Norm) -> None:
    seen: Pair = tuple(conv.dilation * (size - 1) + 1 for size in conv.kernel_size)  # type: ignore[assignment]
    padding = (seen[0] // 2, seen[1] // 2)
    if conv.stride != (1, 1) and seen != (1, 1) and not conv.symmetric:
        layers["pad"] = SamePad(seen, conv.stride)
        padding = (0, 0)
    bias = not norm.absorbs_bias
    first = nn.Conv2d(
        conv.in_channels,
        conv.in_channels if conv.separable else channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=padding,
        dilation=conv.dilation,
        groups=conv.in_channels if conv.separable else 1,
        bias=bias and not conv.separable,
    )
    if conv.separable:
        layers["depthwise"] = norm.wrap(first)
        layers["affine"] = convolution(conv.in_channels, channels, norm=norm)
    else:
        layers["affine"] = norm.wrap(first)


class FactorizedReduction(nn.Module):
    """Half the positions, without losing any: one 1x1 convolution of the even rows and columns, one of the odd ones.

    Args:
        activation: before the convolutions; None where there is none.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: Norm, activation: Activation | None) -> None:
        super().__init__()
        free = nn.Identity() if activation is None else free_activation(in_channels, norm=norm, activation=activation)
        self.activation = free
        self.even = convolution(in_channels, out_channels // 2, stride=2, norm=norm)
        self.odd = convolution(in_channels, out_channels - out_channels // 2, stride=2, norm=norm)
        layers = OrderedDict[str, nn.Module]()
        add_norm(layers, out_channels, norm, Position.NO_ACTIVATION)
        self.norm = layers.get("norm", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(x)
        shifted = F.pad(x, (-1, 1, -1, 1))
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], 1))
        return out


@dataclass(frozen=True)
class Style:
    """What all operations of a network share."""

    norm: Norm
    activation: Activation

    def chain(self, *convs: Conv) -> nn.Module:
        return chain(*convs, norm=self.norm, activation=self.activation)

    def projection(self, in_channels: int, out_channels: int) -> nn.Module:
        """A 1x1 convolution and its normalization, without an activation."""
        layers = OrderedDict[str, nn.Module](affine=convolution(in_channels, out_channels, norm=self.norm))
        add_norm(layers, out_channels, self.norm, Position.NO_ACTIVATION)
        return nn.Sequential(layers)


Operation = Callable[[int, int, int, Style], nn.Module]
"""(channels in, channels out, stride, style) -> the module."""


def _skip(in_channels: int, out_channels: int, stride: int, style: Style) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return style.chain(Conv(in_channels, out_channels, (1, 1), (stride, stride)))


def _pool(make: Callable[[int, int], nn.Module], size: int) -> Operation:
    def operation(in_channels: int, out_channels: int, stride: int, style: Style) -> nn.Module:
        layers = OrderedDict[str, nn.Module](pool=make(size, stride))
        if in_channels != out_channels:
            layers["projection"] = style.projection(in_channels, out_channels)
        return nn.Sequential(layers)

    return operation


def _conv(size: int) -> Operation:
    return lambda in_channels, out_channels, stride, style: style.chain(
        Conv(in_channels, out_channels, (size, size), (stride, stride))
    )


def _separable(size: int) -> Operation:
    """Two separable convolutions, the first with the stride."""
    return lambda in_channels, out_channels, stride, style: style.chain(
        Conv(in_channels, out_channels, (size, size), (stride, stride), separable=True),
        Conv(out_channels, out_channels, (size, size), separable=True),
    )


def _oblong(size: int, share: float) -> Operation:
    """1xn, then nx1, on a share of the channels between two 1x1 convolutions."""

    def operation(in_channels: int, out_channels: int, stride: int, style: Style) -> nn.Module:
        inner = max(1, int(out_channels * share))
        return style.chain(
            Conv(in_channels, inner, (1, 1)),
            Conv(inner, inner, (1, size), (1, stride)),
            Conv(inner, inner, (size, 1), (stride, 1)),
            Conv(inner, out_channels, (1, 1)),
        )

    return operation


def _dilated(in_channels: int, out_channels: int, stride: int, style: Style) -> nn.Module:
    """3x3 at every second position, on a quarter of the channels between two 1x1 convolutions."""
    inner = max(1, out_channels // 4)
    return style.chain(
        Conv(in_channels, inner, (1, 1)),
        Conv(inner, inner, (3, 3), (stride, stride), dilation=2),
        Conv(inner, out_channels, (1, 1)),
    )


OPERATIONS: Mapping[str, Operation | None] = {
    NOTHING: None,
    "skip_connect": _skip,
    "avg_pool_3x3": _pool(same_average_pool, 3),
    "max_pool_3x3": _pool(same_max_pool, 3),
    "max_pool_5x5": _pool(same_max_pool, 5),
    "max_pool_7x7": _pool(same_max_pool, 7),
    "nor_conv_1x1": _conv(1),
    "nor_conv_3x3": _conv(3),
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "sep_conv_7x7": _separable(7),
    "dil_conv_3x3": _dilated,
    "conv_1x3_3x1": _oblong(3, 3 / 8),
    "conv_1x7_7x1": _oblong(7, 1 / 4),
}
"""Those of Zoph et al. 2018, section 3, of which the five of NAS-Bench-201 are a part; `none` is an edge that is not there."""
