"""The learning rate stays as it is."""

from __future__ import annotations

from orchestrator.training.schedules.base import Schedule
from orchestrator.training.schedules.warmup import after_warmup


def constant(*, epochs: int, steps_per_epoch: int, warmup_epochs: float = 0.0) -> Schedule:
    """Factor 1 throughout.

    Raises:
        ValueError: warmup_epochs is outside its range.
    """
    return after_warmup(always_one, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)


def always_one(epoch: float) -> float:
    """The schedule that changes nothing."""
    del epoch
    return 1.0
