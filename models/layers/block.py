"""The one place where an affine map, its normalization and its activation are put together.

All families build through it, because weight normalization and maxout do not follow a convolution but change it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from models.layers.activation import Activation
from models.layers.norm import Norm
from models.layers.place import Layout, Place, Position


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    groups: int = 1,
    pool: nn.Module | None = None,
    norm: Norm,
    activation: Activation | None,
    ends_branch: bool = False,
) -> nn.Sequential:
    """Convolution, pooling, normalization, activation: (N, in_channels, H, W) -> (N, out_channels, H', W').

    Args:
        kernel_size: one number, or height and width, as padding.
        padding: None keeps the size at stride 1 for an odd kernel.
        pool: a layer between the convolution and its normalization.
        activation: None where no activation follows.
        ends_branch: whether the block ends a residual branch. It then leaves the activation to `join`, and gives the
            pieces that the activation needs: `activation.pieces * out_channels` channels.
    """
    conv: nn.Module = nn.Conv2d(
        in_channels,
        out_channels * _pieces(activation),
        kernel_size,
        stride=stride,
        padding=_same(kernel_size) if padding is None else padding,
        groups=groups,
        bias=not norm.absorbs_bias,
    )
    conv = _ordered(norm.wrap(conv), groups, _pieces(activation))
    return _block(conv, out_channels, Layout.MAPS, pool=pool, norm=norm, activation=activation, ends_branch=ends_branch)


def pre_conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    norm: Norm,
    activation: Activation,
) -> nn.Sequential:
    """Normalization, activation, convolution: (N, pieces * in_channels, H, W) -> (N, pieces * out_channels, H', W').

    In this order every map carries the pieces of the activation that reads it, so that sums and concatenations of maps do,
    too. What ends such a chain is `pre_activated`.

    Source: He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027.
    """
    layers = pre_activated(in_channels, Layout.MAPS, norm=norm, activation=activation)
    conv = unread_conv(
        in_channels, out_channels, kernel_size, stride=stride, groups=groups, norm=norm, activation=activation
    )
    layers.add_module("affine", conv)
    return layers


def unread_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    norm: Norm,
    activation: Activation,
) -> nn.Module:
    """The convolution alone, whose result is normalized and activated by those who read it: `activation.pieces` values a feature.

    It has a bias only where their normalization would keep it.
    """
    conv = nn.Conv2d(
        in_channels,
        out_channels * activation.pieces,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=not norm.absorbs_bias,
    )
    return _ordered(norm.wrap(conv), groups, activation.pieces)


def pre_activated(num_features: int, layout: Layout, *, norm: Norm, activation: Activation) -> nn.Sequential:
    """Normalization and activation of features that no block has activated: pieces * num_features -> num_features."""
    layers = OrderedDict[str, nn.Module]()
    if not norm.after_activation:
        normalization = norm.layer(num_features * activation.pieces, Place(layout))
        if not isinstance(normalization, nn.Identity):
            layers["norm"] = normalization
    layers["activation"] = activated(num_features, layout, norm=norm, activation=activation)
    return nn.Sequential(layers)


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
    linear = norm.wrap(nn.Linear(in_features, out_features * _pieces(activation), bias=not norm.absorbs_bias))
    return _block(linear, out_features, layout, pool=None, norm=norm, activation=activation, ends_branch=ends_branch)


def activated(num_features: int, layout: Layout, *, norm: Norm, activation: Activation) -> nn.Module:
    """The activation, followed by the normalization where that comes after it."""
    layer = activation.layer(num_features, layout)
    if norm.after_activation:
        return nn.Sequential(layer, norm.layer(num_features, Place(layout, Position.AFTER_ACTIVATION)))
    return layer


class PiecesOfGroups(nn.Module):
    """Orders the channels that a convolution of `groups` gives by piece: before, those of each group are together.

    The pieces of a feature are then made from the inputs of one group, as they should.
    """

    def __init__(self, groups: int, pieces: int) -> None:
        super().__init__()
        self.groups = groups
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        return x.reshape(n, self.groups, self.pieces, -1, height, width).transpose(1, 2).flatten(1, 3)

    def extra_repr(self) -> str:
        return f"groups={self.groups}, pieces={self.pieces}"


def _ordered(conv: nn.Module, groups: int, pieces: int) -> nn.Module:
    if groups == 1 or pieces == 1:
        return conv
    return nn.Sequential(OrderedDict(conv=conv, order=PiecesOfGroups(groups, pieces)))


def _same(kernel_size: int | tuple[int, int]) -> int | tuple[int, int]:
    if isinstance(kernel_size, int):
        return kernel_size // 2
    height, width = kernel_size
    return height // 2, width // 2


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
    layers = OrderedDict[str, nn.Module](affine=affine)
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
