"""What a sweep's events add up to: every trial with its attempts and its end, and which configuration is best so far.

The one place where events become state: the driver keeps such a record while it runs and rebuilds it to resume; `status`, `show`
and `verify` read one.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, assert_never

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.base.records import CAN_BE_BEST, TERMINAL, Divergence, InitHealth, State
from orchestrator.base.targets import with_current_names
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
from orchestrator.journal.file import Entry, Reader
from orchestrator.journal.parts import Best, Epoch, FileRecord

ATTEMPTS_A_GENERATION = 1_000_000


@dataclass
class TrialRecord:
    """One trial.

    Args:
        config_index: number of its configuration; `repeat` trials share one and differ in their seed.
        repeat: which of them, from 0.
        judged: whether a scheduler may stop it early.
        attempt: number of the attempt that is under way, or comes next.
        started: whether that attempt has begun.
        attempts: of each attempt that began, its number.
        began_ms: of each attempt that began, when; milliseconds since 1970.
        broke_off_ms: of each attempt that was not the last, when: the retry, or the last event before its driver died.
        epoch: the last that was reported.
        epochs: `{"epoch", "time_ms", "metrics"}` of each one, where they are kept.
        value: the objective at `best_epoch`.
        state: RUNNING until it has ended.
        ran_on: what its last attempt computed on, see `training.device.ran_on`.
        init_health: of the weights that it began with; None where nothing is known.
        divergence: what left the finite range first.
    """

    index: int
    params: dict[str, Any]
    config: dict[str, Any]
    config_index: int
    repeat: int
    suggested_ms: int
    judged: bool = False
    attempt: int = 1
    started: bool = False
    attempts: list[int] = field(default_factory=list)
    began_ms: list[int] = field(default_factory=list)
    broke_off_ms: list[int] = field(default_factory=list)
    epoch: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    value: float | None = None
    best_epoch: int | None = None
    notes: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    state: State = State.RUNNING
    reason: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: list[FileRecord] = field(default_factory=list)
    error: str | None = None
    ended_ms: int | None = None
    ran_on: Mapping[str, Any] | None = None
    init_health: InitHealth | None = None
    divergence: Divergence | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    def broke_off(self, time_ms: int) -> None:
        """Its attempt, where one has begun, ends without an end of the trial."""
        if self.started:
            self.broke_off_ms.append(time_ms)


@dataclass
class TrialCount:
    """How many trials a sweep has and is to have, in one way for whoever tells it.

    The repeats of a configuration that a scheduler stopped, or that gave no result, are not trained where it was judged first.

    Args:
        configurations: that there are to be, at most.
        repeat: trials of each.
        more: repeats beyond that, of single configurations.
    """

    configurations: int
    repeat: int = 1
    more: int = 0
    trials: int = 0
    firsts: int = 0
    done: int = 0
    without_repeats: int = 0
    repeats_wanted: int = 0
    judged: set[int] = field(default_factory=set)

    def suggested(self, index: int, repeat: int, *, judged: bool) -> None:
        """Takes a suggestion."""
        self.trials += 1
        self.firsts += repeat == 0
        if repeat == 0 and judged:
            self.judged.add(index)
        elif repeat == 0:
            self.repeats_wanted += self.repeat - 1

    def ended(self, index: int, state: State) -> None:
        """Takes an end."""
        self.done += 1
        if index in self.judged:
            self.judged.remove(index)
            self.repeats_wanted += (self.repeat - 1) * (state is State.COMPLETED)
            self.without_repeats += state is not State.COMPLETED

    @property
    def planned(self) -> int:
        """How many trials there are to be, at most; never fewer than there are."""
        wanted = max(self.configurations, self.firsts) * self.repeat - self.without_repeats * (self.repeat - 1)
        return max(wanted + self.more, self.trials)

    @property
    def open(self) -> int:
        """Trials that were suggested and have not ended."""
        return self.trials - self.done

    @property
    def configurations_to_come(self) -> int:
        return max(self.configurations - self.firsts, 0)

    @property
    def repeats_due(self) -> int:
        """Repeats that are sure to come."""
        return max(self.repeats_wanted + self.more - (self.trials - self.firsts), 0)


@dataclass
class SweepRecord:
    """One sweep, folded from its events by `apply`.

    Args:
        keep_epochs: whether trials keep the metrics of their epochs, or the last epoch's number alone.
        opening: what the sweep began with; None before the first event.
        plan: the plan in force, a SweepPlan as JSON: that of the last resume, or of the start.
        generation: how often the sweep was resumed.
        closed: how it ended; None before, and again once the sweep is resumed.
        sessions: of each driver before the present one, when it began and its last event; milliseconds since 1970.
        worked_ms: how long earlier sessions lasted, from their start to their last event.
        spent_ms: the same, of those that the time budget in force counts.
        repeats_of: configuration -> how many trials of it there are to be, where a resume asked for more than of the others.
        published: (run, key) -> what was published of it last.
    """

    keep_epochs: bool = False
    opening: SweepOpened | None = None
    opened_ms: int = 0
    plan: str = ""
    resumes: list[SweepResumed] = field(default_factory=list)
    closed: SweepClosed | None = None
    sessions: list[tuple[int, int]] = field(default_factory=list)
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    scores: Scores | None = None
    session_ms: int = 0
    worked_ms: int = 0
    spent_ms: int = 0
    last_ms: int = 0
    last_seq: int = 0
    repeats_of: dict[int, int] = field(default_factory=dict)
    published: dict[tuple[str, str], Published] = field(default_factory=dict)

    @property
    def opened(self) -> SweepOpened:
        """What the sweep began with.

        Raises:
            NotReadyError: its driver was killed before anything was recorded.
        """
        self.check_opened()
        assert self.opening is not None
        return self.opening

    def check_opened(self) -> None:
        """
        Raises:
            NotReadyError: its driver was killed before anything was recorded.
        """
        if self.opening is None:
            raise NotReadyError(
                "the sweep was killed before its first trial, and nothing is recorded of it; launch it again"
            )

    @property
    def uid(self) -> str:
        return self.opened.uid

    @property
    def generation(self) -> int:
        return len(self.resumes)

    @property
    def configurations(self) -> int:
        """How many configurations have been suggested."""
        return max((trial.config_index for trial in self.trials.values()), default=-1) + 1

    @property
    def unfinished(self) -> list[TrialRecord]:
        """The trials that have not ended, by index."""
        return [trial for trial in self.trials.values() if not trial.ended]

    def count(self, configurations: int, repeat: int = 1) -> TrialCount:
        """How many trials there are, and are to be with so many configurations."""
        more = sum(max(0, repeats - repeat) for repeats in self.repeats_of.values())
        count = TrialCount(configurations, repeat, more)
        for trial in self.trials.values():
            count.suggested(trial.index, trial.repeat, judged=trial.judged)
            if trial.ended:
                count.ended(trial.index, trial.state)
        return count

    def fence(self, trial: TrialRecord) -> int:
        """A number that grows with every attempt and every resume: a worker with a smaller one may change nothing."""
        return self.generation * ATTEMPTS_A_GENERATION + trial.attempt

    def apply(self, entry: Entry) -> None:
        """Takes the next event."""
        event = entry.event
        if isinstance(event, SweepOpened | SweepResumed):
            self._begin_session(entry, counts_anew=isinstance(event, SweepResumed) and event.new_budget)
        self.last_ms, self.last_seq = max(self.last_ms, entry.time_ms), entry.seq
        match event:
            case SweepOpened():
                if self.opening is not None:
                    raise _damaged(entry, "opens the sweep a second time")
                self.opening, self.opened_ms, self.plan = event, entry.time_ms, event.plan
                self.scores = Scores(event.mode)
            case SweepResumed():
                self._resume(event)
            case SweepClosed():
                self.closed = event
            case Suggested():
                self._suggest(entry, event)
            case Started():
                trial = self._trial(entry)
                trial.attempt, trial.started = entry.attempt or 1, True
                trial.attempts.append(trial.attempt)
                trial.began_ms.append(event.began_ms or entry.time_ms)
            case Reported():
                self._report(self._trial(entry), event)
            case Retrying():
                trial = self._trial(entry)
                trial.broke_off(entry.time_ms)
                trial.retries.append(event.reason)
                trial.attempt, trial.started = (entry.attempt or 1) + 1, False
            case Terminal():
                self._end(self._trial(entry), event, entry.time_ms)
            case Published():
                self.published[event.run, event.key] = event  # shown in MLflow; nothing is decided from it
            case _:
                assert_never(event)

    def _begin_session(self, entry: Entry, *, counts_anew: bool) -> None:
        """A driver begins: the time up to the last event of the one before was that one's."""
        if self.opening is not None:
            self.sessions.append((self.session_ms, self.last_ms))
            for trial in self.unfinished:
                trial.broke_off(self.last_ms)
        session_ms = self.last_ms - self.session_ms
        self.worked_ms += session_ms
        self.spent_ms = 0 if counts_anew else self.spent_ms + session_ms
        self.session_ms = self.last_ms = max(self.last_ms, entry.time_ms)

    def _resume(self, event: SweepResumed) -> None:
        self.resumes.append(event)
        self.plan = event.plan or self.plan
        for key, repeats in event.repeats_of.items():
            self.repeats_of[int(key)] = max(repeats, self.repeats_of.get(int(key), 0))
        self.closed = None
        for trial in self.unfinished:
            trial.attempt += trial.started
            trial.started = False

    def _suggest(self, entry: Entry, event: Suggested) -> None:
        if entry.index in self.trials:
            raise _damaged(entry, f"suggests trial {entry.index} a second time")
        self.trials[entry.index] = TrialRecord(
            index=entry.index,
            params=event.params,
            config=with_current_names(event.config),
            config_index=event.config_index,
            repeat=event.repeat,
            suggested_ms=entry.time_ms,
            judged=event.judged,
        )

    def _trial(self, entry: Entry) -> TrialRecord:
        if entry.index not in self.trials:
            raise _damaged(entry, "is of a trial never suggested")
        return self.trials[entry.index]

    def _report(self, trial: TrialRecord, event: Reported) -> None:
        trial.notes += event.notes
        trial.ran_on = event.ran_on or trial.ran_on
        trial.init_health = event.init_health or trial.init_health
        if event.epochs:
            trial.epoch = int(event.epochs[-1]["epoch"])
            trial.epochs += event.epochs if self.keep_epochs else []
        if event.best:
            trial.best_epoch, trial.value = event.best

    def _end(self, trial: TrialRecord, event: Terminal, time_ms: int) -> None:
        trial.state, trial.reason, trial.error = event.state, event.reason, event.error
        trial.epoch, trial.value, trial.best_epoch = event.epoch, event.value, event.best_epoch
        trial.metrics, trial.artifacts = event.metrics, event.artifacts
        trial.divergence = event.divergence
        trial.ended_ms = time_ms
        if self.scores:
            self.scores.add(trial.config_index, trial.index, trial.state, trial.value, judged=trial.judged)

    def summaries(self) -> list[Summary]:
        """The configurations that can be the best, the best first."""
        return [self._summary(score) for score in self.scores.ranked()] if self.scores else []

    def _summary(self, score: Score) -> Summary:
        first = self.trials[min(score.trials)]
        members = [self.trials[index] for index in sorted(score.unselected)]
        shared = set.intersection(
            *({key for key, value in trial.metrics.items() if is_number(value)} for trial in members)
        )
        return {
            "trial": first.index,
            "value": score.mean,
            "spread": score.spread,
            "repeats": len(score.trials),
            "selected": score.selected,
            "epoch": first.best_epoch,
            "params": first.params,
            "metrics": {key: statistics.fmean(trial.metrics[key] for trial in members) for key in sorted(shared)},
        }


