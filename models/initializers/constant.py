"""One value for all weights: units of a layer stay identical for ever."""

from __future__ import annotations

from math import isfinite

import torch

from models.initializers.biases import Bias, biases
from models.initializers.scheme import Scheme, by_weight


def constant(*, value: float = 0.01, bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """Every weight is `value`, so that all units of a layer compute the same and get the same gradient.

    It shows why weights are random; a network learns no more with it than with one unit a layer.

    Args:
        value: not 0, which is `zero`.
        bias, bias_value: the rule of the biases, see `biases`.
    """
    if not isfinite(value) or value == 0:
        raise ValueError(f"value must be finite and not 0, got {value}; all weights are 0 with init=zero")
    return by_weight(lambda weight, generator: torch.full((), value, device=generator.device), biases(bias, bias_value))
