"""A linear warm-up before any schedule.

Source: Goyal et al. 2017, arXiv:1706.02677, section 2.2: the learning rate grows by the same amount at every step, from a first
value above 0: with them the rate of one worker, here one such amount. (`torch.optim.lr_scheduler.LinearLR` begins above 0, too,
by default at a third.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.training.schedules.base import ObservingSchedule, Schedule


def after_warmup(schedule: Schedule, warmup_epochs: float, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """In a line to the whole learning rate over `warmup_epochs`; then `schedule`, whose time begins there.

    Of the n steps of the warm-up the first has factor 1/n and the last 1. An `ObservingSchedule` is not shown its epochs.

    Raises:
        ValueError: warmup_epochs is negative or leaves no epoch.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs must be at least 0 and less than epochs={epochs}, got {warmup_epochs:g}")
    if not warmup_epochs:
        return schedule
    kind = ObservingWarmedUp if isinstance(schedule, ObservingSchedule) else WarmedUp
    return kind(schedule, warmup_epochs, steps_per_epoch)


class WarmedUp:
    """A schedule after its warm-up."""

    def __init__(self, schedule: Schedule, warmup_epochs: float, steps_per_epoch: int) -> None:
        self.schedule: Any = schedule
        self.warmup_epochs = warmup_epochs
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, epoch: float) -> float:
        if epoch < self.warmup_epochs:
            return min(1.0, (epoch + 1 / self.steps_per_epoch) / self.warmup_epochs)
        return float(self.schedule(epoch - self.warmup_epochs))


class ObservingWarmedUp(WarmedUp):
    """The same of one that reacts to metrics."""

    observed = 0

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.observed += 1
        if self.observed > self.warmup_epochs:
            self.schedule.observe(metrics)

    def state(self) -> dict[str, Any]:
        return {"observed": self.observed, "schedule": self.schedule.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.observed = state["observed"]
        self.schedule.restore(state["schedule"])
