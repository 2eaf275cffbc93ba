"""Normalizations as settings: a `Norm` makes the layer for given features, or changes the affine map before it.

Each public function that returns a `Norm` is the target of a file in conf/norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from models import checks
from models.layers.place import Layout, Place


def _unchanged(affine: nn.Module) -> nn.Module:
    return affine


@dataclass(frozen=True)
class Norm:
    """How the blocks of a network are normalized.

    Args:
        layer: (num_features, place) -> the layer for features of `place.layout`; `nn.Identity` where there is none.
        wrap: changes the convolution or linear layer itself, as weight normalization does.
        absorbs_bias: whether the layer removes any bias that the affine map adds; the map then has no bias.
        after_activation: whether the layer follows the activation, as local response normalization does in AlexNet.

    Raises:
        ValueError: the layer follows the activation, so that it cannot absorb the bias before it.
    """

    layer: Callable[[int, Place], nn.Module]
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    absorbs_bias: bool = False
    after_activation: bool = False

    def __post_init__(self) -> None:
        if self.absorbs_bias and self.after_activation:
            raise ValueError(
                "a normalization after the activation cannot absorb the bias before it; set one of the two"
            )


def no_norm() -> Norm:
    """No normalization."""
    return Norm(lambda num_features, place: nn.Identity())


def batch_norm(*, eps: float = 1e-5, momentum: float = 0.1) -> Norm:
    """Each feature over the mini-batch, and over the positions of a map or the tokens; in evaluation by moving averages.

    Args:
        momentum: the weight of the new batch in the moving averages (1 - alpha in the paper's terms), in (0, 1].

    Source: Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167.
    """
    checks.positive("eps", eps)
    if not 0 < momentum <= 1:
        raise ValueError(f"momentum must be in (0, 1], got {momentum}")
    kinds = {Layout.VECTORS: nn.BatchNorm1d, Layout.MAPS: nn.BatchNorm2d, Layout.TOKENS: TokenBatchNorm}
    return Norm(
        lambda num_features, place: kinds[place.layout](num_features, eps=eps, momentum=momentum), absorbs_bias=True
    )


def layer_norm(*, eps: float = 1e-5) -> Norm:
    """Each example over all its features: over C for vectors and for each token, over (C, H, W) for maps.

    Gain and bias are one each per channel, so that the number of parameters does not depend on the image size.

    Source: Ba et al. 2016, Layer Normalization, arXiv:1607.06450; for maps as in Wu and He 2018, Group
    Normalization, arXiv:1803.08494, section 3.1; for tokens as in Vaswani et al. 2017, arXiv:1706.03762.
    """
    checks.positive("eps", eps)

    def layer(num_features: int, place: Place) -> nn.Module:
        maps = place.layout is Layout.MAPS
        return nn.GroupNorm(1, num_features, eps=eps) if maps else nn.LayerNorm(num_features, eps=eps)

    return Norm(layer)


def group_norm(*, num_groups: int = 8, eps: float = 1e-5) -> Norm:
    """Each example over the channels of a group, and the positions of a map; each token by itself.

    Args:
        num_groups: the most groups; a layer whose channels it does not divide takes the nearest number below that
            divides them (`groups_for`), so that one setting fits networks of any width; `models.facts` reports it.

    Source: Wu and He 2018, Group Normalization, arXiv:1803.08494.
    """
    checks.at_least("num_groups", num_groups, 1)
    checks.positive("eps", eps)

    def layer(num_features: int, place: Place) -> nn.Module:
        kind = TokenGroupNorm if place.layout is Layout.TOKENS else FittedGroupNorm
        fitted = kind(groups_for(num_features, num_groups, place.layout), num_features, eps=eps)
        fitted.asked = num_groups
        return fitted

    return Norm(layer)


def groups_for(num_features: int, num_groups: int, layout: Layout) -> int:
    """The largest divisor of `num_features` that is at most `num_groups`.

    A group of a vector or token holds at least two features: one alone would always be normalized to 0.
    """
    most = min(num_groups, num_features if layout is Layout.MAPS else max(1, num_features // 2))
    return next(groups for groups in range(most, 0, -1) if num_features % groups == 0)


class FittedGroupNorm(nn.GroupNorm):
    """Group normalization that reports its number of groups to `models.facts`."""

    asked: int

    def own_facts(self) -> dict[str, list[int]]:
        """`group_norm`: [channels, groups asked for, groups in force]."""
        return {"group_norm": [self.num_channels, self.asked, self.num_groups]}


class TokenGroupNorm(FittedGroupNorm):
    """Group normalization of each token by itself: (N, T, C) -> (N, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch normalization of each feature over all tokens of the mini-batch: (N, T, C) -> (N, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)
