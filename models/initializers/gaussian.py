"""Gaussian weights of one standard deviation for all layers, whatever their size."""

from __future__ import annotations

from models import checks
from models.initializers.scheme import Scheme, normal


def gaussian(*, std: float = 0.01, scale: float = 1.0) -> Scheme:
    """N(0, (scale * std)^2) for every weight: `std` is absolute, no fan enters.

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 5.
    """
    checks.positive("std", std)
    checks.positive("scale", scale)
    return normal(lambda fan_in, fan_out: scale * std)
