"""Orthogonal initialization: all singular values of a weight matrix are equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.gain import Gain, factor
from models.initializers.parameters import Weight
from models.initializers.scheme import Scheme, by_weight


def orthogonal(
    *, scale: float = 1.0, gain: Gain = "linear", bias: Bias = "constant", bias_value: float = 0.0
) -> Scheme:
    """Random semi-orthogonal matrices times `scale` and `gain`, whose product all singular values then equal.

    A convolution's weight is taken as a matrix of one row for each output channel.

    Args:
        scale: multiplies the singular values.
        gain: of the units, a number or the name of their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Saxe et al. 2014, Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural Networks,
    arXiv:1312.6120.
    """
    checks.positive("scale", scale)
    value = scale * factor(gain)

    def draw(weight: Weight, generator: torch.Generator) -> Tensor:
        values = torch.empty(weight.tensor.shape, device=generator.device)
        return nn.init.orthogonal_(values, gain=value, generator=generator)

    return by_weight(draw, biases(bias, bias_value))
