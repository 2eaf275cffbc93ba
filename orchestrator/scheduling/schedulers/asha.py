"""Asynchronous successive halving: at each rung only the best 1/reduction_factor of what was seen there goes on.

Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934; the implementation is Ray's
(its stopping variant: a trial is stopped, never paused and promoted later).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asha:
    """One bracket.

    Args:
        grace_epochs: the first rung; no trial is stopped before.
        reduction_factor: rungs are this factor apart, and one trial in so many survives.

    Raises:
        ValueError: a number is out of range.
    """

    grace_epochs: int = 1
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if self.grace_epochs < 1:
            raise ValueError(f"grace_epochs must be at least 1, got {self.grace_epochs}")
        if self.reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2, got {self.reduction_factor}")

    def rungs(self, epochs: int) -> list[int]:
        found = []
        rung = self.grace_epochs
        while rung < epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return found

    def start(self, *, mode: str, epochs: int) -> Any:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        return AsyncHyperBandScheduler(
            time_attr="epoch",
            metric="objective",
            mode=mode,
            max_t=epochs,
            grace_period=min(self.grace_epochs, epochs),
            reduction_factor=self.reduction_factor,
            brackets=1,
        )