class Summary(Best):
    """A configuration with what is shown of it.

    Args:
        epoch: the best one of its first trial.
        metrics: means over the trials of which `value` is the mean.
    """

    epoch: int | None
    metrics: dict[str, float]


@dataclass
class Score:
    """What a configuration came to over its repeats.

    Early stopping judges the first repeat alone, and the others run if it survives. The value of a survivor is selected for being
    good, and a mean with it is too good. So it is left out of `mean` and `spread`, and shown apart, as soon as there are others.

    Args:
        values: trial -> its objective, of all trials that can be the best.
        judged: the trial that a scheduler judged.
    """

    config_index: int
    values: dict[int, float] = field(default_factory=dict)
    judged: int | None = None

    @property
    def trials(self) -> list[int]:
        """Their indices, in the order in which they ended."""
        return list(self.values)

    @property
    def unselected(self) -> dict[int, float]:
        """The values that count: all but that of the trial that was judged, or that one where it is alone."""
        return {trial: value for trial, value in self.values.items() if trial != self.judged} or self.values

    @property
    def selected(self) -> float | None:
        """The value that is left out; None where none is."""
        return self.values.get(self.judged) if self.judged is not None and len(self.values) > 1 else None

    @property
    def mean(self) -> float:
        values = self.unselected.values()
        try:
            return statistics.fmean(values)
        except OverflowError:  # of values near the end of all floats
            return math.fsum(value / len(values) for value in values)

    @property
    def spread(self) -> float | None:
        """The standard deviation; None of a single value."""
        values = self.unselected.values()
        try:
            return statistics.stdev(values) if len(values) > 1 else None
        except OverflowError:
            return None


