"""Folds a sweep's events into what is to be written to its MLflow runs: the same events and files, the same writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.base.records import STARTS_OVER, State
from orchestrator.journal.file import Event
from orchestrator.journal.record import Scores
from orchestrator.stores.runs import MAX_TAG_LENGTH, Artifact, Metric, RunWrite, is_finite, safe_name, text_of
from orchestrator.tracking.describe import description, to_yaml, trial_params

STATUS = {
    State.COMPLETED: "FINISHED",
    State.STOPPED: "FINISHED",
    State.DIVERGED: "FAILED",
    State.INFEASIBLE: "FAILED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "KILLED",
    State.CANCELLED: "KILLED",
}
SWEEP_STATUS = {"failed": "FAILED"}


@dataclass
class _TrialView:
    """What later events of a trial need to know of earlier ones."""

    suggested_ms: int
    params: dict[str, Any]
    config: dict[str, Any] | None
    config_index: int
    repeat: int
    created: bool = False
    ended: bool = False
    last_epoch: int = 0


@dataclass
class SweepView:
    """The state of a sweep's runs after the events so far.

    `fold` takes events in order and collects the writes; `take` hands them over. Events that were shipped before are folded
    too, and their writes dropped, so that a new shipper knows what the old one knew.
    """

    uid: str = ""
    closed: bool = False
    last_ms: int = 0
    opened: dict[str, Any] = field(default_factory=dict)
    weight: int = 0
    """Metrics among the writes not taken yet."""
    _trials: dict[int, _TrialView] = field(default_factory=dict)
    _writes: dict[str, RunWrite] = field(default_factory=dict)
    _scores: Scores = field(default_factory=lambda: Scores("max"))
    _ended: int = 0

    def fold(self, event: Event) -> None:
        """Takes one event."""
        self.last_ms = max(self.last_ms, event.time_ms)
        match event.kind:
            case "sweep_opened":
                self._sweep_opened(event)
            case "suggested":
                assert event.trial is not None
                self._suggested(event.trial, event)
            case "started":
                self._started(event)
            case "reported":
                self._reported(event)
            case "retrying":
                write, _ = self._trial_write(event)
                write.tags["retry_reason"] = text_of(event.data.get("reason"))[:MAX_TAG_LENGTH]
            case "terminal":
                self._terminal(event)
            case "sweep_resumed":
                self._sweep_resumed(event)
            case "sweep_closed":
                self._sweep_closed(event)

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
                event = Event(0, self.last_ms, "interrupted", index, None, {})
                write, _ = self._trial_write(event)
                self._end(write, State.INTERRUPTED, self.last_ms)
        self._end(self._sweep_write(), State.INTERRUPTED, self.last_ms)

    def _sweep_opened(self, event: Event) -> None:
        self.opened = {key: value for key, value in event.data.items() if key != "config"}
        config = event.data.get("config") or {}
        self.opened["config"] = {"choices": config.get("choices"), "epochs": config.get("epochs")}
        self.uid = event.data["uid"]
        self._scores = Scores(event.data["mode"])
        write = self._sweep_write()
        write.create = True
        write.name = self.uid
        write.start_ms = event.time_ms
        write.tags |= {
            "kind": "sweep",
            "sweep_uid": self.uid,
            "reason": State.RUNNING.value,
            "metric": text_of(event.data["metric"]),
            "mode": text_of(event.data["mode"]),
            "mlflow.note.content": description(event.data),
        }
        searched = {entry["key"] for entry in event.data.get("space") or []}
        fixed = {key: value for key, value in trial_params({}, config).items() if key not in searched}
        write.params |= {"trials": text_of(event.data.get("trials")), **fixed}
        write.artifacts.append(Artifact("config.yaml", text=to_yaml(config)))

    def _suggested(self, index: int, event: Event) -> None:
        data = event.data
        group, repeat = data.get("config_index", index), data.get("repeat", 0)
        self._trials[index] = _TrialView(event.time_ms, data["params"], data["config"], group, repeat)

    def _started(self, event: Event) -> None:
        write, trial = self._trial_write(event)
        write.tags |= {"attempt": text_of(event.attempt), "reason": State.RUNNING.value}
        write.status, write.end_ms = "RUNNING", None
        trial.ended = False

    def _reported(self, event: Event) -> None:
        write, trial = self._trial_write(event)
        if STARTS_OVER in event.data.get("notes", ()):
            write.tags["restarted_from_scratch"] = text_of(True)
        for epoch in event.data["epochs"]:
            number = epoch["epoch"]
            # An epoch trained again, after a lost checkpoint, has new timestamps: a second row for its step.
            if number <= trial.last_epoch:
                continue
            trial.last_epoch = number
            time_ms = epoch["time_ms"]
            for key, value in epoch["metrics"].items():
                if is_finite(value):
                    write.metrics.append(Metric(safe_name(key), number, time_ms, float(value)))
                    self.weight += 1

    def _terminal(self, event: Event) -> None:
        write, trial = self._trial_write(event)
        data = event.data
        state = State(data["state"])
        self._end(write, state, event.time_ms)
        trial.ended = True
        if data.get("reason") and data["reason"] != state:
            write.tags["detail"] = text_of(data["reason"])[:MAX_TAG_LENGTH]
        step = data.get("best_epoch") or data.get("epoch") or 0
        value = data.get("value")
        numbers = dict(data.get("metrics") or {})
        if data.get("best_epoch") is not None and is_finite(value):
            write.tags["best_epoch"] = text_of(data["best_epoch"])
            numbers |= {self._best_key(): value, "best/epoch": data["best_epoch"]}
        self._numbers(write, numbers, event.time_ms, step)
        for artifact in data.get("artifacts") or []:
            path = Path(artifact["path"])
            write.artifacts.append(Artifact(path.name, path=path))
            write.tags[safe_name(f"sha256.{path.name}")] = text_of(artifact["sha256"])
        if data.get("error"):
            write.artifacts.append(Artifact("error.txt", text=text_of(data["error"])))
        self._ended += 1
        before = self._scores.best and self._scores.best.mean
        assert event.trial is not None
        self._scores.add(trial.config_index, event.trial, state, value)
        best = self._scores.best and self._scores.best.mean
        if best is not None and best != before:
            self._numbers(self._sweep_write(), {self._best_key(): best}, event.time_ms, self._ended)

    def _sweep_resumed(self, event: Event) -> None:
        self.closed = False
        self.opened["resumes"] = [*self.opened.get("resumes", []), event.data.get("changes") or {}]
        self.opened["trials"] = event.data.get("trials", self.opened.get("trials"))
        write = self._sweep_write()
        write.tags |= {
            "reason": State.RUNNING.value,
            "resumes": str(len(self.opened["resumes"])),
            "mlflow.note.content": description(self.opened),
        }
        write.status, write.end_ms = "RUNNING", None

    def _sweep_closed(self, event: Event) -> None:
        data = event.data
        self.closed = True
        write = self._sweep_write()
        write.status, write.end_ms = SWEEP_STATUS.get(data["reason"], "FINISHED"), event.time_ms
        write.tags |= {"reason": text_of(data["reason"]), "mlflow.note.content": description(self.opened, data)}
        totals: Mapping[str, int] = data.get("totals") or {}
        numbers: dict[str, Any] = {f"trials/{state}": count for state, count in totals.items()}
        if data.get("seconds") is not None:
            numbers["seconds"] = data["seconds"]
        best = data.get("best")
        if best:
            write.tags |= {"best_trial": f"{self.uid}/{best['trial']}", "best_value": text_of(best["value"])}
        self._numbers(write, numbers, event.time_ms, self._ended)
        for kept in data.get("weights") or []:
            path = Path(kept["path"])
            # A sweep that goes on keeps others in the end; what an earlier close named may be gone when it is shipped again.
            if path.is_file():
                weights, _ = self._trial_write(Event(0, event.time_ms, "kept", int(kept["trial"]), None, {}))
                weights.artifacts.append(Artifact(path.name, path=path))
                weights.tags[safe_name(f"sha256.{path.name}")] = text_of(kept["sha256"])

    def _best_key(self) -> str:
        return "best/" + safe_name(self.opened["metric"]).replace("/", "_")

    def _numbers(self, write: RunWrite, numbers: Mapping[str, Any], time_ms: int, step: int) -> None:
        found = [
            Metric(safe_name(key), step, time_ms, float(value)) for key, value in numbers.items() if is_finite(value)
        ]
        write.metrics += found
        self.weight += len(found)

    def _end(self, write: RunWrite, state: State, time_ms: int) -> None:
        write.status, write.end_ms = STATUS[state], time_ms
        write.tags["reason"] = state.value

    def _sweep_write(self) -> RunWrite:
        return self._writes.setdefault(self.uid, RunWrite(self.uid, "sweep"))

    def _trial_write(self, event: Event) -> tuple[RunWrite, _TrialView]:
        """The open write of the event's trial; its run is created by the first event that needs one."""
        assert event.trial is not None
        trial = self._trials[event.trial]
        uid = f"{self.uid}/{event.trial}"
        write = self._writes.get(uid)
        if write is None:
            write = self._writes[uid] = RunWrite(uid, "trial")
        if not trial.created:
            trial.created = True
            config = trial.config or {}
            write.create = True
            write.name = uid
            write.start_ms = event.time_ms if event.kind == "started" else trial.suggested_ms
            write.tags |= {"kind": "trial", "trial_uid": uid, "sweep_uid": self.uid, "trial": str(event.trial)}
            write.tags |= {"config_index": str(trial.config_index), "repeat": str(trial.repeat)}
            write.params |= trial_params(trial.params, config)
            write.artifacts.append(Artifact("config.yaml", text=to_yaml(config)))
            trial.config, trial.params = None, {}
        return write, trial
