"""Activations as settings: an `Activation` makes one layer for each block of a network.

Each public function is the target of a file in conf/activation. No layer works in place: a pre-activation block, or a
hook that looks at the values before the activation, still needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

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


def identity() -> Activation:
    """x itself: a linear unit, for diagnosis."""
    return Activation(_identity)


def _identity(num_features: int, layout: Layout) -> nn.Module:
    return nn.Identity()


def sigmoid() -> Activation:
    """1 / (1 + exp(-x)), in (0, 1); saturates on both sides."""
    return Activation(lambda num_features, layout: nn.Sigmoid())


def tanh() -> Activation:
    """Hyperbolic tangent, in (-1, 1)."""
    return Activation(lambda num_features, layout: nn.Tanh())


def relu() -> Activation:
    """max(0, x)."""
    return Activation(lambda num_features, layout: nn.ReLU())


def relu6() -> Activation:
    """min(max(0, x), 6).

    Source: Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10; the MobileNets use it.
    """
    return Activation(lambda num_features, layout: nn.ReLU6())


def leaky_relu(*, negative_slope: float = 0.01) -> Activation:
    """x where x > 0, negative_slope * x elsewhere.

    Source: Maas et al. 2013, Rectifier Nonlinearities Improve Neural Network Acoustic Models.
    """
    checks.positive("negative_slope", negative_slope)
    return Activation(lambda num_features, layout: nn.LeakyReLU(negative_slope))


def prelu(*, initial_slope: float = 0.25, shared: bool = False) -> Activation:
    """x where x > 0, slope * x elsewhere, with a learned slope; no initializer changes where it starts.

    Args:
        shared: one slope for all channels of a layer, instead of one for each.

    Source: He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852, section 2.1.
    """
    checks.positive("initial_slope", initial_slope)

    def layer(num_features: int, layout: Layout) -> nn.Module:
        kind = TokenPReLU if layout is Layout.TOKENS else nn.PReLU
        return kind(1 if shared else num_features, init=initial_slope)

    return Activation(layer)


class TokenPReLU(nn.PReLU):
    """PReLU with a slope for each feature of tokens (N, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


def elu(*, alpha: float = 1.0) -> Activation:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere.

    Source: Clevert et al. 2016, Fast and Accurate Deep Network Learning by Exponential Linear Units, arXiv:1511.07289.
    """
    checks.positive("alpha", alpha)
    return Activation(lambda num_features, layout: nn.ELU(alpha))


def selu() -> Activation:
    """lambda * x where x > 0, lambda * alpha * (exp(x) - 1) elsewhere; the paper's constants.

    With weights of variance 1 / fan-in (`init=lecun`) and no normalization, mean 0 and variance 1 are a fixed point.

    Source: Klambauer et al. 2017, Self-Normalizing Neural Networks, arXiv:1706.02515.
    """
    return Activation(lambda num_features, layout: nn.SELU())


def softplus() -> Activation:
    """log(1 + exp(x)); its derivative is the sigmoid.

    Source: Glorot et al. 2011, Deep Sparse Rectifier Neural Networks, section 3.
    """
    return Activation(lambda num_features, layout: nn.Softplus())


def gelu() -> Activation:
    """x times the probability that a standard normal variable is below x.

    Source: Hendrycks and Gimpel 2016, Gaussian Error Linear Units, arXiv:1606.08415.
    """
    return Activation(lambda num_features, layout: nn.GELU())


def silu() -> Activation:
    """x * sigmoid(x), also called swish.

    Source: Elfwing et al. 2017, arXiv:1702.03118; Ramachandran et al. 2017, arXiv:1710.05941.
    """
    return Activation(lambda num_features, layout: nn.SiLU())


def hardswish() -> Activation:
    """x * relu6(x + 3) / 6.

    Source: Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244, section 5.2.
    """
    return Activation(lambda num_features, layout: nn.Hardswish())


def maxout(*, pieces: int = 2) -> Activation:
    """The largest of `pieces` affine maps, of which the layer before it has that many for each feature.

    Source: Goodfellow et al. 2013, Maxout Networks, arXiv:1302.4389.
    """
    checks.at_least("pieces", pieces, 2)
    return Activation(lambda num_features, layout: Maxout(pieces, layout.feature_axis), pieces)


class Maxout(nn.Module):
    """The largest of `pieces` equal parts of the axis `axis`."""

    def __init__(self, pieces: int, axis: int) -> None:
        super().__init__()
        self.pieces, self.axis = pieces, axis

    def forward(self, x: Tensor) -> Tensor:
        return reduce(torch.maximum, x.chunk(self.pieces, self.axis))

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, axis={self.axis}"
