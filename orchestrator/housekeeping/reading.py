"""Reads a journal for looking at it: the whole sweep without its epochs, or one trial with them. Live beside the driver."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.file import Event, Reader, checksum
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import SweepRecord, TrialRecord

ROWS_AT_ONCE = 5_000
KEPT_OF_CONFIG = ("epochs", "seed")
_NO_EVENT = (KeyError, ValueError, TypeError, AttributeError, AssertionError)
"""What folding something else than our events raises."""


@dataclass
class Outline:
    """A sweep without its epochs and configurations.

    Args:
        record: trials keep of their configuration only `KEPT_OF_CONFIG`.
        last_ms: of the newest event, those left out included.
        session_ms: when the first trial began since the last start or resume.
        session_ended: trials that ended since then.
        error: the newest error of a trial.
    """

    record: SweepRecord = field(default_factory=SweepRecord)
    last_ms: int = 0
    last_seq: int = 0
    session_ms: int | None = None
    session_began_ms: int = 0
    session_ended: int = 0
    error: str | None = None

    def take(self, event: Event) -> None:
        """Takes the next event."""
        if event.kind in ("sweep_opened", "sweep_resumed"):
            self.session_began_ms, self.session_ms, self.session_ended = event.time_ms, None, 0
        elif event.kind == "suggested":
            event.data["config"] = {key: event.data["config"].get(key) for key in KEPT_OF_CONFIG}
        elif event.kind == "started" and self.session_ms is None:
            self.session_ms = event.time_ms
        elif event.kind == "terminal":
            self.session_ended += 1
        self.error = event.data.get("error") or self.error
        self.record.apply(event)


@dataclass
class Attempt:
    """One attempt at a trial: when it began and why it ended, None while it runs."""

    number: int
    began_ms: int
    ended: str | None = None


@dataclass
class TrialStory:
    """One trial of a sweep, with its epochs.

    Args:
        record: of the sweep, with this trial alone.
        begun_by: data of the `sweep_opened` or `sweep_resumed` under which the trial was suggested.
    """

    folder: Path
    record: SweepRecord
    trial: TrialRecord
    attempts: list[Attempt]
    begun_by: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.record.uid}/{self.trial.index}"


def split_name(text: str) -> tuple[str, int | None]:
    """`digits` as ("digits", None), `digits/7` as ("digits", 7).

    Raises:
        ConfigError: what follows the slash is no number.
    """
    name, slash, index = text.partition("/")
    if slash and not (name and index.isascii() and index.isdigit()):
        raise ConfigError(
            Problem("NAME", "must be a sweep (digits-0a1b2c3d) or one of its trials (digits-0a1b2c3d/7)", text)
        )
    return name, int(index) if slash else None


def find_trial(runs_dir: Path, text: str) -> TrialStory:
    """The trial that `NAME/7` names.

    Raises:
        ConfigError: it names no trial, or one that is not there; the message says which are.
        NotReadyError: the journal cannot be read.
    """
    name, index = split_name(text)
    if index is None:
        raise ConfigError(Problem("NAME", f"names a sweep; name one of its trials: {name}/0", text))
    return read_trial(find_sweep(runs_dir, name).absolute(), index)


def read_outline(folder: Path) -> Outline:
    """The sweep in `folder` at this moment.

    Raises:
        NotReadyError: there is no journal, or it is damaged.
    """
    outline = Outline()
    with _reading(folder) as reader:
        for event in reader.without_epochs():
            outline.take(event)
        outline.last_seq, outline.last_ms = reader.newest()
    return outline


def read_trial(folder: Path, index: int) -> TrialStory:
    """One trial with all its epochs.

    Raises:
        ConfigError: the sweep has no such trial.
        NotReadyError: there is no journal, or it is damaged.
    """
    record = SweepRecord(keep_epochs=True)
    attempts: list[Attempt] = []
    begun_by: Mapping[str, Any] = {}
    with _reading(folder) as reader:
        count = reader.suggested()
        if not 0 <= index < count:
            there = f"has the trials 0 to {count - 1}" if count else "has no trials yet"
            raise ConfigError(
                Problem("NAME", f"there is no such trial: {folder.name} {there}", f"{folder.name}/{index}")
            )
        for event in reader.of_trial(index):
            record.apply(event)
            _note_attempt(attempts, event)
            if event.kind in ("sweep_opened", "sweep_resumed") and not record.trials:
                begun_by = event.data
    return TrialStory(folder, record, record.trials[index], attempts, begun_by)


def _note_attempt(attempts: list[Attempt], event: Event) -> None:
    if event.kind == "started":
        attempts.append(Attempt(event.attempt or 1, event.time_ms))
    elif attempts and attempts[-1].ended is None:
        if event.kind == "retrying":
            attempts[-1].ended = str(event.data["reason"])
        elif event.kind == "sweep_resumed":
            attempts[-1].ended = "the sweep was interrupted, and resumed later"
        elif event.kind == "terminal":
            attempts[-1].ended = str(event.data["reason"] or event.data["state"])


class _Reader(Reader):
    """Events chosen by SQLite, so that most of a large journal is neither decoded nor held."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path

    def without_epochs(self) -> Iterator[Event]:
        """All events but the reports of trials that have ended; nothing may be missing among them."""
        count, newest = self._db.execute("SELECT count(*), coalesce(max(seq), 0) FROM events").fetchone()
        if count != newest:
            raise _damaged(self._file, f"{newest - count} events are missing")
        unfinished = self._db.execute(
            "SELECT trial FROM events WHERE kind = 'suggested' EXCEPT SELECT trial FROM events WHERE kind = 'terminal'"
        )
        running = json.dumps([trial for (trial,) in unfinished])
        return self._chosen("(kind <> 'reported' OR trial IN (SELECT value FROM json_each(?)))", running)

    def of_trial(self, index: int) -> Iterator[Event]:
        """The events of one trial, and those of the sweep."""
        return self._chosen("(trial = ? OR trial IS NULL)", index)

    def suggested(self) -> int:
        """How many trials there are."""
        return int(self._db.execute("SELECT count(*) FROM events WHERE kind = 'suggested'").fetchone()[0])

    def newest(self) -> tuple[int, int]:
        """Number and time of the newest event."""
        row = self._db.execute("SELECT seq, time_ms FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def _chosen(self, condition: str, value: object) -> Iterator[Event]:
        """In parts, so that no lock is held for long where readers block the writer (network file systems)."""
        query = (
            "SELECT seq, time_ms, kind, trial, attempt, data, crc FROM events"
            f" WHERE seq > ? AND {condition} ORDER BY seq LIMIT {ROWS_AT_ONCE}"
        )
        after = 0
        while rows := self._db.execute(query, (after, value)).fetchall():
            for seq, time_ms, kind, trial, attempt, data, crc in rows:
                if crc != checksum(seq, time_ms, kind, trial, attempt, data):
                    raise _damaged(self._file, f"event {seq} is not what was written")
                yield Event(seq, time_ms, kind, trial, attempt, json.loads(data))
            after = rows[-1][0]


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[_Reader]:
    """A reader; whatever is wrong with the journal is told as one error."""
    path = folder / JOURNAL
    try:
        with contextlib.closing(_Reader(path)) as reader:
            yield reader
    except (sqlite3.Error, *_NO_EVENT) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _damaged(path: Path, why: str) -> NotReadyError:
    return NotReadyError(f"the journal {path} is damaged ({why}); put a copy in its place, or delete the sweep")
