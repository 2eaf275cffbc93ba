"""A sweep's private ledger: append-only events in one SQLite file, written by the driver alone, read live by everyone else.

State is a query over events; nothing is updated in place. `append` returns at once; events become durable in group commits,
or before `append` returns with `sync=True`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote

from orchestrator.base.decode import COUNT, TIME_MS, check, read_json
from orchestrator.base.disk import PAUSE_S, DiskWait, is_full
from orchestrator.base.errors import NewerFormatError, NotReadyError
from orchestrator.base.failpoints import failpoint
from orchestrator.journal.events import Event, SweepOpened, UnknownKindError, event_from

_Time, _Count = Annotated[int, TIME_MS], Annotated[int, COUNT]

FORMAT_VERSION = 2
"""Of the file, its events and the plans in them. 2: what a sweep of version 1 lacks has defaults, see `base.upgrades`."""

GROUP_COMMIT_S = 0.05

_JOURNAL = "the journal"

_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    trial INTEGER,
    attempt INTEGER,
    data TEXT NOT NULL,
    crc INTEGER NOT NULL
) STRICT
"""


@dataclass(frozen=True)
class Entry:
    """One row of the ledger.

    Args:
        seq: its number, from 1 without gaps.
        time_ms: when it was appended, in milliseconds since 1970 by the driver's clock.
        trial: index of the trial that it is about; None for an event of the sweep.
        attempt: the trial's attempt, from 1; None where none is meant.
    """

    seq: int
    time_ms: int
    trial: int | None
    attempt: int | None
    event: Event

    @property
    def kind(self) -> str:
        """The name of the event's kind."""
        return self.event.kind

    @property
    def index(self) -> int:
        """The trial's index, of an event that is about one."""
        assert self.trial is not None, self.event
        return self.trial


class Journal:
    """The writing end. One process writes; its threads may share the object.

    While the disk is full, events wait in memory and are written when there is room.

    Args:
        disk: how long that may take; by default no time at all.

    Raises:
        NotReadyError: the file cannot be created or opened, or is of another format version.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        clock: Callable[[], float] = time.time,
        disk: DiskWait | None = None,
    ) -> None:
        self.path = path
        self.disk = disk or DiskWait()
        self._full: sqlite3.Error | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._committing = threading.RLock()  # always taken before the other, which no commit holds
        self._pending: list[tuple[int, int, str, int | None, int | None, str, int]] = []
        self._wake = threading.Event()
        self._closed = False
        self._failure: sqlite3.Error | None = None
        self._listeners: list[Callable[[Entry], None]] = []
        self._db = _connect_for_writing(path, create=create)
        self._committed = int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
        self._writer = threading.Thread(target=self._commit_in_groups, name="journal", daemon=True)
        self._writer.start()

    def subscribe(self, listener: Callable[[Entry], None]) -> None:
        """Calls `listener` with every entry appended from now on, in the appending thread."""
        self._listeners.append(listener)

    def append(
        self, event: Event, *, trial: int | None = None, attempt: int | None = None, sync: bool = False
    ) -> Entry:
        """Adds one event, and returns the entry as a reader will find it.

        Numbers that are not finite become the strings "nan", "inf" and "-inf".

        Raises:
            NotReadyError: an earlier commit failed (disk full, file gone); nothing after it was kept.
        """
        assert (trial is not None) == event.of_trial, f"{event.kind} with trial={trial}"
        kind, plain = event.kind, finite(event.to_data())
        text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
        event = event.from_data(plain, trial)
        with self._lock:
            self._raise_if_failed()
            seq = (self._pending[-1][0] if self._pending else self._committed) + 1
            entry = Entry(seq, int(self._clock() * 1000), trial, attempt, event)
            row = (seq, entry.time_ms, kind, trial, attempt, text)
            self._pending.append((*row, checksum(*row)))
        if sync:
            self.commit()
        else:
            self._wake.set()
        for listener in self._listeners:
            listener(entry)
        return entry

    @property
    def last_seq(self) -> int:
        """Number of the newest event appended; 0 in an empty journal."""
        with self._lock:
            return self._pending[-1][0] if self._pending else self._committed

    @property
    def durable_seq(self) -> int:
        """Number of the newest event that a crash cannot take back."""
        return self._committed

    def commit(self, *, wait: bool = True) -> None:
        """Makes everything appended so far durable.

        Args:
            wait: for room on a full disk.

        Raises:
            NotReadyError: it cannot be written, or there was no room for too long.
        """
        self._flush()
        self._raise_if_failed()
        while self._full is not None and wait:
            self.check_disk()
            time.sleep(PAUSE_S)
            self._flush()
            self._raise_if_failed()
        if self._full is not None:
            raise self._unwritable(self._full)
        self.check_disk()

    def check_disk(self) -> None:
        """Says that the disk is full, or that there is room again; to be called now and then.

        Raises:
            NotReadyError: it has been full for too long.
        """
        full = self._full
        if full is None:
            self.disk.room(_JOURNAL)
        else:
            self.disk.full(_JOURNAL, f"the journal {self.path} cannot be written ({full})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Closes it; what ended the block is what is told, and not what could not be written for that reason."""
        with contextlib.suppress(NotReadyError) if kind else contextlib.nullcontext():
            self.close()

    def close(self) -> None:
        """Commits what waits and closes the file; a second call does nothing."""
        with self._committing:
            if self._closed:
                return
            self._closed = True
            self._flush()
            self._db.close()
        self._wake.set()
        self._writer.join()
        self._raise_if_failed()
        if self._full is not None:
            raise self._unwritable(self._full)

    def _commit_in_groups(self) -> None:
        while not self._closed:
            self._wake.wait(None if self._full is None else PAUSE_S)
            self._wake.clear()
            time.sleep(GROUP_COMMIT_S)
            with self._committing:
                if not self._closed:
                    self._flush()

    def _flush(self) -> None:
        """Writes what waits; more may be appended meanwhile."""
        with self._committing:
            with self._lock:
                rows = list(self._pending)
            if not rows or self._failure:
                return
            failpoint("commit.before")
            try:
                with self._db:
                    # A signal can interrupt between the commit and the next line; the same rows then come again.
                    self._db.executemany(
                        "INSERT OR IGNORE INTO events (seq, time_ms, kind, trial, attempt, data, crc)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        rows,
                    )
                failpoint("commit.after")
                self._full = None
                with self._lock:
                    self._committed = rows[-1][0]
                    del self._pending[: len(rows)]
            except sqlite3.Error as error:
                if is_full(error):
                    self._full = error  # what waits is kept
                else:
                    self._failure = error

    def _raise_if_failed(self) -> None:
        if self._failure:
            raise self._unwritable(self._failure)

    def _unwritable(self, error: sqlite3.Error) -> NotReadyError:
        return NotReadyError(f"the journal {self.path} cannot be written ({error}); is its disk full?")


