"""No early stopping: every trial runs to its last epoch, so that all can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.scheduling.schedulers import Decision, Scheduler


@dataclass(frozen=True)
class NoScheduler:
    """No settings."""

    def rungs(self, epochs: int) -> list[int]:
        del epochs
        return []

    def start(self, *, mode: str, epochs: int) -> Scheduler:
        del mode, epochs
        return _RunToTheEnd()


class _RunToTheEnd(Scheduler):
    def show(self, trial: int, epoch: int, value: float | None) -> Decision:
        del trial, epoch, value
        return Decision.CONTINUE
