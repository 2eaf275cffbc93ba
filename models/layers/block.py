"""The one place where an affine map, its normalization and its activation are put together.

All families build through it, because a weight normalization or a maxout does not follow a convolution but changes it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from models.layers.activation import Activation
from models.layers.norm import Norm


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
) -> nn.Sequential:
    """Convolution, pooling, normalization, activation: (N, in_channels, H, W) -> (N, out_channels, H', W').

    Args:
        padding: None keeps the size at stride 1 for an odd kernel.
        pool: a layer between the convolution and its normalization.
        activation: None ends the block at the normalization.
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
    return _block(conv, conv.out_channels, spatial=True, pool=pool, norm=norm, activation=activation)


def linear_block(in_features: int, out_features: int, *, norm: Norm, activation: Activation | None) -> nn.Sequential:
    """Linear map, normalization, activation: (N, in_features) -> (N, out_features)."""
    linear = nn.Linear(in_features, out_features * _pieces(activation), bias=not norm.absorbs_bias)
    return _block(linear, linear.out_features, spatial=False, pool=None, norm=norm, activation=activation)


def _pieces(activation: Activation | None) -> int:
    return 1 if activation is None else activation.pieces


def _block(
    affine: nn.Module,
    num_features: int,
    *,
    spatial: bool,
    pool: nn.Module | None,
    norm: Norm,
    activation: Activation | None,
) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module](affine=norm.wrap(affine))
    if pool is not None:
        layers["pool"] = pool
    normalization = norm.layer(num_features, spatial)
    if not isinstance(normalization, nn.Identity):
        layers["norm"] = normalization
    if activation is not None:
        layers["activation"] = activation.layer(num_features // activation.pieces)
    return nn.Sequential(layers)
