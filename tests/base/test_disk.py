"""A sweep waits for room on a full disk, for so long."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from orchestrator.base.disk import DiskWait, is_full
from orchestrator.base.errors import NotReadyError, ResumableError
from orchestrator.journal.events import SweepClosed
from orchestrator.journal.file import Journal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_says_so_once_and_goes_on_when_all_have_room() -> None:
    clock, said = Clock(), list[str]()
    disk = DiskWait(90, said.append, clock)
    disk.full("trial 0", "trial 0 cannot write")
    clock.now = 60
    disk.full("journal", "the journal cannot be written")
    assert said == ["trial 0 cannot write; the sweep waits up to 1 min 30 s for room (disk_wait_s)"]
    disk.room("trial 0")
    disk.room("never full")
    assert len(said) == 1
    disk.room("journal")
    assert said[1:] == ["there is room again; the sweep goes on"]
    clock.now = 140  # the wait begins anew
    disk.full("journal", "the journal cannot be written")
    clock.now = 229
    disk.full("journal", "the journal cannot be written")
    clock.now = 230
    with pytest.raises(NotReadyError, match=r"no room for 1 min 30 s \(disk_wait_s\): make room"):
        disk.full("journal", "the journal cannot be written")


def test_without_patience_it_ends_at_once() -> None:
    with pytest.raises(NotReadyError, match="cannot write, and there was no room for 0 s"):
        DiskWait().full("trial 0", "it cannot write")


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_errors_of_the_system(code: int, full: bool) -> None:
    assert is_full(OSError(code, "why")) is full


def write_on_a_full_disk(path: Path, error: Exception | None) -> None:
    with Journal(path, create=True) as journal:
        journal._db.execute("PRAGMA max_page_count = 1")
        journal.append(SweepClosed("x" * 100_000, {}, None))
        if error:
            raise error


def test_what_ended_a_sweep_is_told_and_not_the_journal_that_could_not_be_closed(tmp_path: Path) -> None:
    with pytest.raises(ResumableError, match="go on later"):
        write_on_a_full_disk(tmp_path / "one.sqlite", ResumableError("go on later"))
    with pytest.raises(NotReadyError, match=r"cannot be written \(database or disk is full\); is its disk full"):
        write_on_a_full_disk(tmp_path / "other.sqlite", None)


def test_errors_of_sqlite() -> None:
    db = sqlite3.connect(":memory:")
    db.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError, match="full") as full:
        db.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))")
    assert is_full(full.value)
    with pytest.raises(sqlite3.OperationalError, match="incomplete input") as other:
        db.execute("SELECT * FROM")
    assert not is_full(other.value)
    db.close()
