"""The learning rate drops when the validation accuracy no longer rises.

Source: `torch.optim.lr_scheduler.ReduceLROnPlateau` (mode max, relative threshold); by hand in Krizhevsky et al. 2012, ImageNet
classification with deep convolutional neural networks, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.training.schedules.base import Schedule
from orchestrator.training.schedules.warmup import after_warmup


def plateau(
    *,
    epochs: int,
    steps_per_epoch: int,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    cooldown: int = 0,
    min_factor: float = 0.0,
    warmup_epochs: float = 0.0,
) -> Schedule:
    """Times `factor` after more than `patience` epochs in a row without a new best validation accuracy.

    Args:
        threshold: a new best is above 1 + threshold times the old one.
        cooldown: so many epochs after a drop are not counted.
        min_factor: it falls no lower.

    Raises:
        ValueError: a setting is outside its range.
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor must be more than 0 and less than 1, got {factor:g}")
    if not 0 <= min_factor <= 1:
        raise ValueError(f"min_factor must be at least 0 and at most 1, got {min_factor:g}")
    for name, value in (("patience", patience), ("threshold", threshold), ("cooldown", cooldown)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value:g}")
    observing = Plateau(factor, patience, threshold, cooldown, min_factor)
    return after_warmup(observing, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)


class Plateau:
    def __init__(self, factor: float, patience: int, threshold: float, cooldown: int, min_factor: float) -> None:
        self.factor, self.patience, self.threshold = factor, patience, threshold
        self.cooldown, self.min_factor = cooldown, min_factor
        self.now = 1.0
        self.best = -math.inf
        self.waited = 0  # epochs since the best, those of a cooldown left out
        self.cooling = 0  # epochs of the cooldown to go

    def __call__(self, epoch: float) -> float:
        return self.now

    def observe(self, metrics: Mapping[str, float]) -> None:
        accuracy = metrics["val/accuracy"]
        if accuracy > self.best * (1 + self.threshold) or self.best == -math.inf:
            self.best, self.waited = accuracy, 0
        else:
            self.waited += 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > self.patience:
            self.now = max(self.now * self.factor, self.min_factor)
            self.cooling, self.waited = self.cooldown, 0

    def state(self) -> dict[str, Any]:
        best = None if self.best == -math.inf else self.best
        return {"now": self.now, "best": best, "waited": self.waited, "cooling": self.cooling}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.now, self.waited, self.cooling = state["now"], state["waited"], state["cooling"]
        self.best = -math.inf if state["best"] is None else state["best"]
