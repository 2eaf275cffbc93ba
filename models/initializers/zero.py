"""Weights of 0: nothing but the last bias learns in a network without shortcuts."""

from __future__ import annotations

import torch

from models.initializers.biases import Bias, biases
from models.initializers.scheme import Needing, Scheme, by_weight
from models.initializers.structure import check_lengths


def zero(*, bias: Bias = "constant", bias_value: float = 0.0) -> Scheme:
    """Every weight is 0.

    Args:
        bias, bias_value: the rule of the biases, see `biases`.
    """
    fill = by_weight(lambda weight, generator: torch.zeros((), device=generator.device), biases(bias, bias_value))
    return Needing(lambda model: check_lengths(model, "zero"), fill)
