"""Normalizations as settings: a `Norm` makes the layer for given features, or changes the affine map before it.

Each public function is the target of a file in conf/norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from models import checks


def _unchanged(affine: nn.Module) -> nn.Module:
    return affine


@dataclass(frozen=True)
class Norm:
    """How the blocks of a network are normalized.

    Args:
        layer: (num_features, spatial) -> the layer that follows the affine map; `spatial` is True for feature maps
            (N, C, H, W) and False for vectors (N, C). `nn.Identity` where nothing follows.
        wrap: changes the convolution or linear layer itself, as weight normalization does.
        absorbs_bias: whether the layer takes out whatever bias the affine map adds, which then has none.
    """

    layer: Callable[[int, bool], nn.Module]
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    absorbs_bias: bool = False


def no_norm() -> Norm:
    """No normalization."""

    def layer(num_features: int, spatial: bool) -> nn.Module:
        return nn.Identity()

    return Norm(layer)


def batch_norm(*, eps: float = 1e-5, momentum: float = 0.1) -> Norm:
    """Each feature over the mini-batch (and the positions of a map); in evaluation by moving averages.

    Args:
        momentum: the weight of the new batch in the moving averages (1 - alpha in the paper's terms), in (0, 1].

    Source: Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167.
    """
    checks.positive("eps", eps)
    if not 0 < momentum <= 1:
        raise ValueError(f"momentum must be in (0, 1], got {momentum}")

    def layer(num_features: int, spatial: bool) -> nn.Module:
        kind = nn.BatchNorm2d if spatial else nn.BatchNorm1d
        return kind(num_features, eps=eps, momentum=momentum)

    return Norm(layer, absorbs_bias=True)


def layer_norm(*, eps: float = 1e-5) -> Norm:
    """Each example over all its features: over C for vectors, over (C, H, W) for feature maps.

    Gain and bias are one each per channel, so that the number of parameters does not depend on the image size.

    Source: Ba et al. 2016, Layer Normalization, arXiv:1607.06450; for feature maps as in Wu and He 2018,
    Group Normalization, arXiv:1803.08494, section 3.1.
    """
    checks.positive("eps", eps)

    def layer(num_features: int, spatial: bool) -> nn.Module:
        return nn.GroupNorm(1, num_features, eps=eps) if spatial else nn.LayerNorm(num_features, eps=eps)

    return Norm(layer)


def group_norm(*, num_groups: int = 8, eps: float = 1e-5) -> Norm:
    """Each example over the channels (and positions) of a group.

    Args:
        num_groups: the most groups; a layer whose channels it does not divide takes the nearest number below that
            divides them (`groups_for`), so that one setting fits networks of any width.

    Source: Wu and He 2018, Group Normalization, arXiv:1803.08494.
    """
    checks.at_least("num_groups", num_groups, 1)
    checks.positive("eps", eps)

    def layer(num_features: int, spatial: bool) -> nn.Module:
        return nn.GroupNorm(groups_for(num_features, num_groups, spatial), num_features, eps=eps)

    return Norm(layer)


def groups_for(num_features: int, num_groups: int, spatial: bool) -> int:
    """The largest divisor of `num_features` that is at most `num_groups`.

    A group of a vector holds two features at least: one alone would always be normalized to 0.
    """
    most = min(num_groups, num_features if spatial else max(1, num_features // 2))
    return next(groups for groups in range(most, 0, -1) if num_features % groups == 0)
