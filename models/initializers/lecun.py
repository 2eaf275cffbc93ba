"""LeCun initialization: keeps the variance of the features of linear units."""

from __future__ import annotations

from math import sqrt

from models import checks
from models.initializers.scheme import Scheme, normal


def lecun(*, scale: float = 1.0) -> Scheme:
    """Variance 1 / fan-in; `scale` multiplies the standard deviation.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.6.
    """
    checks.positive("scale", scale)
    return normal(lambda fan_in, fan_out: scale * sqrt(1 / fan_in))
