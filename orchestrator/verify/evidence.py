"""What the checks look at, read from the three records: the journal, MLflow and the files. Nothing is written.

The journal is read here with a few lines of its own rather than by `history`, which is among what is checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL, trial_folder
from orchestrator.base.records import State
from orchestrator.config.plan import SweepPlan, get_key
from orchestrator.journal.file import Event, checksum
from orchestrator.stores.runs import Metric, RunReader, StoredRun
from orchestrator.stores.sqlite_read import database_problems

CLOSING = {"sweep_opened", "sweep_resumed", "sweep_closed"}

NEEDED = {
    "sweep_opened": {"uid", "name", "metric", "mode", "trials", "folder", "plan", "tracking"},
    "suggested": {"params", "config"},
    "started": set(),
    "reported": {"epochs"},
    "retrying": {"reason"},
    "terminal": {"state", "epoch", "value", "best_epoch", "metrics", "artifacts"},
    "sweep_resumed": set(),
    "sweep_closed": {"reason", "totals", "best"},
}
"""What the data of each kind of event must hold."""


class JournalFile:
    """The journal, opened read-only.

    Raises:
        NotReadyError: there is none, it cannot be read, or it does not begin with the opening of a sweep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise NotReadyError(f"{path.parent} holds no sweep (no {path.name})")
        self._db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30.0)
        self.problems: list[str] = []
        self._digest = hashlib.sha256()
        try:
            self._version = self._data_version()
            self.events = list(self._read())
            self.problems += database_problems(self._db)
        except sqlite3.Error as error:
            self._db.close()
            raise NotReadyError(f"the journal {path} cannot be read ({error})") from error
        if not self.events or self.events[0].kind != "sweep_opened":
            self._db.close()
            raise NotReadyError(f"the journal {path} does not begin with the opening of a sweep")

    def epochs(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """The epochs of these reports, with their metrics, which `events` does not hold."""
        places = [event.seq for event in events]
        query = f"SELECT data FROM events WHERE seq IN ({','.join(map(str, places))}) ORDER BY seq"
        return [epoch for (text,) in self._db.execute(query) for epoch in json.loads(text)["epochs"]]

    def changed(self) -> bool:
        """Whether its rows are others than at first."""
        if self._data_version() == self._version:
            return False
        now = hashlib.sha256()
        for row in self._rows():
            now.update(repr(row).encode())
        return now.digest() != self._digest.digest()

    def close(self) -> None:
        self._db.close()

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        yield from self._db.execute("SELECT seq, time_ms, kind, trial, attempt, data, crc FROM events ORDER BY seq")

    def _read(self) -> Iterator[Event]:
        """The events; of a report the numbers of its epochs alone, as a long sweep's metrics need not be held at once."""
        last = 0
        for row in self._rows():
            self._digest.update(repr(row).encode())
            seq, time_ms, kind, trial, attempt, text, crc = row
            if seq != last + 1:
                self.problems.append(f"event {last} is followed by event {seq}")
            if crc != checksum(seq, time_ms, kind, trial, attempt, text):
                self.problems.append(f"event {seq} is not what was written")
            last = seq
            try:
                data = json.loads(text)
                missing = NEEDED[kind] - set(data)
                if not missing and kind == "reported":
                    data["epochs"] = [int(epoch["epoch"]) for epoch in data["epochs"]]
                if not missing and kind == "terminal":
                    State(data["state"])
            except (ValueError, KeyError, TypeError) as error:
                self.problems.append(f"event {seq} cannot be read ({type(error).__name__}: {error})")
                continue
            if missing:
                self.problems.append(f"event {seq} ({kind}) lacks {', '.join(sorted(missing))}")
            elif (trial is None) != (kind in CLOSING):
                self.problems.append(f"event {seq} ({kind}) {'names no trial' if trial is None else 'names a trial'}")
            else:
                yield Event(seq, time_ms, kind, trial, attempt, data)


@dataclass
class Case:
    """One trial in all three records.

    Args:
        events: its events, in order.
        runs: its active runs in MLflow; there should be one.
        rows: the metrics of the first of them.
    """

    sweep: Sweep
    index: int
    events: list[Event] = field(default_factory=list)
    runs: list[StoredRun] = field(default_factory=list)
    rows: list[Metric] = field(default_factory=list)

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    @property
    def uid(self) -> str:
        return f"{self.sweep.uid}/{self.index}"

    @cached_property
    def suggested(self) -> dict[str, Any]:
        """Data of its suggestion."""
        return self.of("suggested")[0].data

    @property
    def config_index(self) -> int:
        return int(self.suggested.get("config_index", self.index))

    @property
    def repeat(self) -> int:
        return int(self.suggested.get("repeat", 0))

    @cached_property
    def terminal(self) -> dict[str, Any] | None:
        """Data of the (first) event that ended it; None while it has not ended."""
        ends = self.of("terminal")
        return ends[0].data if ends else None

    @property
    def state(self) -> State:
        """How it ended; INTERRUPTED where it has not."""
        return State(self.terminal["state"]) if self.terminal else State.INTERRUPTED

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """All epochs that the journal reports."""
        return self.sweep.journal.epochs(self.of("reported"))

    @property
    def last_epoch(self) -> int:
        """The last epoch that the journal reports; 0 before the first."""
        return max((int(epoch) for event in self.of("reported") for epoch in event.data["epochs"]), default=0)

    @property
    def run(self) -> StoredRun | None:
        return self.runs[0] if self.runs else None

    def history(self) -> dict[str, list[Metric]]:
        """The rows of each metric, by step."""
        found: dict[str, list[Metric]] = defaultdict(list)
        for row in self.rows:
            found[row.key].append(row)
        return found

    @property
    def folder(self) -> Path:
        return trial_folder(self.sweep.folder, self.index)


@dataclass
class Sweep:
    """One sweep in all three records.

    Args:
        folder: where it lies now; the journal says where it lay when it was launched.
        runs: None where MLflow is not looked at.
        best_stored: trial -> its best value of the objective by MLflow's history; filled while the trials are looked at.
        seen: what a check of each trial keeps for the next one.
    """

    folder: Path
    journal: JournalFile
    reader: RunReader | None = None
    runs: list[StoredRun] | None = None
    best_stored: dict[int, float | None] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def opened(self) -> dict[str, Any]:
        return self.journal.events[0].data

    @property
    def uid(self) -> str:
        return str(self.opened["uid"])

    @property
    def metric(self) -> str:
        return str(self.opened["metric"])

    @property
    def mode(self) -> str:
        return str(self.opened["mode"])

    @cached_property
    def cases(self) -> dict[int, Case]:
        """The trials that were suggested, by index."""
        found = self._by_trial
        return {index: found[index] for index in sorted(found) if found[index].of("suggested")}

    @cached_property
    def strays(self) -> list[int]:
        """Trials that have events and were never suggested."""
        return sorted(set(self._by_trial) - set(self.cases))

    @cached_property
    def _by_trial(self) -> dict[int, Case]:
        found: dict[int, Case] = {}
        for event in self.journal.events:
            if event.trial is not None:
                found.setdefault(event.trial, Case(self, event.trial)).events.append(event)
        for run in self.runs or ():
            uid, _, index = str(run.uid).rpartition("/")
            if not run.deleted and uid == self.uid and index.isdecimal() and int(index) in found:
                found[int(index)].runs.append(run)
        return found

    @cached_property
    def turns(self) -> list[Event]:
        """The events of the sweep itself: opened, resumed, closed."""
        return [event for event in self.journal.events if event.trial is None]

    @property
    def resumes(self) -> list[Event]:
        return [event for event in self.turns if event.kind == "sweep_resumed"]

    @property
    def closed(self) -> dict[str, Any] | None:
        """Data of the closing; None where the sweep was not closed, or resumed since."""
        last = self.turns[-1]
        return last.data if last.kind == "sweep_closed" else None

    @cached_property
    def plans(self) -> list[tuple[int, SweepPlan]]:
        """(number of the event from which it is in force, plan), in order."""
        found = [(event.seq, event.data["plan"]) for event in self.turns if event.data.get("plan")]
        return [(seq, SweepPlan.from_json(text)) for seq, text in found]

    def plan_at(self, seq: int) -> SweepPlan:
        """The plan in force at an event."""
        return [plan for first, plan in self.plans if first <= seq][-1]

    @property
    def plan(self) -> SweepPlan:
        """The plan in force at the end."""
        return self.plans[-1][1]

    def setting(self, key: str, otherwise: Any = None) -> Any:
        """A root key of the plan in force at the end; a sweep of an earlier version may lack it."""
        return self.plan.settings.get(key, otherwise)

    @property
    def parent(self) -> StoredRun | None:
        """The sweep's own run."""
        own = [run for run in self.runs or () if not run.deleted and run.tags.get("kind") == "sweep"]
        return own[0] if own else None

    @cached_property
    def files(self) -> list[tuple[Path, int]]:
        """(path below the sweep's folder, bytes) of everything in it."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                found.append((path.relative_to(self.folder), path.stat().st_size))
        return found

    def here(self, path: str) -> Path:
        """Where a file of the journal lies now: the sweep's folder may have been moved as a whole."""
        then = Path(self.opened["folder"])
        given = Path(path)
        return self.folder / given.relative_to(then) if given.is_relative_to(then) else given


def fixed(case: Case, key: str) -> Any:
    """The value of a dotted key of the trial's configuration; of a group the name of the choice."""
    config: Mapping[str, Any] = case.suggested["config"]
    choices = config.get("choices") or {}
    return choices[key] if key in choices else get_key(config, key)


def open_journal(folder: Path) -> JournalFile:
    """The journal of the sweep in `folder`."""
    return JournalFile(folder / JOURNAL)
