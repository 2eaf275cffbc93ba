"""The learning rate drops by a factor at regular intervals."""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule
from orchestrator.training.schedules.warmup import after_warmup


def step(
    *, epochs: int, steps_per_epoch: int, every_epochs: float = 30, factor: float = 0.1, warmup_epochs: float = 0.0
) -> Schedule:
    """factor^floor(epoch / every_epochs).

    Raises:
        ValueError: every_epochs is not positive, factor is outside (0, 1], or warmup_epochs outside its range.
    """
    if every_epochs <= 0:
        raise ValueError(f"every_epochs must be more than 0, got {every_epochs:g}")
    if not 0 < factor <= 1:
        raise ValueError(f"factor must be more than 0 and at most 1, got {factor:g}")

    def stepped(epoch: float) -> float:
        return float(factor ** math.floor(epoch / every_epochs))

    return after_warmup(stepped, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)
