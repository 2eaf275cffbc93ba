"""What biases begin as: a constant, usually 0, or random."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from models import checks
from models.initializers.draws import normal_values, uniform_values

Bias = Literal["constant", "gaussian", "uniform"]
Biases = Callable[[torch.Size, torch.Generator], Tensor]
"""(shape, generator) -> values."""


def biases(bias: Bias = "constant", bias_value: float = 0.0) -> Biases:
    """The rule of all biases.

    Args:
        bias: `constant`: all are `bias_value`. `gaussian`, `uniform`: of mean 0 and standard deviation `bias_value`.
    """
    checks.one_of("bias", bias, ("constant", "gaussian", "uniform"))
    if bias == "constant":
        if not isfinite(bias_value):
            raise ValueError(f"bias_value must be finite, got {bias_value}")
        return lambda shape, generator: torch.full((), bias_value, device=generator.device)
    if not (isfinite(bias_value) and bias_value >= 0):
        raise ValueError(f"bias_value must be a standard deviation, 0 or more, got {bias_value}")
    draw = normal_values if bias == "gaussian" else uniform_values
    return lambda shape, generator: draw(shape, bias_value, generator)
