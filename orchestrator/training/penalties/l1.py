"""The sum of the absolute values of the parameters as a penalty on the loss.

Source: Tibshirani 1996, Regression shrinkage and selection via the lasso.
"""

from __future__ import annotations

from orchestrator.training.penalties.base import WeightPenalty
from orchestrator.training.penalties.norms import Chosen, NormPenalty, require_strength


def l1(*, strength: float = 1e-4, parameters: Chosen = "weights") -> WeightPenalty:
    """strength times the sum of absolute values of the parameters, with gradient 0 at 0.

    Args:
        parameters: as for l2.

    Raises:
        ValueError: strength is negative.
    """
    require_strength(strength)
    return NormPenalty(strength, 0.0, parameters)
