"""The learning rate stays as it is."""

from __future__ import annotations

from orchestrator.training.schedules.base import Schedule


def constant(*, epochs: int) -> Schedule:
    """Factor 1 throughout."""
    return lambda epoch: 1.0
