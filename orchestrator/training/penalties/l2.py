"""The squared length of the parameters as a penalty on the loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orchestrator.training.penalties.base import WeightPenalty


def l2(*, strength: float = 1e-4, parameters: Literal["weights", "all"] = "weights") -> WeightPenalty:
    """strength times the sum of squares of the parameters.

    With `parameters=all` and sgd, its gradient is that of `weight_decay = 2 * strength`, which decays every parameter. With
    adam and rmsprop, too; the weight decay of adamw is no gradient, and another thing.

    Args:
        parameters: of those that are trained, `weights` leaves biases and the scales of norms free (those of fewer than two
            dimensions).

    Raises:
        ValueError: strength is negative.
    """
    if strength < 0:
        raise ValueError(f"strength must be at least 0, got {strength:g}")
    least = 0 if parameters == "all" else 2

    def penalty(model: nn.Module) -> Tensor:
        squares = [p.square().sum() for p in model.parameters() if p.ndim >= least and p.requires_grad]
        return strength * torch.stack(squares).sum()

    return penalty
