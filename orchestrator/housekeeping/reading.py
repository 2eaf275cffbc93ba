"""Reads a journal for looking at it: the whole sweep without its epochs, or one trial with them. Live beside the driver."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.events import Retrying, Started, Suggested, SweepOpened, SweepResumed, Terminal
from orchestrator.journal.file import Entry, Reader, checksum, entry_of
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

    def take(self, entry: Entry) -> None:
        """Takes the next event."""
        match entry.event:
            case SweepOpened() | SweepResumed():
                self.session_began_ms, self.session_ms, self.session_ended = entry.time_ms, None, 0
            case Suggested() as event:
                config = {key: event.config.get(key) for key in KEPT_OF_CONFIG}
                entry = replace(entry, event=replace(event, config=config))
            case Started() if self.session_ms is None:
                self.session_ms = entry.time_ms
            case Retrying() as event:
                self.error = event.error or self.error
            case Terminal() as event:
                self.session_ended += 1
                self.error = event.error or self.error
        self.record.apply(entry)  # refuses what it does not know


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
        begun_by: the event under which the trial was suggested.
    """

    folder: Path
    record: SweepRecord
    trial: TrialRecord
    attempts: list[Attempt]
    begun_by: SweepOpened | SweepResumed

    @property
    def name(self) -> str:
        return f"{self.record.uid}/{self.trial.index}"

    @property
    def uid_in_files(self) -> str:
        """As its files name it."""
        return f"{self.record.opened.uid_in_files}/{self.trial.index}"


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
    begun_by: SweepOpened | SweepResumed | None = None
    with _reading(folder) as reader:
        count = reader.suggested()
        if not 0 <= index < count:
            there = f"has the trials 0 to {count - 1}" if count else "has no trials yet"
            raise ConfigError(
                Problem("NAME", f"there is no such trial: {folder.name} {there}", f"{folder.name}/{index}")
            )
        for entry in reader.of_trial(index):
            record.apply(entry)
            _note_attempt(attempts, entry)
            if isinstance(entry.event, SweepOpened | SweepResumed) and not record.trials:
                begun_by = entry.event
    if index not in record.trials:
        raise _damaged(folder / JOURNAL, f"trial {index} was never suggested")
    return TrialStory(folder, record, record.trials[index], attempts, begun_by or record.opened)


def _note_attempt(attempts: list[Attempt], entry: Entry) -> None:
    event = entry.event
    if isinstance(event, Started):
        attempts.append(Attempt(entry.attempt or 1, entry.time_ms))
    elif attempts and attempts[-1].ended is None:
        if isinstance(event, Retrying):
            attempts[-1].ended = event.reason
        elif isinstance(event, SweepResumed):
            attempts[-1].ended = "the sweep was interrupted, and resumed later"
        elif isinstance(event, Terminal):
            attempts[-1].ended = event.reason or str(event.state)


class _Reader(Reader):
    """Events chosen by SQLite, so that most of a large journal is neither decoded nor held."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path

    def without_epochs(self) -> Iterator[Entry]:
        """All events but the reports of trials that have ended; nothing may be missing among them."""
        count, newest = self._db.execute("SELECT count(*), coalesce(max(seq), 0) FROM events").fetchone()
        if count != newest:
            raise _damaged(self._file, f"{newest - count} events are missing")
        unfinished = self._db.execute(
            "SELECT trial FROM events WHERE kind = 'suggested' EXCEPT SELECT trial FROM events WHERE kind = 'terminal'"
        )
        running = json.dumps([trial for (trial,) in unfinished])
        return self._chosen("(kind <> 'reported' OR trial IN (SELECT value FROM json_each(?)))", running)

    def of_trial(self, index: int) -> Iterator[Entry]:
        """The events of one trial, and those of the sweep."""
        return self._chosen("(trial = ? OR trial IS NULL)", index)

    def suggested(self) -> int:
        """How many trials there are."""
        return int(self._db.execute("SELECT count(*) FROM events WHERE kind = 'suggested'").fetchone()[0])

    def newest(self) -> tuple[int, int]:
        """Number and time of the newest event."""
        row = self._db.execute("SELECT seq, time_ms FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def _chosen(self, condition: str, value: object) -> Iterator[Entry]:
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
                yield entry_of(self._file, seq, time_ms, kind, trial, attempt, data)
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
