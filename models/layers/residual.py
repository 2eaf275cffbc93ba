"""Residual blocks, and how an initializer finds their branches."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.activation import Activation
from models.layers.block import activated
from models.layers.norm import Norm
from models.layers.place import Layout


class Residual(nn.Module):
    """activation(shortcut(x) + branch(x)), He et al. 2015, arXiv:1512.03385, equation 1.

    Fixup and the zero initializations find `branch` because it is in a `Residual`.

    Args:
        pieces: how many values of each feature the branch gives, for an activation of several pieces; the shortcut gives
            one, which is added to each of them.
    """

    def __init__(
        self,
        branch: nn.Module,
        shortcut: nn.Module,
        activation: nn.Module,
        *,
        pieces: int = 1,
        layout: Layout = Layout.MAPS,
    ) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.activation = activation
        self.pieces = pieces
        self.feature_axis = layout.feature_axis

    def forward(self, x: Tensor) -> Tensor:
        if self.pieces == 1:
            total = self.shortcut(x) + self.branch(x)
        else:
            axis = self.feature_axis
            pieces = self.branch(x).unflatten(axis, (self.pieces, -1))
            total = (self.shortcut(x).unsqueeze(axis) + pieces).flatten(axis, axis + 1)
        out: Tensor = self.activation(total)
        return out


def join(
    branch: nn.Module,
    shortcut: nn.Module,
    num_features: int,
    *,
    norm: Norm,
    activation: Activation | None,
    layout: Layout = Layout.MAPS,
) -> Residual:
    """The residual block of a branch whose last layer was built with `ends_branch=True` and the same activation.

    Args:
        num_features: of the shortcut and of the result.
        activation: None where no activation follows the sum.
    """
    if activation is None:
        return Residual(branch, shortcut, nn.Identity(), layout=layout)
    after = activated(num_features, layout, norm=norm, activation=activation)
    return Residual(branch, shortcut, after, pieces=activation.pieces, layout=layout)


class ZeroPadShortcut(nn.Module):
    """Every `stride`-th position, and zeros for the additional channels: option A of He et al. 2015, no parameters."""

    def __init__(self, stride: int, additional_channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.additional_channels = additional_channels

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.additional_channels))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, additional_channels={self.additional_channels}"


def residual_branches(model: nn.Module) -> Iterator[nn.Module]:
    """The branches of all residual blocks, from the input on."""
    for module in model.modules():
        if isinstance(module, Residual):
            yield module.branch
