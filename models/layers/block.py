"""The one place where an affine map, its normalization and its activation are put together.

All families build through it, because weight normalization and maxout do not follow a convolution but change it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from models.layers.activation import Activation
from models.layers.norm import Norm
from models.layers.place import Layout, Place, Position


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    pool: nn.Module | None = None,
    norm: Norm,
    activation: Activation | None,
    ends_branch: bool = False,
) -> nn.Sequential:
    """Convolution, pooling, normalization, activation: (N, in_channels, H, W) -> (N, out_channels, H', W').

    Args:
        padding: None keeps the size at stride 1 for an odd kernel.
        pool: a layer between the convolution and its normalization.
        activation: None where no activation follows.
        ends_branch: whether the block ends a residual branch. It then leaves the activation to `join`, and gives the
            pieces that the activation needs: `activation.pieces * out_channels` channels.
    """
    conv = nn.Conv2d(
        in_channels,
        out_channels * _pieces(activation),
        kernel_size,
        stride=stride,
        padding=kernel_size // 2 if padding is None else padding,
        groups=groups,
        bias=not norm.absorbs_bias,
    )
    return _block(conv, out_channels, Layout.MAPS, pool=pool, norm=norm, activation=activation, ends_branch=ends_branch)


def linear_block(
    in_features: int,
    out_features: int,
    *,
    norm: Norm,
    activation: Activation | None,
    layout: Layout = Layout.VECTORS,
    ends_branch: bool = False,
) -> nn.Sequential:
    """Linear map, normalization, activation: (N, in_features) -> (N, out_features), or the same of each token.

    Args:
        layout: vectors, or tokens (N, T, features).
        activation: None where no activation follows.
        ends_branch: as for `conv_block`.
    """
    linear = nn.Linear(in_features, out_features * _pieces(activation), bias=not norm.absorbs_bias)
    return _block(linear, out_features, layout, pool=None, norm=norm, activation=activation, ends_branch=ends_branch)


def activated(num_features: int, layout: Layout, *, norm: Norm, activation: Activation) -> nn.Module:
    """The activation, followed by the normalization where that comes after it."""
    layer = activation.layer(num_features, layout)
    if norm.after_activation:
        return nn.Sequential(layer, norm.layer(num_features, Place(layout, Position.AFTER_ACTIVATION)))
    return layer


def _pieces(activation: Activation | None) -> int:
    return 1 if activation is None else activation.pieces


def _block(
    affine: nn.Module,
    num_features: int,
    layout: Layout,
    *,
    pool: nn.Module | None,
    norm: Norm,
    activation: Activation | None,
    ends_branch: bool,
) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](affine=norm.wrap(affine))
    if pool is not None:
        layers["pool"] = pool
    if activation is None or not norm.after_activation:
        place = Place(layout, _position(activation, ends_branch=ends_branch))
        normalization = norm.layer(num_features * _pieces(activation), place)
        if not isinstance(normalization, nn.Identity):
            layers["norm"] = normalization
    if activation is not None and not ends_branch:
        layers["activation"] = activated(num_features, layout, norm=norm, activation=activation)
    return nn.Sequential(layers)


def _position(activation: Activation | None, *, ends_branch: bool) -> Position:
    if ends_branch:
        return Position.BRANCH_END
    return Position.NO_ACTIVATION if activation is None else Position.BEFORE_ACTIVATION