_PLAIN = frozenset({int, str, bool})


def finite(value: Any) -> Any:
    """The same plain data with numbers that JSON cannot hold written as strings."""
    if value is None or type(value) in _PLAIN:  # first what most values are: reports are thousands of numbers
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


class Reader:
    """The reading end, live beside the writer; it never blocks it.

    Raises:
        NotReadyError: (in every method) there is no journal at `path`, it is not one, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NotReadyError(f"there is no journal at {path}")
        self._path = path
        self._digested, self._sha256 = 0, hashlib.sha256()
        with _readable(path):
            self._db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30.0)
        try:
            with _readable(path):
                check_version(self._db, path)
        except NotReadyError:
            self._db.close()
            raise

    def events(self, after: int = 0, limit: int = 1_000_000) -> Iterator[Entry]:
        """Committed events with `seq > after`, in order, at most `limit`."""
        for row in _whole_rows(self._db, self._path, after, limit):
            yield entry_of(self._path, *row)

    def opened(self) -> SweepOpened | None:
        """What the sweep began with; None in an empty journal.

        Raises:
            NotReadyError: (besides) the journal begins otherwise.
        """
        for entry in self.events(limit=1):
            if not isinstance(entry.event, SweepOpened):
                raise NotReadyError(f"the journal {self._path} does not begin with the opening of a sweep")
            return entry.event
        return None

    def last_seq(self) -> int:
        """Number of the newest committed event; 0 in an empty journal."""
        with _readable(self._path):
            return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def digest(self, last: int) -> str:
        """SHA-256, in hexadecimal, of the events up to number `last` as they are stored: `line_of` each, one after the other.

        Cheap where it is asked for larger and larger numbers.
        """
        if last < self._digested:
            self._digested, self._sha256 = 0, hashlib.sha256()
        for row in _whole_rows(self._db, self._path, self._digested, last - self._digested):
            self._sha256.update(line_of(*row))
            self._digested = row[0]
        return self._sha256.copy().hexdigest()

    def close(self) -> None:
        self._db.close()


def entry_of(path: Path, seq: int, time_ms: int, kind: str, trial: int | None, attempt: int | None, data: str) -> Entry:
    """The entry of a row in the journal at `path`.

    Raises:
        NotReadyError: its kind is of a newer version, or the row is not what was written.
    """
    try:
        for name, value, annotation in (
            ("time_ms", time_ms, _Time),
            ("kind", kind, str),
            ("trial", trial, _Count | None),
            ("attempt", attempt, _Count | None),
            ("data", data, str),
        ):
            check(value, annotation, name)
        return Entry(seq, time_ms, trial, attempt, event_from(kind, read_json(data), trial))
    except UnknownKindError as error:
        raise NewerFormatError(
            f"event {seq} of the journal {path} {error}: a newer version wrote it; use that version for this sweep"
        ) from error
    except ValueError as error:
        raise NotReadyError(
            f"the journal {path} is damaged: event {seq} ({kind}) {error}; put a copy in its place"
        ) from error


def checksum(seq: int, time_ms: int, kind: str, trial: int | None, attempt: int | None, data: str) -> int:
    """CRC-32 of an event as it is stored; SQLite itself does not notice a byte that changed within a value."""
    return zlib.crc32(f"{seq} {time_ms} {kind} {trial} {attempt} {data}".encode())


def line_of(seq: int, time_ms: int, kind: str, trial: int | None, attempt: int | None, data: str) -> bytes:
    """An event as it goes into the digest of its journal."""
    return f"{seq} {time_ms} {kind} {trial} {attempt} {data}\n".encode()


def _whole_rows(db: sqlite3.Connection, path: Path, after: int, limit: int) -> Iterator[tuple[Any, ...]]:
    """The rows with `seq > after` but for their checksums, each found whole and in its place."""
    with _readable(path):
        rows = db.execute(
            "SELECT seq, time_ms, kind, trial, attempt, data, crc FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()
    for expected, (*row, crc) in enumerate(rows, start=after + 1):
        if row[0] != expected or crc != checksum(*row):
            raise NotReadyError(
                f"the journal {path} is damaged: event {expected} is missing or not what was written; put a copy in its place"
            )
        yield tuple(row)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where SQLite quotes a damaged file
        raise NotReadyError(f"{path} is not a readable journal ({error})") from error


def _connect_for_writing(path: Path, *, create: bool) -> sqlite3.Connection:
    if create and path.exists():
        raise NotReadyError(f"{path} exists already; it belongs to another sweep")
    if not create and not path.is_file():
        raise NotReadyError(f"there is no journal at {path}")
    if path.is_symlink():
        raise NotReadyError(f"the journal {path} is a link; put the file itself in its place")
    with _readable(path):
        db = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    try:
        with _readable(path):
            if not create:
                check_version(db, path)
                for row in _whole_rows(db, path, 0, -1):  # nothing is added to a damaged journal
                    entry_of(path, *row)
            db.execute(f"PRAGMA journal_mode = {'DELETE' if on_network_file_system(path) else 'WAL'}")
            db.execute("PRAGMA synchronous = FULL")
            with db:
                db.execute("BEGIN")
                if create:
                    db.execute(_SCHEMA)
                db.execute(
                    f"PRAGMA user_version = {FORMAT_VERSION}"
                )  # what is added may be more than an earlier one has
    except BaseException:
        db.close()
        raise
    return db


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Refuses a journal whose format is newer than this program's, and a file that is none.

    Raises:
        NewerFormatError, NotReadyError: it is one of these.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise NotReadyError(f"the journal {path} is empty: its sweep has not begun")
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path} has format version {version}; this program reads up to {FORMAT_VERSION}: use the version that wrote it"
        )
    if version < 1:
        raise NotReadyError(f"{path} is no journal: its format version is {version}")


def on_network_file_system(path: Path) -> bool:
    """Whether the file lies where SQLite's shared-memory WAL does not work across hosts."""
    network = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "9p"}
    best, kind = "", ""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return False
    absolute = str(path.resolve())
    for line in mounts:
        _, mount, file_system, *_ = line.split()
        inside = absolute == mount or absolute.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, file_system
    return kind in network or kind.startswith("fuse.sshfs")
