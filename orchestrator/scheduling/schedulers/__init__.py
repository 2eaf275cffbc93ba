"""Schedulers: when a trial that does badly is stopped early. One algorithm a file; a choice in `conf/scheduler/` names it."""

from __future__ import annotations

from typing import Any, Protocol


class SchedulerSettings(Protocol):
    """What a file of this folder offers."""

    def rungs(self, epochs: int) -> list[int]:
        """The epochs, below the last, after which a trial is judged; each is a report of its own."""
        ...

    def start(self, *, mode: str, epochs: int) -> Any:
        """Ray's scheduler, judging `objective` over `epoch`; None lets every trial run to its end."""
        ...
