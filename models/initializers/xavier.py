"""Xavier (Glorot) initialization: between keeping the variance of features and that of gradients."""

from __future__ import annotations

from math import sqrt

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.gain import Gain, squared
from models.initializers.scheme import Scheme, normal


def xavier(*, scale: float = 1.0, gain: Gain = "linear", bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """Variance 2 / (fan-in + fan-out), times the squares of `scale` and `gain`.

    Args:
        scale: multiplies the standard deviation.
        gain: of the units, a number or the name of their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Glorot and Bengio 2010, Understanding the Difficulty of Training Deep Feedforward Neural Networks, equation
    12; our deviation: normal, not uniform. What is also called Xavier with 1 / fan-in is `lecun` here.
    """
    checks.positive("scale", scale)
    variance = squared(gain)
    return normal(lambda fan_in, fan_out: scale * sqrt(2 * variance / (fan_in + fan_out)), biases(bias, bias_value))
