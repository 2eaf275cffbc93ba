"""The gain of a unit: what its weights are multiplied by, so that features keep their size through the activation."""

from __future__ import annotations

from math import sqrt
from typing import Literal

from models import checks

Gain = float | Literal["linear", "relu", "leaky_relu", "tanh", "selu"]

SQUARED = {
    "linear": 1.0,
    "relu": 2.0,
    "leaky_relu": 2 / (1 + 0.01**2),
    "tanh": (5 / 3) ** 2,
    "selu": (3 / 4) ** 2,
}
"""As `torch.nn.init.calculate_gain` has them, squared."""


def squared(gain: Gain) -> float:
    """The square of a gain, which multiplies a variance: 2 of ReLU, without rounding."""
    if isinstance(gain, str):
        checks.one_of("gain", gain, tuple(SQUARED))
        return SQUARED[gain]
    checks.positive("gain", gain)
    return gain**2


def factor(gain: Gain) -> float:
    """The gain itself, which multiplies a standard deviation."""
    value = squared(gain)
    return sqrt(value) if isinstance(gain, str) else gain
