"""Kaiming (He) initialization: keeps the second moment of the features of ReLU units."""

from __future__ import annotations

from math import sqrt
from typing import Literal

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.gain import Gain, squared
from models.initializers.scheme import Scheme, normal

Fan = Literal["fan_in", "fan_out"]


def kaiming(
    *,
    mode: Fan = "fan_in",
    scale: float = 1.0,
    gain: Gain = "relu",
    bias: Bias = "constant",
    bias_value: float = 0.0,
) -> Scheme:
    """Variance 2 / fan-in, times the square of `scale`; the 2 is the squared gain of ReLU.

    Args:
        mode: `fan_in` keeps the size of the features, `fan_out` (2 / fan-out) that of the gradients.
        scale: multiplies the standard deviation.
        gain: of the units, a number or the name of their activation: `linear`, `relu`, `leaky_relu`, `tanh`, `selu`.
        bias, bias_value: the rule of the biases, see `biases`.

    Source: He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852, equations 10 and 14.
    """
    checks.positive("scale", scale)
    checks.one_of("mode", mode, ("fan_in", "fan_out"))
    variance = squared(gain)
    return normal(
        lambda fan_in, fan_out: scale * sqrt(variance / (fan_in if mode == "fan_in" else fan_out)),
        biases(bias, bias_value),
    )
