"""Folds a sweep's events into what is to be written to its MLflow runs: the same events and files, the same writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from orchestrator.base.layout import RUN_CONFIG, RUN_ERROR
from orchestrator.base.records import STARTS_OVER, State
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
from orchestrator.journal.file import Entry
from orchestrator.journal.place import located_file
from orchestrator.journal.record import Scores
from orchestrator.stores.runs import MAX_TAG_LENGTH, Artifact, Metric, RunWrite, is_finite, safe_name, text_of
from orchestrator.tracking.describe import NOTE, description, to_yaml
from orchestrator.tracking.spelling import NONE, Spelling
from orchestrator.tracking.view import View

STATUS = {
    State.COMPLETED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.DIVERGED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.CANCELLED: "KILLED",
}

JOURNAL_TAG = "journal"
"""`<number of the last event> <SHA-256 of the events up to it>`, on the sweep's run."""


@dataclass
class _TrialView:
    """What later events of a trial need to know of earlier ones.

    Args:
        waited: for a resume, before the journal knew of an attempt: one may have begun all the same, and left epochs.
        own_keys: the parameters that its run has.
    """

    suggested_ms: int
    params: dict[str, Any]
    config: dict[str, Any] | None
    config_index: int
    repeat: int
    judged: bool
    created: bool = False
    waited: bool = False
    ended: bool = False
    last_epoch: int = 0
    start_ms: int = 0
    name: str = ""
    own_keys: frozenset[str] = frozenset()


