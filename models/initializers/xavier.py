"""Xavier (Glorot) initialization: between keeping the variance of features and that of gradients."""

from __future__ import annotations

from math import sqrt

from models import checks
from models.initializers.scheme import Scheme, normal


def xavier(*, scale: float = 1.0) -> Scheme:
    """Variance 2 / (fan-in + fan-out); `scale` multiplies the standard deviation.

    Source: Glorot and Bengio 2010, Understanding the Difficulty of Training Deep Feedforward Neural Networks, equation
    12; our deviation: normal, not uniform. What is also called Xavier with 1 / fan-in is `lecun` here.
    """
    checks.positive("scale", scale)
    return normal(lambda fan_in, fan_out: scale * sqrt(2 / (fan_in + fan_out)))
