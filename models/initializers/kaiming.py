"""Kaiming (He) initialization: keeps the second moment of the features of ReLU units."""

from __future__ import annotations

from math import sqrt

from models import checks
from models.initializers.scheme import Scheme, normal


def kaiming(*, scale: float = 1.0) -> Scheme:
    """Variance 2 / fan-in; `scale` multiplies the standard deviation.

    Source: He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852, equation 10.
    """
    checks.positive("scale", scale)
    return normal(lambda fan_in, fan_out: scale * sqrt(2 / fan_in))
