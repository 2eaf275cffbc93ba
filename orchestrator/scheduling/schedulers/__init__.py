"""Schedulers: when a trial that does badly is stopped early. One algorithm a file; a choice in `conf/scheduler/` names it.

A scheduler file holds a frozen dataclass of settings, whose `start` gives the running scheduler: a state machine whose answers
depend on what it was shown, in that order, and on nothing else. A resumed sweep shows a new one all reports of the journal again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Protocol


class Decision(StrEnum):
    """What becomes of a trial at a rung. Population-based training will add `pause` and `clone`."""

    CONTINUE = "continue"
    STOP = "stop"


class Scheduler(ABC):
    """A running scheduler."""

    @abstractmethod
    def show(self, trial: int, epoch: int, value: float | None) -> Decision:
        """Judges a trial that has come to a rung.

        Args:
            trial: index of the trial.
            epoch: the rung, one of `SchedulerSettings.rungs`. A trial comes to its rungs in order, to each once.
            value: the trial's best objective up to then; None where it diverged, or proved infeasible, on the way to this rung.
                A trial that failed for another reason, or was cancelled, says nothing about its configuration and is not shown.
        """


class SchedulerSettings(Protocol):
    """What a file of this folder offers."""

    def rungs(self, epochs: int) -> list[int]:
        """The epochs, below the last, after which a trial is judged; each is a report of its own."""
        ...

    def start(self, *, mode: str, epochs: int) -> Scheduler:
        """The running scheduler; `mode` is "max" or "min", `epochs` the most that a trial of the sweep can have."""
        ...
