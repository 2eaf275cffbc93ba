"""Normalizations as settings: a `Norm` makes the layer for given features, or changes the affine map before it.

Each public function that returns a `Norm` is the target of a file in conf/norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.utils import parametrizations

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


def _no_layer(num_features: int, place: Place) -> nn.Module:
    return nn.Identity()


def no_norm() -> Norm:
    """No normalization."""
    return Norm(_no_layer)


def layerless(norm: Norm) -> Norm:
    """What is left of a normalization where an architecture has no such layer: weight normalization's change of the map."""
    return replace(no_norm(), wrap=norm.wrap)


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


def instance_norm(*, eps: float = 1e-5) -> Norm:
    """Each channel of each example over the positions of a map, or over the tokens; with a gain and a shift a channel.

    The same in training and in evaluation. Over a single position a channel would always be normalized to 0, so that
    nothing of the image came through: vectors are refused while a network is built, maps of 1x1 when one arrives.

    Source: Ulyanov et al. 2016, Instance Normalization: The Missing Ingredient for Fast Stylization, arXiv:1607.08022.
    """
    checks.positive("eps", eps)

    def layer(num_features: int, place: Place) -> nn.Module:
        if place.layout is Layout.VECTORS:
            raise checks.RefusedError(
                "instance normalization is over the positions of a map, and vectors have none; use norm=layer"
            )
        kind = TokenInstanceNorm if place.layout is Layout.TOKENS else MapInstanceNorm
        return kind(num_features, eps=eps, affine=True)

    return Norm(layer, absorbs_bias=True)


def weight_norm() -> Norm:
    """No layer: each weight vector is a length g times a direction v / |v|, which are learned instead of it.

    There is one length for each output of the convolution or linear layer. An initialization sets both, so that the network
    starts as one without.

    Our deviation: no initialization from a first mini-batch.

    Source: Salimans and Kingma 2016, Weight Normalization, arXiv:1602.07868.
    """
    return Norm(_no_layer, wrap=parametrizations.weight_norm)


def local_response_norm(
    *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, after_activation: bool = True
) -> Norm:
    """Each feature x divided by (k + alpha * the sum of x^2 over `size` neighbouring features)^beta, at each position.

    A vector or token is taken as a map of one position. torch's layer divides its alpha by `size`: it gets `size` times ours.

    Args:
        after_activation: as in AlexNet; else before.

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 3.3.
    """
    checks.at_least("size", size, 1)
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        checks.positive(name, value)

    def layer(num_features: int, place: Place) -> nn.Module:
        kind = nn.LocalResponseNorm if place.layout is Layout.MAPS else FeatureLocalResponseNorm
        return kind(size, alpha=alpha * size, beta=beta, k=k)

    return Norm(layer, after_activation=after_activation)


def groups_for(num_features: int, num_groups: int, layout: Layout) -> int:
    """The largest divisor of `num_features` that is at most `num_groups`.

    A group of a vector or token holds at least two features: one alone would always be normalized to 0.
    """
    most = min(num_groups, num_features if layout is Layout.MAPS else max(1, num_features // 2))
    return next(groups for groups in range(most, 0, -1) if num_features % groups == 0)


class FittedGroupNorm(nn.GroupNorm):
    """Group normalization that reports its number of groups to `models.facts`, and refuses groups of one value."""

    asked: int

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:].numel() == self.num_groups:
            raise checks.RefusedError(
                "group normalization has no variance over groups of one value, such as a channel of a 1x1 map;"
                " use fewer groups or larger images"
            )
        return super().forward(x)

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


class MapInstanceNorm(nn.InstanceNorm2d):
    """Instance normalization that refuses maps of one position, in training and in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:].numel() == 1:
            raise checks.RefusedError(
                "instance normalization has no variance over the one position of a 1x1 map; use larger images or another norm"
            )
        return super().forward(x)


class TokenInstanceNorm(nn.InstanceNorm1d):
    """Instance normalization over the tokens of each example: (N, T, C) -> (N, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            raise checks.RefusedError("instance normalization has no variance over one token; use another norm")
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class FeatureLocalResponseNorm(nn.LocalResponseNorm):
    """Local response normalization over the last axis: vectors (N, C) or tokens (N, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2).unsqueeze(2)).view_as(x)
