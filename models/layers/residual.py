"""Residual blocks, and how an initializer finds their branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
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
        out: Tensor = self.activation(self._sum(self.shortcut(x), self.branch(x)))
        return out

    def _sum(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        if self.pieces == 1:
            return branch + shortcut  # the sum lies in memory as its first summand, and a branch ends channels-last
        axis = self.feature_axis
        pieces = torch.unflatten(branch, axis, (self.pieces, -1))
        return (shortcut.unsqueeze(axis) + pieces).flatten(axis, axis + 1)


class StochasticDepth(Residual):
    """In training the branch is left out with probability 1 - p, for the whole mini-batch; in evaluation it counts p times.

    Training: activation(shortcut(x) + b branch(x)), b drawn once from Bernoulli(p); evaluation: activation(shortcut(x) + p
    branch(x)). What is left out is not computed: its weights get no gradient, its running statistics stay.

    Args:
        survival: p, in (0, 1].

    Source: Huang et al. 2016, Deep Networks with Stochastic Depth, arXiv:1603.09382, equations 2 and 5.
    """

    def __init__(self, *args: Any, survival: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_survival(survival)
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        total = self.shortcut(x)
        if not self.training:
            total = self._sum(total, self.survival * self.branch(x))
        # drawn on the CPU wherever the network is: the decision is needed here, and a GPU would have to be waited for
        elif torch.rand((), device="cpu").item() < self.survival:
            total = self._sum(total, self.branch(x))
        elif self.pieces > 1:
            total = torch.cat([total] * self.pieces, self.feature_axis)
        out: Tensor = self.activation(total)
        return out

    def extra_repr(self) -> str:
        return f"survival={self.survival:g}"


def check_survival(survival: float) -> None:
    """A branch survives with a probability in (0, 1]: at 0 it would never be trained."""
    if not 0 < survival <= 1:
        raise ValueError(f"survival must be in (0, 1], got {survival}")


def join(
    branch: nn.Module,
    shortcut: nn.Module,
    num_features: int,
    *,
    norm: Norm,
    activation: Activation | None,
    layout: Layout = Layout.MAPS,
    survival: float = 1.0,
) -> Residual:
    """The residual block of a branch whose last layer was built with `ends_branch=True` and the same activation.

    Args:
        num_features: of the shortcut and of the result.
        activation: None where no activation follows the sum.
        survival: probability with which the branch is computed in a step of training, see `StochasticDepth`.
    """
    kind: Callable[..., Residual] = Residual if survival == 1 else partial(StochasticDepth, survival=survival)
    if activation is None:
        return kind(branch, shortcut, nn.Identity(), layout=layout)
    after = activated(num_features, layout, norm=norm, activation=activation)
    return kind(branch, shortcut, after, pieces=activation.pieces, layout=layout)


def added(branch: nn.Module, shortcut: nn.Module, *, pieces: int = 1, survival: float = 1.0) -> Residual:
    """shortcut(x) + branch(x) of maps, as it is: He et al. 2016, Identity Mappings, arXiv:1603.05027, equation 3.

    Args:
        pieces: how many values of each feature the branch gives where the shortcut gives one.
        survival: as for `join`.
    """
    if survival == 1:
        return Residual(branch, shortcut, nn.Identity(), pieces=pieces)
    return StochasticDepth(branch, shortcut, nn.Identity(), pieces=pieces, survival=survival)


class ZeroPadShortcut(nn.Module):
    """Every `stride`-th position, and zeros for the additional channels: option A of He et al. 2015, no parameters.

    Args:
        pieces: of each feature of the map, each of which gets the zeros of its own additional channels.
    """

    def __init__(self, stride: int, additional_channels: int, pieces: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.additional_channels = additional_channels
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        zeros = (0, 0, 0, 0, 0, self.additional_channels)
        if self.pieces == 1:
            return F.pad(x, zeros)
        return F.pad(torch.unflatten(x, 1, (self.pieces, -1)), zeros).flatten(1, 2)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, additional_channels={self.additional_channels}"


def residual_branches(model: nn.Module) -> Iterator[nn.Module]:
    """The branches of all residual blocks, from the input on."""
    for module in model.modules():
        if isinstance(module, Residual):
            yield module.branch
