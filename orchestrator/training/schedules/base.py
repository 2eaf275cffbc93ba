"""What a learning-rate schedule is to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class Schedule(Protocol):
    """A pure function of time: the factor in [0, 1] on the optimizer's own learning rate.

    Time is counted in epochs from 0, with fractions for the steps within one: a schedule does not depend on the batch size.
    """

    def __call__(self, epoch: float) -> float: ...


@runtime_checkable
class ObservingSchedule(Protocol):
    """A schedule that also reacts to the metrics of each epoch (a plateau); its state goes into checkpoints as JSON."""

    def __call__(self, epoch: float) -> float: ...

    def observe(self, metrics: Mapping[str, float]) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...
