"""The squared length of the weights as a penalty on the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.training.penalties.base import Penalty


def l2(*, strength: float = 1e-4) -> Penalty:
    """strength times the sum of squares of all weights; biases and the scales of norms (fewer than two dimensions) are free.

    Raises:
        ValueError: strength is negative.
    """
    if strength < 0:
        raise ValueError(f"strength must be at least 0, got {strength:g}")

    def penalty(model: nn.Module) -> Tensor:
        squares = [p.square().sum() for p in model.parameters() if p.ndim > 1]
        return strength * torch.stack(squares).sum()

    return penalty
