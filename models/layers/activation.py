"""Activations as settings: an `Activation` makes one layer for each block of a network.

Each public function is the target of a file in conf/activation. No layer works in place: a pre-activation block, or a
hook that looks at the values before the activation, still needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from models import checks
from models.layers.place import Layout


@dataclass(frozen=True)
class Activation:
    """The non-linearity of a network's blocks.

    Args:
        layer: (num_features, layout) -> the layer, which gives `num_features` from `pieces * num_features`.
        pieces: how many affine maps each feature is made of: 1, except for maxout. The block builder widens the layer
            that produces them; piece p of feature f is channel `p * num_features + f`.
    """

    layer: Callable[[int, Layout], nn.Module]
    pieces: int = 1

    def __post_init__(self) -> None:
        checks.at_least("pieces", self.pieces, 1)


def relu() -> Activation:
    """max(0, x)."""
    return Activation(lambda num_features, layout: nn.ReLU())


def tanh() -> Activation:
    """Hyperbolic tangent, in (-1, 1)."""
    return Activation(lambda num_features, layout: nn.Tanh())


def leaky_relu(*, negative_slope: float = 0.01) -> Activation:
    """x where x > 0, negative_slope * x elsewhere.

    Source: Maas et al. 2013, Rectifier Nonlinearities Improve Neural Network Acoustic Models.
    """
    checks.positive("negative_slope", negative_slope)
    return Activation(lambda num_features, layout: nn.LeakyReLU(negative_slope))


def elu(*, alpha: float = 1.0) -> Activation:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere.

    Source: Clevert et al. 2016, Fast and Accurate Deep Network Learning by Exponential Linear Units, arXiv:1511.07289.
    """
    checks.positive("alpha", alpha)
    return Activation(lambda num_features, layout: nn.ELU(alpha))
