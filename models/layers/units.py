"""What residual networks of all kinds are made of: a stem, stages of units, a classifier.

He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385, table 1 and figure 5.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from models import checks
from models.layers.activation import Activation
from models.layers.block import conv_block, unread_conv
from models.layers.norm import Norm
from models.layers.residual import Residual, ZeroPadShortcut, check_survival, join
from models.layers.squeeze_excite import SqueezeExcite

Stem = Literal["imagenet", "cifar"]
Unit = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C"]
"""Where the shape changes: A zeros for the new channels; B a projection; C a projection in every unit."""

StrideIn = Literal["first", "middle"]
Decay = Literal["linear", "constant"]

EXPANSION = 4
"""Channels of a bottleneck unit's result, of each channel that its stage is named by."""


@dataclass(frozen=True)
class Slot:
    """Where a unit stands.

    Args:
        survival: probability with which its branch is computed in a step of training.
        first: whether it is the first unit of the network.
    """

    in_channels: int
    out_channels: int
    stride: int
    survival: float = 1.0
    first: bool = False

    @property
    def same_shape(self) -> bool:
        return self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True)
class Style:
    """What all residual units of a network have in common.

    Args:
        stride_in: which convolution of a bottleneck unit halves the map.
        groups: of the 3x3 convolution of a bottleneck unit, its cardinality.
        width_per_group: channels of such a group in a stage of 64 channels.
        se_reduction: features in a squeeze-and-excitation, one for so many channels; None where there is none.
    """

    norm: Norm
    activation: Activation
    shortcut: Shortcut
    stride_in: StrideIn = "middle"
    groups: int = 1
    width_per_group: int = 64
    se_reduction: int | None = None

    def projects(self, slot: Slot) -> bool:
        """Whether the shortcut of a unit there is a 1x1 convolution."""
        return self.shortcut == "C" or (self.shortcut == "B" and not slot.same_shape)

    def inner_channels(self, out_channels: int) -> int:
        """Channels of the 3x3 convolution of a bottleneck unit."""
        return max(1, int(out_channels // EXPANSION * self.width_per_group / 64)) * self.groups

    def strides(self, slot: Slot) -> tuple[int, int]:
        """Of the first and of the middle convolution of a bottleneck unit."""
        return (slot.stride, 1) if self.stride_in == "first" else (1, slot.stride)


def basic_unit(slot: Slot, style: Style) -> Residual:
    """Two 3x3 convolutions, the first of which halves the map where the unit does."""
    norm, activation = style.norm, style.activation
    branch = nn.Sequential(
        conv_block(slot.in_channels, slot.out_channels, 3, stride=slot.stride, norm=norm, activation=activation),
        conv_block(slot.out_channels, slot.out_channels, 3, norm=norm, activation=activation, ends_branch=True),
    )
    return _joined(branch, slot, style)


def bottleneck_unit(slot: Slot, style: Style) -> Residual:
    """1x1 to fewer channels, 3x3 among these, 1x1 to the channels of the result.

    With groups it is the third form of Xie et al. 2017, Aggregated Residual Transformations, arXiv:1611.05431, figure 3.
    """
    norm, activation, inner = style.norm, style.activation, style.inner_channels(slot.out_channels)
    first, middle = style.strides(slot)
    branch = nn.Sequential(
        conv_block(slot.in_channels, inner, 1, stride=first, norm=norm, activation=activation),
        conv_block(inner, inner, 3, stride=middle, groups=style.groups, norm=norm, activation=activation),
        conv_block(inner, slot.out_channels, 1, norm=norm, activation=activation, ends_branch=True),
    )
    return _joined(branch, slot, style)


def _joined(branch: nn.Sequential, slot: Slot, style: Style) -> Residual:
    norm, activation = style.norm, style.activation
    if style.se_reduction is not None:
        squeezed = max(1, slot.out_channels // style.se_reduction)
        branch.append(SqueezeExcite(slot.out_channels * activation.pieces, squeezed, activation=activation))
    if style.projects(slot):
        shortcut: nn.Module = conv_block(
            slot.in_channels, slot.out_channels, 1, stride=slot.stride, norm=norm, activation=None
        )
    else:
        shortcut = parameterless(slot)
    return join(branch, shortcut, slot.out_channels, norm=norm, activation=activation, survival=slot.survival)


def parameterless(slot: Slot, pieces: int = 1) -> nn.Module:
    """The identity, or option A where the shape changes."""
    if slot.same_shape:
        return nn.Identity()
    return ZeroPadShortcut(slot.stride, slot.out_channels - slot.in_channels, pieces)


def stages(
    in_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    unit: Callable[[Slot], nn.Module],
    survivals: Sequence[float] | None = None,
) -> OrderedDict[str, nn.Module]:
    """`stage1`, `stage2`, ...: each but the first halves the map in its first unit.

    Args:
        channels: of each stage's result.
        blocks: units of each stage.
        survivals: of each unit of the network; 1 where absent.
    """
    found = OrderedDict[str, nn.Module]()
    number = 0
    for stage, (out_channels, count) in enumerate(zip(channels, blocks, strict=True)):
        units = []
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            survival = 1.0 if survivals is None else survivals[number]
            units.append(unit(Slot(in_channels, out_channels, stride, survival, first=number == 0)))
            in_channels, number = out_channels, number + 1
        found[f"stage{stage + 1}"] = nn.Sequential(*units)
    return found


def survivals(count: int, survival: float, decay: Decay) -> list[float]:
    """The survival probability of each of `count` units: `survival` of all, or falling linearly from 1 to it at the last.

    Source: Huang et al. 2016, Deep Networks with Stochastic Depth, arXiv:1603.09382, equation 4.
    """
    check_survival(survival)
    checks.one_of("decay", decay, ("linear", "constant"))
    if decay == "constant":
        return [survival] * count
    return [1 - number / count * (1 - survival) for number in range(1, count + 1)]


def stem(
    kind: Stem, in_channels: int, channels: int, *, norm: Norm, activation: Activation, activated: bool = True
) -> nn.Sequential:
    """`imagenet`: 7x7 with stride 2 and a 3x3 max pooling with stride 2; `cifar`: 3x3.

    Args:
        activated: False where the first unit begins with the normalization and activation.
    """
    kernel_size, stride = (7, 2) if kind == "imagenet" else (3, 1)
    if activated:
        layers = conv_block(in_channels, channels, kernel_size, stride=stride, norm=norm, activation=activation)
    else:
        conv = unread_conv(in_channels, channels, kernel_size, stride=stride, norm=norm, activation=activation)
        layers = nn.Sequential(OrderedDict(affine=conv))
    if kind == "imagenet":
        layers.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
    return layers


def head(features: int, num_classes: int, dropout: float) -> OrderedDict[str, nn.Module]:
    """The mean over all positions, dropout where there is any, and a linear classifier."""
    parts = OrderedDict[str, nn.Module](pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["classifier"] = nn.Linear(features, num_classes)
    return parts


def blocks_of_depth(depth: int, *, layers: int = 6, others: int = 2) -> int:
    """The n of depth = layers * n + others: units in a stage.

    Raises:
        ValueError: there is none; the nearest depths that have one are named.
    """
    least = layers + others
    if depth >= least and (depth - others) % layers == 0:
        return (depth - others) // layers
    below = (depth - others) // layers * layers + others
    nearest = f"{below} and {below + layers}" if below >= least else f"{least}"
    examples = f"{least}, {least + layers}, {least + 2 * layers}, ..."
    raise ValueError(f"depth must be {layers}n+{others} ({examples}), got {depth}; nearest: {nearest}")


def check_common(what: str, image_size: tuple[int, int], num_stages: int, kind: Stem, dropout: float) -> None:
    """Checks the arguments that all residual networks have.

    Any image would pass, since every layer pads. But each position of the last map stands for a square of as many pixels
    as all strides multiply to, which smaller images would not fill.
    """
    checks.one_of("stem", kind, ("imagenet", "cifar"))
    checks.image_at_least(what, image_size, (4 if kind == "imagenet" else 1) * 2 ** (num_stages - 1))
    checks.probability("dropout", dropout)


def result_channels(channels: Sequence[int], unit: Unit) -> list[int]:
    """Channels of the results of stages that are named by `channels`."""
    return [each * (EXPANSION if unit == "bottleneck" else 1) for each in channels]


def check_unit(unit: Unit, shortcut: Shortcut, stride_in: StrideIn | None) -> None:
    checks.one_of("unit", unit, ("basic", "bottleneck"))
    checks.one_of("shortcut", shortcut, ("A", "B", "C"))
    checks.one_of("stride_in", stride_in, (None, "first", "middle"))
    if unit == "basic" and stride_in == "middle":
        raise checks.RefusedError("stride_in=middle needs unit=bottleneck: of two convolutions none is the middle one")


def check_blocks(blocks: Sequence[int]) -> None:
    if not blocks or min(blocks) < 1:
        raise ValueError(f"blocks must be one or more numbers of units, each at least 1, got {list(blocks)}")
