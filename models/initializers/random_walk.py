"""Random-walk initialization: the logarithm of the gradient's norm drifts neither up nor down with depth."""

from __future__ import annotations

from math import exp, sqrt
from typing import Literal

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.scheme import Needing, Scheme, normal
from models.initializers.structure import check_chain

Unit = Literal["linear", "relu"]


def random_walk(*, unit: Unit = "relu", scale: float = 1.0, bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """Standard deviation g / sqrt(fan-in) with a gain g for the width, in plain chains of layers.

    Linear units: g = exp(1 / (2 N)); ReLU: g = sqrt(2) exp(1.2 / (max(N, 6) - 2.4)), N the fan-in. As N grows they are the
    gains of `lecun` and `kaiming`: what is new is the correction for narrow layers.

    Args:
        unit: the activation of the network.
        scale: multiplies the standard deviation.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Sussillo and Abbott 2014, Random Walk Initialization for Training Very Deep Feedforward Networks,
    arXiv:1412.6558, equations 9 and 10.
    """
    checks.positive("scale", scale)
    checks.one_of("unit", unit, ("linear", "relu"))
    gain = {"linear": linear_gain, "relu": relu_gain}[unit]
    draw = normal(lambda fan_in, fan_out: scale * gain(fan_in) / sqrt(fan_in), biases(bias, bias_value))
    return Needing(lambda model: check_chain(model, "random_walk"), draw)


def linear_gain(width: int) -> float:
    return exp(1 / (2 * width))


def relu_gain(width: int) -> float:
    return sqrt(2) * exp(1.2 / (max(width, 6) - 2.4))
