"""Units that normalize and activate before each convolution, so that what they add to their input stays as it is.

He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027, figure 1b and the appendix.

The stream between the units carries the pieces of the activation that reads it (`pre_conv_block`), and so do shortcuts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from models.layers.block import conv_block, pre_activated, unread_conv
from models.layers.place import Layout
from models.layers.residual import added
from models.layers.units import Slot, Style, parameterless


@dataclass(frozen=True)
class PreStyle(Style):
    """What all pre-activation units of a network have in common.

    Args:
        activated_stem: whether the stem ends with the normalization and activation of the first unit, which then takes its
            shortcut from there, too.
        dropout: rate before the last convolution of a basic unit.
    """

    activated_stem: bool = True
    dropout: float = 0.0


def basic_layers(slot: Slot, style: PreStyle) -> OrderedDict[str, nn.Module]:
    """A basic unit from the first convolution on."""
    kinds = {"norm": style.norm, "activation": style.activation}
    layers = OrderedDict[str, nn.Module]()
    layers["conv1"] = conv_block(slot.in_channels, slot.out_channels, 3, stride=slot.stride, **kinds)  # type: ignore[arg-type]
    if style.dropout:
        layers["dropout"] = nn.Dropout(style.dropout)
    layers["conv2"] = unread_conv(slot.out_channels, slot.out_channels, 3, **kinds)  # type: ignore[arg-type]
    return layers


def bottleneck_layers(slot: Slot, style: PreStyle) -> OrderedDict[str, nn.Module]:
    """A bottleneck unit from the first convolution on."""
    norm, activation, inner = style.norm, style.activation, style.inner_channels(slot.out_channels)
    first, middle = style.strides(slot)
    return OrderedDict[str, nn.Module](
        conv1=conv_block(slot.in_channels, inner, 1, stride=first, norm=norm, activation=activation),
        conv2=conv_block(inner, inner, 3, stride=middle, groups=style.groups, norm=norm, activation=activation),
        conv3=unread_conv(inner, slot.out_channels, 1, norm=norm, activation=activation),
    )


def preact_unit(slot: Slot, style: PreStyle, *, basic: bool) -> nn.Module:
    """x + f(x); where the shortcut is a projection, both it and f begin with the one normalization and activation."""
    layers = (basic_layers if basic else bottleneck_layers)(slot, style)
    pieces = style.activation.pieces
    activated = slot.first and style.activated_stem
    if style.projects(slot):
        unit = added(nn.Sequential(layers), _projection(slot, style), survival=slot.survival)
        return unit if activated else nn.Sequential(OrderedDict(pre=_pre(slot, style), residual=unit))
    if activated:
        return added(nn.Sequential(layers), parameterless(slot), pieces=pieces, survival=slot.survival)
    branch = nn.Sequential(OrderedDict[str, nn.Module](pre=_pre(slot, style)) | layers)
    return added(branch, parameterless(slot, pieces), survival=slot.survival)


def _pre(slot: Slot, style: PreStyle) -> nn.Module:
    return pre_activated(slot.in_channels, Layout.MAPS, norm=style.norm, activation=style.activation)


def _projection(slot: Slot, style: PreStyle) -> nn.Module:
    norm, activation = style.norm, style.activation
    return unread_conv(slot.in_channels, slot.out_channels, 1, stride=slot.stride, norm=norm, activation=activation)
