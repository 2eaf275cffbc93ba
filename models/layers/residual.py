"""Residual blocks, and how an initialization finds their branches."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """activation(shortcut(x) + branch(x)), He et al. 2015, arXiv:1512.03385, equation 1.

    Being a `Residual` is the mark by which Fixup or a zero initialization finds `branch`.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.shortcut(x) + self.branch(x))
        return out


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
