"""The operations of cells by their names, all in the order activation, convolution, normalization.

Every map between them carries the pieces of the activation that reads it, as in `block.pre_conv_block`: `channels` below is
the number of features, of each of which there are `activation.pieces` channels.

What is not in the papers follows the authors' code: the reduced channels of the oblong and of the dilated convolutions
(Real et al. 2019, arXiv:1802.01548, on its TPU form), and the two shifted halves of a reduction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
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

    Args:
        last: where the last normalization stands.
    """
    steps = []
    for i, conv in enumerate(convs):
        layers = OrderedDict[str, nn.Module]()
        layers["activation"] = activated(conv.in_channels, Layout.MAPS, norm=norm, activation=activation)
        channels = conv.out_channels * activation.pieces
        _add_convolution(layers, conv, channels, norm)
        add_norm(layers, channels, norm, last if i == len(convs) - 1 else Position.BEFORE_ACTIVATION)
        steps.append(nn.Sequential(layers))
    return nn.Sequential(*steps)


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


@dataclass(frozen=True)
class Style:
    """What all operations of a network share."""

    norm: Norm
    activation: Activation

    def chain(self, *convs: Conv) -> nn.Module:
        return chain(*convs, norm=self.norm, activation=self.activation)

    def projection(self, in_channels: int, out_channels: int) -> nn.Module:
        """A 1x1 convolution and its normalization, without an activation."""
        pieces = self.activation.pieces
        affine = convolution(pieces * in_channels, pieces * out_channels, norm=self.norm)
        layers = OrderedDict[str, nn.Module](affine=affine)
        add_norm(layers, pieces * out_channels, self.norm, Position.NO_ACTIVATION)
        return nn.Sequential(layers)


class FactorizedReduction(nn.Module):
    """Half the positions, without losing any: one 1x1 convolution of the even rows and columns, one of the odd ones.

    Args:
        activated_first: whether an activation comes before the convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, style: Style, *, activated_first: bool) -> None:
        super().__init__()
        norm, pieces = style.norm, style.activation.pieces
        self.pieces = pieces
        self.activation: nn.Module = nn.Identity()
        if activated_first:
            self.activation = activated(in_channels, Layout.MAPS, norm=norm, activation=style.activation)
        inputs = in_channels * (1 if activated_first else pieces)
        half = out_channels // 2
        self.even = convolution(inputs, pieces * half, stride=2, norm=norm)
        self.odd = convolution(inputs, pieces * (out_channels - half), stride=2, norm=norm)
        layers = OrderedDict[str, nn.Module]()
        add_norm(layers, pieces * out_channels, norm, Position.NO_ACTIVATION)
        self.norm = layers.get("norm", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(x)
        shifted = F.pad(x, (-1, 1, -1, 1))
        out: Tensor = self.norm(concatenated([self.even(x), self.odd(shifted)], self.pieces))
        return out


def concatenated(maps: Sequence[Tensor], pieces: int) -> Tensor:
    """The features of all maps; piece p of all of them comes before piece p + 1."""
    if pieces == 1:
        return torch.cat(list(maps), 1)
    by_piece = [each.reshape(len(each), pieces, -1, *each.shape[2:]) for each in maps]
    return torch.cat(by_piece, 2).flatten(1, 2)


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
