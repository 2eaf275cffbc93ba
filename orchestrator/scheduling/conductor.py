"""Decides what to try next and what a report means, and writes every decision to the journal first. Knows nothing of Ray.

What it decides from is a function of the journal's events: replayed by `recall`, they put it where it was.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.base.errors import NotReadyError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.records import CAN_BE_BEST, State, Trial, better
from orchestrator.journal.file import Event, Journal
from orchestrator.journal.record import SweepRecord, TrialRecord
from orchestrator.scheduling.samplers import Sampler


class Conductor:
    """One sweep's decisions.

    Args:
        record: of the sweep, `sweep_opened` applied already (or to be, by `recall`); kept up to date from the journal here.
        journal: where every decision is written.
        sampler: gives configurations by index.
        limit: number of configurations.
        configure: the complete configuration of a trial from its searched parameters.
        folder: gives the absolute folder of a trial from its index.
        concurrent: trials at a time.
        prepare: whether one more may be suggested ahead, for whichever worker falls free first; a sampler that learns is
            always asked at the last moment.
        max_retries: of a trial whose process died or that raised an exception.
        repeat: trials of each configuration, with seeds of their own.
        rungs: the epochs after which a trial may be stopped early; where there are any, a configuration's first trial alone is
            judged, and the others run only if it survives.
        placed: brings a recorded configuration up to date with where things lie now.
        fits: whether the sampler's space holds these parameters; what does not fit is not told to it.
    """

    def __init__(
        self,
        *,
        record: SweepRecord,
        journal: Journal,
        sampler: Sampler,
        limit: int,
        configure: Callable[[Mapping[str, Any]], dict[str, Any]],
        folder: Callable[[int], str],
        concurrent: int,
        prepare: bool,
        max_retries: int = 2,
        repeat: int = 1,
        rungs: Collection[int] = (),
        placed: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config,
        fits: Callable[[Mapping[str, Any]], bool] = lambda params: True,
    ) -> None:
        self.record = record
        self._journal, self._sampler = journal, sampler
        self._limit, self._configure, self._folder = limit, configure, folder
        self._most_live = concurrent + (prepare and not sampler.learns)
        self._max_retries, self._repeat, self._fits, self._placed = max_retries, repeat, fits, placed
        self._rungs, self._judged = frozenset(rungs), bool(rungs)
        self._next_index = 0
        self._next_config = 0
        self._exhausted = False
        self._cancelled = False
        self._worst: float | None = None
        self._groups: defaultdict[int, list[int]] = defaultdict(list)
        self._repeats: deque[tuple[int, int]] = deque()
        self._waiting: deque[int] = deque()
        self._told: set[int] = set()
        self._best_shown: dict[int, float] = {}
        self.judgements: list[tuple[int, int, float]] = []
        self.live: set[int] = set()
        self.totals: Counter[State] = Counter()
        self.error: str | None = None
        journal.subscribe(record.apply)

    @property
    def trials(self) -> dict[int, TrialRecord]:
        """All trials so far, by index."""
        return self.record.trials

    @property
    def no_more(self) -> bool:
        """Whether no further trial will be handed out."""
        if self._waiting or self._repeats or not (self._exhausted or self._next_config >= self._limit):
            return False
        return not (self._repeat > 1 and self._judged and any(self.trials[index].repeat == 0 for index in self.live))

    @property
    def done(self) -> bool:
        """Whether every trial has ended and none will follow."""
        return self.no_more and not self.live

    def recall(self, events: Iterable[Event]) -> None:
        """Takes the events of the sweep so far, before anything else is asked; unfinished trials are handed out again first.

        What a scheduler was shown is then in `judgements`: (trial, epoch, objective), in order.
        """
        for event in events:
            self.record.apply(event)
            if event.trial is None:
                continue
            if event.kind == "suggested":
                trial = self.trials[event.trial]
                if trial.repeat == 0 and self._fits(trial.params):
                    self._sampler.recall(trial.config_index, trial.params)
                self._after_suggestion(trial)
            elif event.kind == "reported":
                self._note_judgement(self.trials[event.trial], event.data)
            elif event.kind == "terminal":
                self._after_end(self.trials[event.trial])
        self._waiting = deque(sorted(self.live))
        self.live.clear()

    def next_trial(self) -> Trial | None:
        """The next trial to run; None where none is due now."""
        if len(self.live) >= self._most_live:
            return None
        if self._waiting:
            index = self._waiting.popleft()
            self.live.add(index)
            return self.trial(index)
        if self._repeats:
            config_index, repeat = self._repeats[0]
            first = self.trials[self._groups[config_index][0]]
            config = {**first.config, "seed": first.config["seed"] + repeat}
            return self._suggest(first.params, config, config_index, repeat)
        if self._exhausted or self._next_config >= self._limit:
            return None
        params = self._sampler.suggest(self._next_config)
        if params is None:
            self._exhausted = True
            return None
        return self._suggest(params, self._configure(params), self._next_config, 0)

    def trial(self, index: int) -> Trial:
        """The trial as its next worker is given it."""
        known = self.trials[index]
        return Trial(
            uid=self._uid(index),
            index=index,
            config=self._placed(known.config),
            params=known.params,
            folder=self._folder(index),
            attempt=known.attempt,
            fence=self.record.fence(known),
        )

    def is_judged(self, index: int) -> bool:
        """Whether the scheduler may stop the trial."""
        return self._judged and self.trials[index].repeat == 0

    def retries_left(self, index: int) -> int:
        """How often the trial may still be started again; interruptions of the whole sweep do not count."""
        return self._max_retries - len(self.trials[index].retries)

    def on_started(self, index: int) -> None:
        """A worker begins an attempt at the trial."""
        self._journal.append("started", {}, trial=index, attempt=self.trials[index].attempt)

    def on_report(self, index: int, report: Mapping[str, Any], *, stopped: bool) -> None:
        """Takes a worker's report; `stopped` says that the scheduler ended the trial on seeing it.

        A report of an earlier attempt, or of a trial that has ended, changes nothing.
        """
        trial = self.trials[index]
        if index not in self.live or (report["uid"], report["attempt"]) != (self._uid(index), trial.attempt):
            return
        if report.get("unwritable"):
            raise NotReadyError(f"trial {index} cannot write: {report['unwritable']}; make room")
        self._take_epochs(trial, report)
        if report.get("retrying") and not stopped:
            self._retry(trial, str(report["reason"]), report.get("error"))
            self.on_started(index)
            return
        state = State(report["state"])
        if state is State.RUNNING and stopped:
            state = State.STOPPED
        if state is not State.RUNNING:
            self._end(
                trial,
                state,
                reason=report.get("reason"),
                metrics=report.get("metrics"),
                artifacts=report.get("artifacts"),
                error=report.get("error"),
            )

    def on_stopped_before(self, index: int) -> None:
        """The scheduler had ended the trial on its last report when the driver died."""
        if index in self._waiting:
            self._waiting.remove(index)
            self._end(self.trials[index], State.STOPPED)

    def on_death(self, index: int, error: str, reason: str = "the worker process died") -> int:
        """The trial's process died and will be started again; returns the number of the new attempt."""
        trial = self.trials[index]
        if index in self.live:
            self._retry(trial, reason, error)
        return trial.attempt

    def on_lost(self, index: int, error: str) -> None:
        """The trial's process died and no retry is left."""
        if index in self.live:
            reason = error.strip().splitlines()[-1] if error.strip() else "the worker process died"
            self._end(self.trials[index], State.FAILED, reason=reason, error=error)

    def cancel_live(self, reason: str) -> None:
        """Ends what still runs or waits, with the value it has."""
        self._exhausted = self._cancelled = True
        self._repeats.clear()
        for index in sorted({*self.live, *self._waiting}):
            self._end(self.trials[index], State.CANCELLED, reason=reason)
        self._waiting.clear()

    def _suggest(self, params: dict[str, Any], config: dict[str, Any], config_index: int, repeat: int) -> Trial:
        index = self._next_index
        data = {"params": params, "config": config, "config_index": config_index, "repeat": repeat}
        failpoint("suggestion.before")
        self._journal.append("suggested", data, trial=index, sync=True)
        failpoint("suggestion.after")
        self._after_suggestion(self.trials[index])
        return self.trial(index)

    def _after_suggestion(self, trial: TrialRecord) -> None:
        self.live.add(trial.index)
        self._groups[trial.config_index].append(trial.index)
        self._next_index = max(self._next_index, trial.index + 1)
        self._next_config = max(self._next_config, trial.config_index + 1)
        if trial.repeat:
            if (trial.config_index, trial.repeat) in self._repeats:
                self._repeats.remove((trial.config_index, trial.repeat))
        elif not self._judged:
            self._ask_for_repeats(trial)

    def _ask_for_repeats(self, first: TrialRecord) -> None:
        there = {self.trials[index].repeat for index in self._groups[first.config_index]}
        self._repeats.extend((first.config_index, repeat) for repeat in range(1, self._repeat) if repeat not in there)

    def _take_epochs(self, trial: TrialRecord, report: Mapping[str, Any]) -> None:
        new = [epoch for epoch in report["epochs"] if epoch["epoch"] > trial.epoch]
        if new or report["notes"]:
            data = {
                "epochs": new,
                "checkpoint": report["checkpoint"],
                "notes": report["notes"],
                "best": report["best"] if new else None,
            }
            self._journal.append("reported", data, trial=trial.index, attempt=trial.attempt)

    def _note_judgement(self, trial: TrialRecord, reported: Mapping[str, Any]) -> None:
        if trial.repeat or not reported["epochs"]:
            return
        metric, last = self.record.opened["metric"], reported["epochs"][-1]["epoch"]
        best = self._best_shown.get(trial.index)
        for epoch in reported["epochs"]:
            value = epoch["metrics"].get(metric)
            if value is not None and better(self._mode, value, best):
                self._best_shown[trial.index] = best = value
            if best is not None and (epoch["epoch"] in self._rungs or epoch["epoch"] == last):
                self.judgements.append((trial.index, epoch["epoch"], best))

    def _retry(self, trial: TrialRecord, reason: str, error: object) -> None:
        data = {"reason": reason, "error": error}
        self._journal.append("retrying", data, trial=trial.index, attempt=trial.attempt)

    def _end(
        self,
        trial: TrialRecord,
        state: State,
        *,
        reason: str | None = None,
        metrics: Mapping[str, float] | None = None,
        artifacts: Sequence[Mapping[str, Any]] | None = None,
        error: str | None = None,
    ) -> None:
        data = {
            "state": state.value,
            "reason": reason,
            "epoch": trial.epoch,
            "value": trial.value,
            "best_epoch": trial.best_epoch,
            "metrics": dict(metrics or {}),
            "artifacts": list(artifacts or []),
            "error": error,
        }
        failpoint("ending.before")
        self._journal.append("terminal", data, trial=trial.index, attempt=trial.attempt)
        failpoint("ending.after")
        self._after_end(trial)

    def _after_end(self, trial: TrialRecord) -> None:
        self.live.discard(trial.index)
        self.totals[trial.state] += 1
        self.error = trial.error or self.error
        value = _finite(trial)
        if value is not None and (
            self._worst is None or better("min" if self._mode == "max" else "max", value, self._worst)
        ):
            self._worst = value
        if self._judged and trial.repeat == 0 and trial.state is State.COMPLETED and not self._cancelled:
            self._ask_for_repeats(trial)
        self._tell_sampler(trial.config_index)

    def _tell_sampler(self, config_index: int) -> None:
        """The mean over a configuration's trials, once the last of them has ended."""
        members = [self.trials[index] for index in self._groups[config_index]]
        awaited = any(waiting == config_index for waiting, _ in self._repeats)
        if awaited or config_index in self._told or not all(trial.ended for trial in members):
            return
        self._told.add(config_index)
        if not self._fits(members[0].params):
            return
        values = [value for trial in members if (value := self._value_to_tell(trial)) is not None]
        mean = statistics.fmean(values) if values else None
        self._sampler.observe(config_index, dict(members[0].params), mean)

    def _value_to_tell(self, trial: TrialRecord) -> float | None:
        if trial.state in {State.DIVERGED, State.INFEASIBLE}:
            return self._worst
        return _finite(trial)

    @property
    def _mode(self) -> str:
        return str(self.record.opened["mode"])

    def _uid(self, index: int) -> str:
        return f"{self.record.uid}/{index}"


def _finite(trial: TrialRecord) -> float | None:
    """The value of a trial that can be best."""
    value = trial.value
    if trial.state not in CAN_BE_BEST or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
