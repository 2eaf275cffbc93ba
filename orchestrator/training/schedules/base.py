"""What a learning-rate schedule is to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class Schedule(Protocol):
    """A pure function of time: the factor in [0, 1] on the optimizer's own learning rate.

    Time is counted in epochs from 0 at the start of a step, with fractions for the steps within an epoch. A target that has an
    argument `steps_per_epoch` is told how many there are; what it makes should depend on it in the warm-up alone.
    """

    def __call__(self, epoch: float) -> float: ...


@runtime_checkable
class ObservingSchedule(Protocol):
    """A schedule that also reacts to the metrics of each epoch (a plateau); its state goes into checkpoints as JSON."""

    def __call__(self, epoch: float) -> float: ...

    def observe(self, metrics: Mapping[str, float]) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...
