"""Uniform weights of one standard deviation for all layers, whatever their size."""

from __future__ import annotations

from models import checks
from models.initializers.biases import Bias, biases
from models.initializers.draws import uniform_values
from models.initializers.scheme import Scheme, by_weight


def uniform(*, std: float = 0.01, bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """U(-a, a) with a = sqrt(3) std for every weight, whose variance a^2 / 3 is std^2: the counterpart of `gaussian`.

    Args:
        std: absolute, whatever the fans of a layer.
        bias, bias_value: the rule of the biases, see `biases`.
    """
    checks.positive("std", std)
    return by_weight(
        lambda weight, generator: uniform_values(weight.tensor.shape, std, generator), biases(bias, bias_value)
    )