@dataclass
class SweepView:
    """The state of a sweep's runs after the events so far.

    `fold` takes events in order and collects the writes; `take` hands them over. Events that were shipped before are folded
    too, and their writes dropped, so that a new shipper knows what the old one knew.

    Args:
        folder: of the sweep, below which its files lie.
        is_replaced: whether the journal has a later version of what an event publishes.
    """

    folder: Path = field(default_factory=Path)
    is_replaced: Callable[[Entry], bool] = lambda entry: False
    uid: str = ""
    closed: bool = False
    view: View | None = None
    last_ms: int = 0
    opened: dict[str, Any] = field(default_factory=dict)
    weight: int = 0
    """Metrics among the writes not taken yet."""
    _trials: dict[int, _TrialView] = field(default_factory=dict)
    _writes: dict[str, RunWrite] = field(default_factory=dict)
    _scores: Scores = field(default_factory=lambda: Scores("max"))
    _ended: int = 0
    _opening: SweepOpened | None = None
    _spelling: Spelling | None = None
    _key_sets: dict[frozenset[str], frozenset[str]] = field(default_factory=dict)
    _start_ms: int = 0
    _notes_published: bool = False

    def fold(self, entry: Entry) -> None:
        """Takes one event."""
        self.last_ms = max(self.last_ms, entry.time_ms)
        match entry.event:
            case SweepOpened() as event:
                self._sweep_opened(event, entry.time_ms)
            case Suggested() as event:
                self._suggested(entry, event)
            case Started() as event:
                self._started(entry, event)
            case Reported() as event:
                self._reported(entry, event)
            case Retrying() as event:
                write, _ = self._trial_write(entry.index, entry.time_ms)
                write.tags["retry_reason"] = text_of(event.reason)[:MAX_TAG_LENGTH]
            case Terminal() as event:
                self._terminal(entry, event)
            case SweepResumed() as event:
                self._sweep_resumed(entry, event)
            case SweepClosed() as event:
                self._sweep_closed(event, entry.time_ms)
            case Published() as event:
                self._published(entry, event)
            case _ as unknown:
                assert_never(unknown)

    def take(self) -> list[RunWrite]:
        """The writes collected since the last call, the sweep's own run first."""
        writes = sorted(self._writes.values(), key=lambda write: write.kind != "sweep")
        self._writes = {}
        self.weight = 0
        return writes

    def created(self) -> set[str]:
        """Uids of the runs that exist once everything taken is written."""
        uids = {f"{self.uid}/{index}" for index, trial in self._trials.items() if trial.created}
        return uids | {self.uid} if self.uid else uids

    def interrupt(self) -> None:
        """The driver is gone and the sweep is not closed: what is open becomes `interrupted`, until a resume reopens it."""
        if self.closed or not self.uid:
            return
        for index, trial in self._trials.items():
            if not trial.ended:
                write, trial = self._trial_write(index, self.last_ms)
                self._end(write, State.INTERRUPTED, trial.start_ms, self.last_ms)
        self._end(self._sweep_write(), State.INTERRUPTED, self._start_ms, self.last_ms)

    def tag_journal(self, last: int, digest: str) -> None:
        """Tags the sweep's run with what its journal is: `verify` then finds any event that was changed or cut off since.

        Args:
            last: number of the last event that the digest covers.
            digest: `Reader.digest` of the events up to it.
        """
        if self.uid:
            self._sweep_write().tags[JOURNAL_TAG] = f"{last} {digest}"

    def _sweep_opened(self, event: SweepOpened, time_ms: int) -> None:
        data = event.to_data()
        config = event.config
        # The environment, the space and so on are for the description; of the configuration it needs this alone.
        self.opened = {**data, "config": {"choices": config.get("choices"), "epochs": config.get("epochs")}}
        self.uid = event.uid
        self._opening = event
        self._spelling = Spelling(event)
        self.view = View(event, time_ms)
        self._scores = Scores(event.mode)
        self._start_ms = time_ms
        write = self._sweep_write()
        write.create = True
        write.name = self.uid
        write.start_ms = time_ms
        write.tags |= {
            "kind": "sweep",
            "sweep_uid": self.uid,
            "reason": State.RUNNING.value,
            "metric": text_of(event.metric),
            "mode": text_of(event.mode),
            NOTE: description(data),  # a published one follows, unless an earlier version wrote the journal
        }
        write.tags |= self._spelling.source
        write.dataset = self._spelling.dataset
        write.params |= {"trials": text_of(event.trials), **self._spelling.sweep_params(config)}
        write.artifacts.append(Artifact(RUN_CONFIG, text=to_yaml(config)))

    def _suggested(self, entry: Entry, event: Suggested) -> None:
        assert self.view is not None
        self.view.suggested(event.params)
        self._trials[entry.index] = _TrialView(
            entry.time_ms, event.params, event.config, event.config_index, event.repeat, event.judged
        )

    def _started(self, entry: Entry, event: Started) -> None:
        write, trial = self._trial_write(entry.index, event.began_ms or entry.time_ms, started=True)
        write.tags |= {"attempt": text_of(entry.attempt), "reason": State.RUNNING.value}
        write.status, write.end_ms = "RUNNING", None
        trial.ended = False

    def _reported(self, entry: Entry, event: Reported) -> None:
        write, trial = self._trial_write(entry.index, entry.time_ms)
        if event.ran_on:
            write.tags |= {f"ran_on.{key}": text_of(value) for key, value in event.ran_on.items() if value is not None}
        if event.init_health:
            write.tags["init_health"] = event.init_health["verdict"]
            if layer := event.init_health.get("layer"):
                write.tags["init_health_layer"] = f"{layer} ({event.init_health.get('signal')})"[:MAX_TAG_LENGTH]
        if STARTS_OVER in event.notes:
            write.tags["restarted_from_scratch"] = text_of(True)
        for epoch in event.epochs:
            number = epoch["epoch"]
            # An epoch trained again, after a lost checkpoint, has new timestamps: a second row for its step.
            if number <= trial.last_epoch:
                continue
            trial.last_epoch = number
            time_ms = epoch["time_ms"]
            numbers = dict(epoch["metrics"])
            if event.system and epoch is event.epochs[-1]:
                numbers |= {f"system/{key}": value for key, value in event.system.items()}
            self._numbers(write, numbers, time_ms, number)

    def _terminal(self, entry: Entry, event: Terminal) -> None:
        write, trial = self._trial_write(entry.index, entry.time_ms)
        self._end(write, event.state, trial.start_ms, entry.time_ms)
        trial.ended = True
        if (name := self.spelling.name_at_end(trial.name, event.state)) != trial.name:
            write.name = name
        if event.reason and event.reason != event.state:
            write.tags["detail"] = text_of(event.reason)[:MAX_TAG_LENGTH]
        numbers = dict(event.metrics)
        if event.best_epoch is not None and is_finite(event.value):
            write.tags["best_epoch"] = text_of(event.best_epoch)
            numbers |= {self._best_key(): event.value, "best/epoch": event.best_epoch}
        self._numbers(write, numbers, entry.time_ms, self.spelling.step(event.best_epoch or event.epoch or 0))
        for artifact in event.artifacts:
            path = self._located(artifact["path"])
            write.artifacts.append(Artifact(path.name, path=path))
            write.tags[safe_name(f"sha256.{path.name}")] = text_of(artifact["sha256"])
        if event.divergence and (signal := event.divergence.get("signal")):
            told = event.divergence
            layer = f" of {told['layer']}" if "layer" in told else ""
            place = f"epoch {told['epoch']}, step {told['step']}, lr {text_of(told.get('lr'))}"
            write.tags["diverged_at"] = f"{signal}{layer} at {place}"[:MAX_TAG_LENGTH]
        if event.error:
            write.artifacts.append(Artifact(RUN_ERROR, text=text_of(event.error)))
        self._ended += 1
        before = self._scores.best and self._scores.best.mean
        self._scores.add(trial.config_index, entry.index, event.state, event.value, judged=trial.judged)
        best = self._scores.best and self._scores.best.mean
        if best is not None and best != before:
            self._numbers(self._sweep_write(), {self._best_so_far_key(): best}, entry.time_ms, self._ended)

    def _sweep_resumed(self, entry: Entry, event: SweepResumed) -> None:
        self.closed = False
        for trial in self._trials.values():
            trial.waited = not trial.created
        self.opened["resumes"] = [*self.opened.get("resumes", []), event.changes]
        self.opened["trials"] = event.trials if event.trials is not None else self.opened["trials"]
        write = self._sweep_write()
        write.tags |= {"reason": State.RUNNING.value, "resumes": str(len(self.opened["resumes"]))}
        self._describe(write)
        write.status, write.end_ms = "RUNNING", None
        self._add_keys(self.spelling.learn(event.plan), entry.time_ms)

    def _add_keys(self, keys: list[str], time_ms: int) -> None:
        """Other trials may have more parameters from now on: those there are show that they have none."""
        for index, trial in self._trials.items():
            lacking = [key for key in keys if key not in trial.own_keys]
            if trial.created and lacking:
                write, _ = self._trial_write(index, time_ms)
                write.params |= dict.fromkeys(lacking, NONE)

    def _sweep_closed(self, event: SweepClosed, time_ms: int) -> None:
        self.closed = True
        write = self._sweep_write()
        failed = event.reason == "failed" or (self.spelling.current and not event.best)
        write.status, write.end_ms = "FAILED" if failed else "FINISHED", max(time_ms, self._start_ms)
        write.tags["reason"] = text_of(event.reason)
        self._describe(write, event)
        numbers: dict[str, Any] = {f"trials/{state}": count for state, count in event.totals.items()}
        if event.seconds is not None:
            numbers["seconds"] = event.seconds
        if event.best:
            write.tags |= {
                "best_trial": f"{self.uid}/{event.best['trial']}",
                "best_value": text_of(event.best["value"]),
            }
            if self.spelling.current:
                numbers[self._best_key()] = event.best["value"]
        self._numbers(write, numbers, time_ms, self.spelling.step(self._ended))
        for kept in event.weights or ():
            path = self._located(kept["path"])
            # A sweep that goes on keeps others in the end; what an earlier close named may be gone when it is shipped again.
            if path.is_file():
                weights, _ = self._trial_write(int(kept["trial"]), time_ms)
                weights.artifacts.append(Artifact(path.name, path=path))
                weights.tags[safe_name(f"sha256.{path.name}")] = text_of(kept["sha256"])

    def _located(self, path: str) -> Path:
        assert self._opening is not None
        return located_file(path, self.folder, self._opening)

    def _describe(self, write: RunWrite, closed: SweepClosed | None = None) -> None:
        """Describes a sweep of a version that did not publish its descriptions."""
        if not self._notes_published:
            write.tags[NOTE] = description(self.opened, closed.to_data() if closed else None)

    def _published(self, entry: Entry, event: Published) -> None:
        """Of the sweep's own runs; others are written by whoever makes them."""
        of_trial = event.run.removeprefix(f"{self.uid}/")
        if event.run == self.uid:
            write = self._sweep_write()
            self._notes_published |= event.key == NOTE
        elif of_trial.isdecimal() and int(of_trial) in self._trials:
            write, _ = self._trial_write(int(of_trial), entry.time_ms)
        else:
            return
        if event.text is not None:
            write.tags[safe_name(event.key)] = event.text[:MAX_TAG_LENGTH]
        elif event.path is not None:
            write.artifacts = [artifact for artifact in write.artifacts if artifact.name != event.key]
            path = self._located(event.path)
            write.artifacts.append(Artifact(event.key, path=path, is_replaced=lambda: self.is_replaced(entry)))
            write.tags[safe_name(f"sha256.{event.key}")] = event.sha256

    def _best_key(self) -> str:
        return "best/" + safe_name(self.opened["metric"]).replace("/", "_")

    def _best_so_far_key(self) -> str:
        """The name of the curve over the trials that have ended: it is no single value, and has a name of its own."""
        return self._best_key().replace("best/", "best_so_far/", 1) if self.spelling.current else self._best_key()

    @property
    def spelling(self) -> Spelling:
        assert self._spelling is not None
        return self._spelling

    def _numbers(self, write: RunWrite, numbers: Mapping[str, Any], time_ms: int, step: int) -> None:
        found = [
            Metric(safe_name(key), step, time_ms, float(value)) for key, value in numbers.items() if is_finite(value)
        ]
        write.metrics += found
        self.weight += len(found)

    def _end(self, write: RunWrite, state: State, start_ms: int, time_ms: int) -> None:
        """A run ends no earlier than it began, also where the clock was set back meanwhile."""
        write.status, write.end_ms = STATUS[state], max(time_ms, start_ms)
        write.tags["reason"] = state.value

    def _sweep_write(self) -> RunWrite:
        return self._writes.setdefault(self.uid, RunWrite(self.uid, "sweep"))

    def _trial_write(self, index: int, time_ms: int, *, started: bool = False) -> tuple[RunWrite, _TrialView]:
        """The open write of a trial; its run is created by the first event that needs one.

        Args:
            started: whether that event begins an attempt; the run begins then, otherwise when the trial was suggested.
        """
        trial = self._trials[index]
        uid = f"{self.uid}/{index}"
        write = self._writes.get(uid)
        if write is None:
            write = self._writes[uid] = RunWrite(uid, "trial")
        if not trial.created:
            trial.created = True
            config = trial.config or {}
            write.create = True
            write.name = trial.name = self.spelling.name(self.uid, index, trial.params)
            write.dataset = self.spelling.dataset
            write.start_ms = trial.start_ms = time_ms if started and not trial.waited else trial.suggested_ms
            write.tags |= {"kind": "trial", "trial_uid": uid, "sweep_uid": self.uid, "trial": str(index)}
            write.tags |= {"config_index": str(trial.config_index), "repeat": str(trial.repeat)}
            write.tags |= self.spelling.source
            write.params |= self.spelling.params(trial.params, config)
            self._numbers(write, self.spelling.logarithms(trial.params), write.start_ms, 0)
            own = frozenset(write.params)
            trial.own_keys = self._key_sets.setdefault(own, own)
            write.artifacts.append(Artifact(RUN_CONFIG, text=to_yaml(config)))
            trial.config, trial.params = None, {}
        return write, trial
