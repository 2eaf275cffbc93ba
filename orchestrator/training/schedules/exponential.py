"""The learning rate falls by the same share in every epoch."""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule
from orchestrator.training.schedules.warmup import after_warmup


def exponential(*, epochs: int, steps_per_epoch: int, gamma: float = 0.05, warmup_epochs: float = 0.0) -> Schedule:
    """e^(-gamma epoch), at every step anew; `torch.optim.lr_scheduler.ExponentialLR` calls e^-gamma its gamma.

    Raises:
        ValueError: gamma is negative, or warmup_epochs outside its range.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, got {gamma:g}")
    return after_warmup(
        lambda epoch: math.exp(-gamma * epoch), warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
