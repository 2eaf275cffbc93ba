"""The journal as the checks read it: with a few lines of its own, and what is wrong with its rows told instead of raised.

The classes of its events are shared with the writer; the folding of them (`journal.record`) is among what is checked.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.base.errors import NotReadyError
from orchestrator.journal.events import Reported, SweepOpened, UnknownKindError, event_from
from orchestrator.journal.file import Entry, check_version, checksum
from orchestrator.journal.parts import Epoch
from orchestrator.stores.sqlite_read import database_problems

EVENTS_TABLE = (
    "CREATE TABLE events ( seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, kind TEXT NOT NULL,"
    " trial INTEGER, attempt INTEGER, data TEXT NOT NULL, crc INTEGER NOT NULL ) STRICT"
)


class JournalFile:
    """The journal, opened read-only.

    Raises:
        NotReadyError: there is none, it cannot be read, a newer version wrote it, or it does not begin with the opening of a
            sweep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise NotReadyError(f"{path.parent} holds no sweep (no {path.name})")
        self._db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30.0)
        self.problems: list[str] = []
        self.epoch_numbers: dict[int, list[int]] = {}
        self._digest = hashlib.sha256()
        try:
            check_version(self._db, path)
            self._version = self._data_version()
            self.entries = list(self._read())
            self.problems += [*database_problems(self._db), *self._foreign_parts()]
        except sqlite3.Error as error:
            self._db.close()
            raise NotReadyError(f"the journal {path} cannot be read ({error})") from error
        except NotReadyError:
            self._db.close()
            raise
        if not self.entries or not isinstance(self.entries[0].event, SweepOpened):
            self._db.close()
            why = f" ({self.problems[0]})" if self.problems else ""
            raise NotReadyError(f"the journal {path} does not begin with the opening of a sweep{why}")
        self.opened = self.entries[0].event

    def epochs(self, reports: Sequence[Entry]) -> list[Epoch]:
        """The epochs of these reports, with their metrics, which `entries` does not hold."""
        places = [entry.seq for entry in reports]
        query = f"SELECT data FROM events WHERE seq IN ({','.join(map(str, places))}) ORDER BY seq"
        return [epoch for (text,) in self._db.execute(query) for epoch in json.loads(text)["epochs"]]

    def digest(self, last: int) -> str | None:
        """SHA-256 of the rows up to number `last`, in hexadecimal; None where there are fewer."""
        if last == self.entries[-1].seq:
            return self._digest.hexdigest()
        found, end = hashlib.sha256(), 0
        for row in self._rows():
            if row[0] <= last:
                found.update(_line(row))
                end = row[0]
        return found.hexdigest() if end == last else None

    def changed(self) -> bool:
        """Whether its rows are others than at first."""
        if self._data_version() == self._version:
            return False
        now = hashlib.sha256()
        for row in self._rows():
            now.update(_line(row))
        return now.digest() != self._digest.digest()

    def close(self) -> None:
        self._db.close()

    def _foreign_parts(self) -> Iterator[str]:
        """What stands in the database beside the table of events: SQLite would run a trigger for whoever writes next."""
        parts = self._db.execute("SELECT type, name, sql FROM sqlite_master WHERE name <> 'sqlite_sequence'").fetchall()
        for kind, name, sql in parts:
            if (kind, name) != ("table", "events"):
                yield f"there is a {kind} {name!r:.80} beside the table of events"
            elif " ".join(str(sql).split()) != EVENTS_TABLE:
                yield "the table of events is another one than a journal's"
        sequence = self._db.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        last = self.entries[-1].seq if self.entries else 0
        if [name for name, _ in sequence] not in ([], ["events"]) or any(
            not _reaches(seq, last) for _, seq in sequence
        ):
            yield f"SQLite counts the events as {sequence!r:.120}"

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        yield from self._db.execute("SELECT seq, time_ms, kind, trial, attempt, data, crc FROM events ORDER BY seq")

    def _read(self) -> Iterator[Entry]:
        """The entries; of a report the numbers of its epochs alone, as a long sweep's metrics need not be held at once."""
        last = 0
        for row in self._rows():
            self._digest.update(_line(row))
            seq, time_ms, kind, trial, attempt, text, crc = row
            if seq != last + 1:
                self.problems.append(f"event {last} is followed by event {seq}")
            whole = crc == checksum(seq, time_ms, kind, trial, attempt, text)
            if not whole:
                self.problems.append(f"event {seq} is not what was written")
            last = seq
            try:
                event = event_from(kind, json.loads(text), trial)
                if isinstance(event, Reported):
                    self.epoch_numbers[seq] = [int(epoch["epoch"]) for epoch in event.epochs]
                    event = replace(event, epochs=())
                yield Entry(seq, time_ms, trial, attempt, event)
            except UnknownKindError as error:
                if whole:
                    raise NotReadyError(
                        f"event {seq} of the journal {self._path} {error}: a newer version wrote it; verify it with that version"
                    ) from error
                self.problems.append(f"event {seq} ({kind}) {error}")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                self.problems.append(f"event {seq} ({kind}) cannot be read: {error}")


def _line(row: Sequence[Any]) -> bytes:
    """A row as it goes into the digest: what the event is, without its checksum."""
    return (" ".join(map(str, row[:6])) + "\n").encode()


def _reaches(seq: object, last: int) -> bool:
    return isinstance(seq, int) and seq >= last
