"""LeCun initialization: keeps the variance of the features of linear units."""

from __future__ import annotations

from math import sqrt

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.gain import Gain, squared
from models.initializers.scheme import Scheme, normal


def lecun(*, scale: float = 1.0, gain: Gain = "linear", bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """Variance 1 / fan-in, times the squares of `scale` and `gain`.

    The files lecun and xavier_fan_in of conf/init both stand for it: lectures call it Xavier, too.

    Args:
        scale: multiplies the standard deviation.
        gain: of the units, a number or the name of their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.6.
    """
    checks.positive("scale", scale)
    variance = squared(gain)
    return normal(lambda fan_in, fan_out: scale * sqrt(variance / fan_in), biases(bias, bias_value))
