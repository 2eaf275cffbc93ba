"""The learning rate drops by a factor at regular intervals."""

from __future__ import annotations

import math

from orchestrator.training.schedules.base import Schedule


def step(*, epochs: int, every_epochs: float = 30, factor: float = 0.1) -> Schedule:
    """factor^floor(epoch / every_epochs).

    Raises:
        ValueError: every_epochs is not positive, or factor is outside (0, 1].
    """
    if every_epochs <= 0:
        raise ValueError(f"every_epochs must be more than 0, got {every_epochs:g}")
    if not 0 < factor <= 1:
        raise ValueError(f"factor must be more than 0 and at most 1, got {factor:g}")
    return lambda epoch: float(factor ** math.floor(epoch / every_epochs))
