"""Decides what to try next and what a report means, and writes every decision to the journal first. Knows nothing of Ray.

What it decides from is a function of the journal's events: replayed by `recall`, they put it where it was.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import TRIALS
from orchestrator.base.records import Divergence, State, Trial, charged_retries
from orchestrator.base.rules import repeat_seed
from orchestrator.journal.events import (
    Published,
    Reported,
    Retrying,
    Started,
    Suggested,
    SweepClosed,
    SweepOpened,
    SweepResumed,
    Terminal,
)
from orchestrator.journal.file import Entry, Journal
from orchestrator.journal.parts import Epoch, FileRecord
from orchestrator.journal.record import SweepRecord, TrialRecord
from orchestrator.scheduling.configurations import Configurations
from orchestrator.scheduling.samplers import Sampler
from orchestrator.scheduling.schedulers import Decision, Scheduler
from orchestrator.scheduling.stopping import EarlyStopping


class Conductor:
    """One sweep's decisions.

    Args:
        record: of the sweep, `sweep_opened` applied already (or to be, by `recall`); kept up to date from the journal here.
        journal: where every decision is written.
        sampler: gives configurations by index.
        scheduler: says at each rung whether a trial goes on.
        limit: number of configurations.
        configure: the complete configuration of a trial from its searched parameters.
        folder: gives the absolute folder of a trial from its index.
        concurrent: trials at a time.
        max_retries: of a trial whose process died or that raised an exception.
        repeat: trials of each configuration, with seeds of their own.
        seed_of: the seed of a repeat, from the configuration's seed and the number of the repeat.
        rungs: the epochs after which a trial may be stopped early; where there are any, a configuration's first trial alone is
            judged, and the others run only if it completes.
        placed: brings a recorded configuration up to date with where things lie now.
        fits: whether the sampler's space holds these parameters; what does not fit is not told to it.
    """

    def __init__(
        self,
        *,
        record: SweepRecord,
        journal: Journal,
        sampler: Sampler,
        scheduler: Scheduler,
        limit: int,
        configure: Callable[[Mapping[str, Any]], dict[str, Any]],
        folder: Callable[[int], str],
        concurrent: int,
        max_retries: int = 2,
        repeat: int = 1,
        seed_of: Callable[[int, int], int] = repeat_seed,
        rungs: Collection[int] = (),
        placed: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config,
        fits: Callable[[Mapping[str, Any]], bool] = lambda params: True,
    ) -> None:
        self.record = record
        self._journal, self._sampler, self._disk = journal, sampler, journal.disk
        self._limit, self._configure, self._folder = limit, configure, folder
        self._concurrent = concurrent
        self._most_ahead = 0 if sampler.learns else 1 if rungs and repeat > 1 else sys.maxsize
        self._max_retries, self._repeat, self._seed_of, self._placed = max_retries, repeat, seed_of, placed
        self._configurations = Configurations(sampler, repeat, fits)
        self._stopping = EarlyStopping(scheduler, rungs)
        self._judged = bool(rungs)
        self._next_index = 0
        self._exhausted = False
        self._cancelled = False
        self._waiting: deque[int] = deque()
        self._withdrawn: Counter[int] = Counter()
        self._suggested_at: dict[int, int] = {}
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
        if self._waiting or self._configurations.due or not self._no_more_configurations:
            return False
        return not (self._repeat > 1 and self._judged and any(self.trials[index].repeat == 0 for index in self.live))

    @property
    def done(self) -> bool:
        """Whether every trial has ended and none will follow."""
        return self.no_more and not self.live

    def recall(self, entries: Iterable[Entry], *, same_scheduler: bool = True) -> None:
        """Takes the events of the sweep so far, before anything else is asked; unfinished trials are handed out again first.

        The scheduler is shown every report again. Trials that went on, or ended, did so, whatever it says now.

        Args:
            same_scheduler: whether the scheduler was the same then. If so, an unfinished trial that it stops on the last report
                had been stopped when the driver died, before its end was written: it ends before anything is handed out.
        """
        for entry in entries:
            self.record.apply(entry)
            match entry.event:
                case Suggested():
                    trial = self.trials[entry.index]
                    self._configurations.recall(trial)
                    self._after_suggestion(trial)
                case Reported() as reported:
                    self._judge(self.trials[entry.index], reported.epochs)
                case Terminal():
                    self._after_end(self.trials[entry.index])
                case Started() | Retrying() | SweepOpened() | SweepResumed() | SweepClosed() | Published():
                    pass  # the record has taken them
                case _ as unknown:
                    assert_never(unknown)
        self._waiting = deque(sorted(self.live))
        self.live.clear()
        if not same_scheduler:
            self._stopping.to_stop.clear()

    def deepen(self, repeats_of: Mapping[int, int]) -> None:
        """Single configurations are to have more trials, besides those that the sweep does anyway; after `recall`.

        Args:
            repeats_of: configuration -> how many trials of it there are to be in all.
        """
        self._configurations.ask_for_more(repeats_of)

    def next_trial(self, ahead: int = 0) -> Trial | None:
        """The next trial to run; None where none is due now. `before_run` comes before a worker is given it.

        Args:
            ahead: so many trials beyond those that run may wait for their turn. None does where a sampler learns, which is asked
                at the last moment; and one where repeats of a trial follow only if it is not stopped: what comes next then
                depends on how trials end, and must not depend on when.
        """
        self._end_what_was_stopped()
        if self.is_full(ahead):
            return None
        if self._waiting:
            index = self._waiting.popleft()
            self.live.add(index)
            return self.trial(index)
        if self._configurations.due:
            first, repeat = self._configurations.due[0]
            config = {**first.config, "seed": self._seed_of(first.config["seed"], repeat)}
            return self._suggest(first.params, config, first.config_index, repeat)
        if self._no_more_configurations:
            return None
        config_index = self._configurations.count
        params = self._sampler.suggest(config_index)
        if params is None:
            self._exhausted = True
            return None
        return self._suggest(params, self._configure(params), config_index, 0)

    def is_full(self, ahead: int = 0) -> bool:
        """Whether no place is free, beside `ahead` places to wait in (see `next_trial`)."""
        return len(self.live) >= self._concurrent + min(ahead, self._most_ahead)

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
            fence=self.record.fence(known) + self._withdrawn[index],
        )

    def withdraw(self, index: int) -> None:
        """Takes a trial back that waited at a worker for its turn; should that worker live on unseen, its fence is too low."""
        self._withdrawn[index] += 1

    def before_run(self, index: int) -> None:
        """Makes the trial durable; one that has waited for its turn is."""
        if self._journal.durable_seq < self._suggested_at.pop(index, 0):
            self._journal.commit()

    def is_judged(self, index: int) -> bool:
        """Whether the scheduler may stop the trial."""
        return self._stopping.judges(self.trials[index])

    def retries_left(self, index: int) -> int:
        """How often the trial may still be started again; lost nodes and interruptions of the whole sweep do not count."""
        return self._max_retries - charged_retries(self.trials[index].retries)

    def on_started(self, index: int, began_ms: int | None = None) -> None:
        """A worker begins an attempt at the trial, or began it at a time by its own clock."""
        self._journal.append(Started(began_ms), trial=index, attempt=self.trials[index].attempt)

    def on_report(self, index: int, report: Mapping[str, Any]) -> Decision:
        """Takes a worker's report and says whether the worker goes on with the trial.

        A report of an earlier attempt, or of a trial that has ended, changes nothing.
        """
        trial, state = self.trials[index], State(report["state"])
        if index in self.live and (report["uid"], report["attempt"]) == (self._uid(index), trial.attempt):
            self._take(trial, report, state)
        return Decision.CONTINUE if index in self.live and state is State.RUNNING else Decision.STOP

    def _take(self, trial: TrialRecord, report: Mapping[str, Any], state: State) -> None:
        if report.get("unwritable"):
            self._disk.full(_writer(trial.index), f"trial {trial.index} cannot write ({report['unwritable']})")
            return
        self._disk.room(_writer(trial.index))
        decision = self._take_epochs(trial, report)
        if report.get("retrying"):
            self._retry(trial, str(report["reason"]), report.get("error"))
            self.on_started(trial.index)
        elif state is not State.RUNNING:
            self._end(
                trial,
                state,
                reason=report.get("reason"),
                metrics=report.get("metrics"),
                artifacts=report.get("artifacts"),
                error=report.get("error"),
                divergence=report.get("divergence"),
            )
        elif decision is Decision.STOP:
            self._end(trial, State.STOPPED)

    def on_death(self, index: int, error: str, reason: str = "the worker process died") -> int:
        """The trial's process died and will be started again; returns the number of the new attempt."""
        trial = self.trials[index]
        self._disk.room(_writer(index))
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
        self._configurations.due.clear()
        for index in sorted({*self.live, *self._waiting}):
            self._end(self.trials[index], State.CANCELLED, reason=reason)
        self._waiting.clear()

    def _suggest(self, params: dict[str, Any], config: dict[str, Any], config_index: int, repeat: int) -> Trial:
        index = self._next_index
        failpoint("suggestion.before")
        judged = self._judged and repeat == 0
        entry = self._journal.append(Suggested(params, config, config_index, repeat, judged), trial=index)
        failpoint("suggestion.after")
        self._suggested_at[index] = entry.seq
        self._after_suggestion(self.trials[index])
        return self.trial(index)

    def _after_suggestion(self, trial: TrialRecord) -> None:
        self.live.add(trial.index)
        self._next_index = max(self._next_index, trial.index + 1)
        self._configurations.add(trial)
        if trial.repeat == 0 and not self._judged:
            self._configurations.ask_for_repeats(trial)

    def _take_epochs(self, trial: TrialRecord, report: Mapping[str, Any]) -> Decision:
        new = [epoch for epoch in report["epochs"] if epoch["epoch"] > trial.epoch]
        health = report.get("init_health")
        if new or report["notes"] or (health and not trial.init_health):
            reported = Reported(
                new,
                report["checkpoint"],
                report["notes"],
                report["best"] if new else None,
                report.get("ran_on"),
                report.get("system") if new else None,
                health,
            )
            self._journal.append(reported, trial=trial.index, attempt=trial.attempt)
        return self._judge(trial, new)

    def _judge(self, trial: TrialRecord, epochs: Sequence[Epoch]) -> Decision:
        return self._stopping.report(trial, epochs, self.record.opened.metric, self._mode)

    def _end_what_was_stopped(self) -> None:
        """Ends the trials that the scheduler had stopped when the last driver died."""
        for index in [index for index in self._waiting if index in self._stopping.to_stop]:
            self._waiting.remove(index)
            self._end(self.trials[index], State.STOPPED)

    def _retry(self, trial: TrialRecord, reason: str, error: str | None) -> None:
        self._journal.append(Retrying(reason, error), trial=trial.index, attempt=trial.attempt)

    def _end(
        self,
        trial: TrialRecord,
        state: State,
        *,
        reason: str | None = None,
        metrics: Mapping[str, float] | None = None,
        artifacts: Sequence[FileRecord] | None = None,
        error: str | None = None,
        divergence: Divergence | None = None,
    ) -> None:
        terminal = Terminal(
            state=state,
            epoch=trial.epoch,
            value=trial.value,
            best_epoch=trial.best_epoch,
            metrics=dict(metrics or {}),
            artifacts=[self._below_sweep(trial.index, file) for file in artifacts or ()],
            reason=reason,
            error=error,
            divergence=divergence,
        )
        failpoint("ending.before")
        self._journal.append(terminal, trial=trial.index, attempt=trial.attempt)
        failpoint("ending.after")
        self._after_end(trial)

    def _below_sweep(self, index: int, file: FileRecord) -> FileRecord:
        """A file of the trial as the journal names it: by its path below the sweep's folder."""
        folder = Path(self._folder(index))
        return {**file, "path": str(Path(TRIALS, folder.name, Path(file["path"]).relative_to(folder)))}

    def _after_end(self, trial: TrialRecord) -> None:
        self._disk.room(_writer(trial.index))
        self.live.discard(trial.index)
        self.totals[trial.state] += 1
        self.error = trial.error or self.error
        self._stopping.end(trial)
        if self._judged and trial.repeat == 0 and trial.state is State.COMPLETED and not self._cancelled:
            self._configurations.ask_for_repeats(trial)
        self._configurations.end(trial, self._mode)

    @property
    def _no_more_configurations(self) -> bool:
        return self._exhausted or self._configurations.count >= self._limit

    @property
    def _mode(self) -> str:
        return self.record.opened.mode

    def _uid(self, index: int) -> str:
        return f"{self.record.opened.uid_in_files}/{index}"


def _writer(index: int) -> str:
    """The trial, as what waits for room on a disk."""
    return f"trial {index}"
