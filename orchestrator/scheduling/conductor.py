"""Decides what to try next and what a report means, and writes every decision to the journal first. Knows nothing of Ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.journal import Journal
from orchestrator.records import CAN_BE_BEST, State, Trial, better
from orchestrator.scheduling.samplers import Sampler


@dataclass
class Progress:
    """How far one trial is."""

    trial: Trial
    attempt: int = 1
    epoch: int = 0
    value: float | None = None
    best_epoch: int | None = None
    last_metrics: dict[str, float] = field(default_factory=dict)
    state: State = State.RUNNING
    started: bool = False


@dataclass(frozen=True)
class Best:
    """The best trial so far."""

    index: int
    value: float
    epoch: int
    params: Mapping[str, Any]


class Conductor:
    """One sweep's decisions.

    Args:
        uid: the sweep's identity; trials are `<uid>/<index>`.
        journal: where every decision is written.
        sampler: gives configurations by index.
        limit: number of trials.
        configure: the complete configuration of a trial from its searched parameters.
        folder: gives the absolute folder of a trial from its index.
        concurrent: trials at a time.
        prepare: whether one more may be suggested ahead, for whichever worker falls free first; a sampler that learns is
            always asked at the last moment.
        metric: name of the objective, `mode` says whether larger is better.
    """

    def __init__(
        self,
        *,
        uid: str,
        journal: Journal,
        sampler: Sampler,
        limit: int,
        configure: Callable[[Mapping[str, Any]], dict[str, Any]],
        folder: Callable[[int], str],
        concurrent: int,
        prepare: bool,
        metric: str,
        mode: str,
    ) -> None:
        self._uid, self._journal, self._sampler = uid, journal, sampler
        self._limit, self._configure, self._folder = limit, configure, folder
        self._most_live = concurrent + (prepare and not sampler.learns)
        self._metric, self._mode = metric, mode
        self._next_index = 0
        self._exhausted = False
        self._worst: float | None = None
        self.trials: dict[int, Progress] = {}
        self.live: set[int] = set()
        self.totals: Counter[State] = Counter()
        self.best: Best | None = None
        self.error: str | None = None

    @property
    def no_more(self) -> bool:
        """Whether no further trial will be suggested."""
        return self._exhausted or self._next_index >= self._limit

    @property
    def done(self) -> bool:
        """Whether every trial has ended and none will follow."""
        return self.no_more and not self.live

    def next_trial(self) -> Trial | None:
        """The next trial to run; None where none is due now."""
        if self.no_more or len(self.live) >= self._most_live:
            return None
        index = self._next_index
        params = self._sampler.suggest(index)
        if params is None:
            self._exhausted = True
            return None
        trial = Trial(f"{self._uid}/{index}", index, self._configure(params), params, self._folder(index))
        self._journal.append("suggested", {"params": params, "config": trial.config}, trial=index, sync=True)
        self._next_index += 1
        self.trials[index] = Progress(trial)
        self.live.add(index)
        return trial

    def on_started(self, index: int) -> None:
        """A worker begins an attempt at the trial."""
        progress = self.trials[index]
        progress.started = True
        self._journal.append("started", {}, trial=index, attempt=progress.attempt)

    def on_report(self, index: int, report: Mapping[str, Any], *, stopped: bool) -> None:
        """Takes a worker's report; `stopped` says that the scheduler ended the trial on seeing it.

        A report of an earlier attempt, or of a trial that has ended, changes nothing.
        """
        progress = self.trials[index]
        if index not in self.live or (report["uid"], report["attempt"]) != (progress.trial.uid, progress.attempt):
            return
        self._take_epochs(progress, report)
        if report.get("retrying") and not stopped:
            self._retry(progress, str(report["reason"]), report.get("error"))
            self.on_started(index)
            return
        state = State(report["state"])
        if state is State.RUNNING and stopped:
            state = State.STOPPED
        if state is not State.RUNNING:
            self._end(
                progress,
                state,
                reason=report.get("reason"),
                metrics=report.get("metrics"),
                artifacts=report.get("artifacts"),
                error=report.get("error"),
            )

    def on_death(self, index: int, error: str) -> int:
        """The trial's process died and will be started again; returns the number of the new attempt."""
        progress = self.trials[index]
        if index in self.live:
            self._retry(progress, "the worker process died", error)
        return progress.attempt

    def on_lost(self, index: int, error: str) -> None:
        """The trial's process died and no retry is left."""
        if index in self.live:
            reason = error.strip().splitlines()[-1] if error.strip() else "the worker process died"
            self._end(self.trials[index], State.FAILED, reason=reason, error=error)

    def cancel_live(self, reason: str) -> None:
        """Ends what still runs or waits, with the value it has."""
        self._exhausted = True
        for index in sorted(self.live):
            self._end(self.trials[index], State.CANCELLED, reason=reason)

    def _take_epochs(self, progress: Progress, report: Mapping[str, Any]) -> None:
        new = [epoch for epoch in report["epochs"] if epoch["epoch"] > progress.epoch]
        if report["best"]:
            progress.best_epoch, progress.value = report["best"]
        if new:
            progress.epoch = int(new[-1]["epoch"])
            progress.last_metrics = dict(new[-1]["metrics"])
            for epoch in new:
                value = epoch["metrics"].get(self._metric)
                if not report["best"] and value is not None and better(self._mode, value, progress.value):
                    progress.best_epoch, progress.value = int(epoch["epoch"]), float(value)
        if new or report["notes"]:
            self._journal.append(
                "reported",
                {"epochs": new, "checkpoint": report["checkpoint"], "notes": report["notes"]},
                trial=progress.trial.index,
                attempt=progress.attempt,
            )

    def _retry(self, progress: Progress, reason: str, error: object) -> None:
        index, attempt = progress.trial.index, progress.attempt
        self._journal.append("retrying", {"reason": reason, "error": error}, trial=index, attempt=attempt)
        progress.attempt += 1

    def _end(
        self,
        progress: Progress,
        state: State,
        *,
        reason: str | None = None,
        metrics: Mapping[str, float] | None = None,
        artifacts: Sequence[Mapping[str, Any]] | None = None,
        error: str | None = None,
    ) -> None:
        trial = progress.trial
        progress.state = state
        self.live.discard(trial.index)
        self.totals[state] += 1
        if error:
            self.error = error
        self._journal.append(
            "terminal",
            {
                "state": state.value,
                "reason": reason,
                "epoch": progress.epoch,
                "value": progress.value,
                "best_epoch": progress.best_epoch,
                "metrics": dict(metrics or {}),
                "artifacts": list(artifacts or []),
                "error": error,
            },
            trial=trial.index,
            attempt=progress.attempt,
        )
        value = progress.value if progress.value is not None and math.isfinite(progress.value) else None
        if state in CAN_BE_BEST and value is not None:
            self._note_value(progress, value)
        if state in {State.DIVERGED, State.INFEASIBLE}:
            value = self._worst
        if state is State.FAILED:
            value = None
        self._sampler.observe(trial.index, dict(trial.params), value)

    def _note_value(self, progress: Progress, value: float) -> None:
        index = progress.trial.index
        if self._worst is None or better(self._mode, self._worst, value):
            self._worst = value
        earlier = self.best is not None and value == self.best.value and index < self.best.index
        if earlier or better(self._mode, value, self.best.value if self.best else None):
            self.best = Best(index, value, progress.best_epoch or 0, progress.trial.params)
