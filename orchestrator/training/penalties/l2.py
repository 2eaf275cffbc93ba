"""The squared length of the parameters as a penalty on the loss."""

from __future__ import annotations

from orchestrator.training.penalties.base import WeightPenalty
from orchestrator.training.penalties.norms import Chosen, NormPenalty, require_strength


def l2(*, strength: float = 1e-4, parameters: Chosen = "weights") -> WeightPenalty:
    """strength times the sum of squares of the parameters.

    With `parameters=all` and sgd, its gradient is that of `weight_decay = 2 * strength`, which decays every parameter. With
    adagrad, adam and rmsprop, too: so it is refused beside their weight decay. The weight decay of adamw is no gradient, and
    another thing.

    Args:
        parameters: of those that are trained, `weights` leaves biases and the scales of norms free (those of fewer than two
            dimensions).

    Raises:
        ValueError: strength is negative.
    """
    require_strength(strength)
    return NormPenalty(0.0, strength, parameters)
