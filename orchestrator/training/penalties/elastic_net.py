"""Squares and absolute values of the parameters together as a penalty on the loss.

Source: Zou and Hastie 2005, Regularization and variable selection via the elastic net.
"""

from __future__ import annotations

from orchestrator.training.penalties.base import WeightPenalty
from orchestrator.training.penalties.norms import Chosen, NormPenalty, require_strength


def elastic_net(*, strength: float = 1e-4, beta: float = 1.0, parameters: Chosen = "weights") -> WeightPenalty:
    """strength times the sum of beta w^2 + |w|: that of l1 and, times beta, that of l2.

    Its squares are `weight_decay = 2 * strength * beta`, and refused beside it: see l2.

    Args:
        parameters: as for l2.

    Raises:
        ValueError: strength or beta is negative.
    """
    require_strength(strength)
    if beta < 0:
        raise ValueError(f"beta must be at least 0, got {beta:g}")
    return NormPenalty(strength, strength * beta, parameters)
