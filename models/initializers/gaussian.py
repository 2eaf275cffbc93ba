"""Gaussian weights of one standard deviation for all layers, whatever their size."""

from __future__ import annotations

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.scheme import Scheme, normal


def gaussian(*, std: float = 0.01, bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """N(0, std^2) for every weight, whatever its fans.

    `std` is absolute. The `scale` of the other initializations multiplies a standard deviation that they compute from the
    fans of each layer.

    Args:
        bias, bias_value: the rule of the biases, see `biases`.

    Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks, section 5.
    """
    checks.positive("std", std)
    return normal(lambda fan_in, fan_out: std, biases(bias, bias_value))
