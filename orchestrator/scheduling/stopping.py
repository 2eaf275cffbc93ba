"""Shows the scheduler how far trials have come, and keeps in mind whom it wants to stop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orchestrator.base.records import State, better
from orchestrator.journal.record import TrialRecord
from orchestrator.scheduling.schedulers import Decision, Scheduler


class EarlyStopping:
    """One scheduler and the trials that it judges: the first repeat of each configuration.

    Args:
        scheduler: of the sweep.
        rungs: the epochs after which it judges; none at all where it stops nobody.
    """

    def __init__(self, scheduler: Scheduler, rungs: Collection[int]) -> None:
        self._scheduler, self._rungs = scheduler, sorted(rungs)
        self._best: dict[int, float] = {}
        self.to_stop: set[int] = set()

    def judges(self, trial: TrialRecord) -> bool:
        """Whether the trial may be stopped early."""
        return bool(self._rungs) and trial.repeat == 0

    def report(self, trial: TrialRecord, epochs: Sequence[Mapping[str, Any]], metric: str, mode: str) -> Decision:
        """Takes the epochs of a report, which end at a rung if they reach one, and says what becomes of the trial.

        Of a report that was made under other rungs every rung inside is shown.
        """
        decision = Decision.CONTINUE
        if not self.judges(trial):
            return decision
        best = self._best.get(trial.index)
        for epoch in epochs:
            value = epoch["metrics"].get(metric)
            if value is not None and better(mode, value, best):
                self._best[trial.index] = best = value
            if epoch["epoch"] in self._rungs and best is not None:
                decision = self._scheduler.show(trial.index, epoch["epoch"], best)
        if decision is Decision.STOP:
            self.to_stop.add(trial.index)
        elif epochs:
            self.to_stop.discard(trial.index)
        return decision

    def end(self, trial: TrialRecord) -> None:
        """Takes a trial that has ended. One that ended before a rung is shown there: without a value where it diverged or proved
        infeasible, with its best one where it stopped early by its own rule."""
        self.to_stop.discard(trial.index)
        best = self._best.pop(trial.index, None)
        stopped_early = trial.state is State.COMPLETED and bool(trial.config.get("early_stopping"))
        if not self.judges(trial) or not (stopped_early or trial.state in (State.DIVERGED, State.INFEASIBLE)):
            return
        last = trial.config["epochs"]
        rung = next((rung for rung in self._rungs if trial.epoch < rung <= last), None)
        if rung is not None:
            self._scheduler.show(trial.index, rung, best if stopped_early else None)
