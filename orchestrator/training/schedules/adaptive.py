"""The advice of lectures as a rule: where the error falls slowly and steadily, raise the learning rate; where it rises,
fluctuates or is flat, lower it.

Source: Hinton, Srivastava and Swersky 2012, Neural networks for machine learning, lecture 6a, which takes the error on a
validation set, too. The numbers are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.training.schedules.base import Schedule
from orchestrator.training.schedules.warmup import after_warmup


def adaptive(
    *,
    epochs: int,
    steps_per_epoch: int,
    raise_by: float = 1.2,
    lower_by: float = 0.5,
    window: int = 3,
    slow: float = 0.05,
    flat: float = 0.001,
    max_factor: float = 10.0,
    warmup_epochs: float = 0.0,
) -> Schedule:
    """Every `window` epochs, by how the validation loss changed in each, as a share of what it was.

    A change between -flat and flat is flat. Where all epochs fell, and by less than `slow` on average, the learning rate
    rises; where at most half of them fell, it is lowered; otherwise it stays.

    Args:
        max_factor: it rises no higher than so many times the optimizer's own.

    Raises:
        ValueError: a setting is outside its range.
    """
    if raise_by < 1:
        raise ValueError(f"raise_by must be at least 1, got {raise_by:g}")
    if not 0 < lower_by <= 1:
        raise ValueError(f"lower_by must be more than 0 and at most 1, got {lower_by:g}")
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if not 0 <= flat < slow:
        raise ValueError(f"flat must be at least 0 and less than slow={slow:g}, got {flat:g}")
    if max_factor < 1:
        raise ValueError(f"max_factor must be at least 1, got {max_factor:g}")
    observing = Adaptive(raise_by, lower_by, window, slow, flat, max_factor)
    return after_warmup(observing, warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)


class Adaptive:
    def __init__(
        self, raise_by: float, lower_by: float, window: int, slow: float, flat: float, max_factor: float
    ) -> None:
        self.raise_by, self.lower_by, self.window = raise_by, lower_by, window
        self.slow, self.flat, self.max_factor = slow, flat, max_factor
        self.now = 1.0
        self.losses: list[float] = []  # since the last decision, which begins with the last one before

    def __call__(self, epoch: float) -> float:
        return self.now

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.losses.append(metrics["val/loss"])
        if len(self.losses) > self.window:
            self.now = min(self.now * self._decide(), self.max_factor)
            del self.losses[:-1]

    def _decide(self) -> float:
        falls = [(a - b) / a if a else 0.0 for a, b in zip(self.losses, self.losses[1:], strict=False)]
        falling = sum(fall > self.flat for fall in falls)
        if falling == len(falls) and sum(falls) / len(falls) < self.slow:
            return self.raise_by
        return self.lower_by if 2 * falling <= len(falls) else 1.0

    def state(self) -> dict[str, Any]:
        return {"now": self.now, "losses": list(self.losses)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.now, self.losses = state["now"], list(state["losses"])