class Scores:
    """Which configuration is best: of those with the most repeats the one with the best mean; ties go to the lower index.

    The repeats are counted with the one that a scheduler judged, the mean is taken without it (see `Score`).
    """

    def __init__(self, mode: str) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._scores: dict[int, Score] = {}
        self.best: Score | None = None

    def add(self, config_index: int, trial: int, state: State, value: object, *, judged: bool = False) -> None:
        """Takes how a trial ended; one that cannot be best is passed over."""
        if state not in CAN_BE_BEST or not is_number(value):
            return
        score = self._scores.setdefault(config_index, Score(config_index))
        score.values[trial] = float(value)
        score.judged = trial if judged else score.judged
        if self.best is None or self._key(score) >= self._key(self.best):
            self.best = score

    def ranked(self) -> list[Score]:
        """All of them, the best first."""
        return sorted(self._scores.values(), key=self._key, reverse=True)

    def _key(self, score: Score) -> tuple[int, float, int]:
        return len(score.values), self._sign * score.mean, -score.config_index


def _damaged(entry: Entry, why: str) -> NotReadyError:
    return NotReadyError(f"the journal is damaged: event {entry.seq} ({entry.kind}) {why}; put a copy in its place")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of the journal is a finite number; others are written as text."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def read_sweep(folder: Path, *, keep_epochs: bool = False) -> SweepRecord:
    """The record of the sweep in `folder`, from its journal.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
    """
    record = SweepRecord(keep_epochs=keep_epochs)
    for event in read_events(folder):
        record.apply(event)
    return record


def read_events(folder: Path) -> Iterator[Entry]:
    """All committed events of the sweep in `folder`.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
    """
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        yield from reader.events()
