"""What a learning-rate schedule is to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class Schedule(Protocol):
    """A pure function of time: the factor on the optimizer's own learning rate, at least 0 and, but for `adaptive`, at most 1.

    Time is counted in epochs from 0 at the start of a step, with fractions for the steps within an epoch. A target that has an
    argument `steps_per_epoch` is told how many there are; what it makes should depend on it in the warm-up alone
    (and `one_cycle`, which has torch's form).
    """

    def __call__(self, epoch: float) -> float: ...


@runtime_checkable
class ObservingSchedule(Protocol):
    """A schedule that also reacts to the metrics of each epoch (a plateau); its state goes into checkpoints as JSON."""

    def __call__(self, epoch: float) -> float: ...

    def observe(self, metrics: Mapping[str, float]) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


def require_final_factor(final_factor: float) -> None:
    """Check the factor at the end of training.

    Raises:
        ValueError: it is outside [0, 1].
    """
    if not 0 <= final_factor <= 1:
        raise ValueError(f"final_factor must be at least 0 and at most 1, got {final_factor:g}")
