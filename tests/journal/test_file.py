import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.events import Reported, Started, Suggested
from orchestrator.journal.file import Entry, Journal, Reader, finite
from orchestrator.journal.parts import Epoch
from orchestrator.journal.record import read_sweep
from tests.synthetic import CONFIG


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / JOURNAL


def read(path: Path, after: int = 0) -> list[Entry]:
    reader = Reader(path)
    try:
        return list(reader.events(after))
    finally:
        reader.close()


def test_events_come_back_in_order_with_what_was_written(path: Path) -> None:
    journal = Journal(path, create=True, clock=lambda: 1.5)
    first = journal.append(Suggested({"lr": 0.1}, CONFIG, 0), trial=0)
    journal.append(Started(), trial=0, attempt=1)
    journal.close()
    events = read(path)
    assert events[0] == first == Entry(1, 1500, 0, None, Suggested({"lr": 0.1}, CONFIG, 0))
    assert events[1] == Entry(2, 1500, 0, 1, Started())
    assert read(path, after=1) == events[1:]


def test_a_synchronous_event_is_durable_when_append_returns(path: Path) -> None:
    journal = Journal(path, create=True)
    journal.append(Started(), trial=0)
    journal.append(Started(), trial=1, sync=True)
    assert [event.trial for event in read(path)] == [0, 1]
    journal.close()


def test_group_commit_needs_no_call(path: Path) -> None:
    journal = Journal(path, create=True)
    journal.append(Started(), trial=0, attempt=1)
    deadline = time.monotonic() + 20
    while not read(path):
        assert time.monotonic() < deadline, "the event was never committed"
        time.sleep(0.01)
    journal.close()


def test_an_append_does_not_wait_for_a_slow_commit(path: Path) -> None:
    journal = Journal(path, create=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        journal.append(Started(), trial=0, attempt=1)
        commit = threading.Thread(target=journal.commit)
        commit.start()
        later = threading.Thread(target=lambda: journal.append(Started(), trial=1, attempt=1))
        later.start()
        later.join(10)
        waited = later.is_alive()
        assert commit.is_alive()  # the lock is held: nothing can be durable yet
        other.execute("ROLLBACK")
    commit.join()
    later.join()
    journal.close()
    assert not waited
    assert [(event.seq, event.trial) for event in read(path)] == [(1, 0), (2, 1)]


def test_numbers_of_reopened_journal_go_on(path: Path) -> None:
    first = Journal(path, create=True)
    first.append(Started(), trial=0, attempt=1)
    first.close()
    second = Journal(path)
    assert second.append(Started(), trial=0, attempt=2).seq == 2
    second.close()


def test_listeners_hear_events_in_order_from_several_threads(path: Path) -> None:
    journal = Journal(path, create=True)
    heard: list[int] = []
    journal.subscribe(lambda event: heard.append(event.seq))
    threads = [
        threading.Thread(target=lambda: [journal.append(Started(), trial=0, attempt=1) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert sorted(heard) == list(range(1, 801))
    assert [event.seq for event in read(path)] == list(range(1, 801))


def test_what_is_heard_is_what_will_be_read(path: Path) -> None:
    heard: list[Entry] = []
    with contextlib.closing(Journal(path, create=True)) as journal:
        journal.subscribe(heard.append)
        epoch: Epoch = {"epoch": 1, "time_ms": 5, "metrics": {"train/loss": float("nan")}}
        journal.append(Reported([epoch], best=(1, float("inf"))), trial=0, attempt=1)
    assert read(path) == heard
    assert heard[0].event == Reported([{**epoch, "metrics": {"train/loss": "nan"}}], notes=[], best=[1, "inf"])


def write_row(path: Path, kind: str, data: str, trial: int | None = 0) -> None:
    """Adds a whole row to a closed journal."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        seq = db.execute("SELECT count(*) FROM events").fetchone()[0] + 1
        crc = zlib.crc32(f"{seq} 0 {kind} {trial} 1 {data}".encode())
        db.execute("INSERT INTO events VALUES (?, 0, ?, ?, 1, ?, ?)", (seq, kind, trial, data, crc))


def test_an_event_of_a_kind_that_is_not_known_is_refused(path: Path) -> None:
    Journal(path, create=True).close()
    write_row(path, "paused", "{}")
    for reads in (lambda: read(path), lambda: Journal(path), lambda: read_sweep(path.parent)):
        with pytest.raises(NotReadyError, match=r"event 1 .* is of the kind 'paused', .*: a newer version wrote it"):
            reads()


@pytest.mark.parametrize(
    ("kind", "trial", "data", "why"),
    [
        ("terminal", 0, '{"state": "completed"}', "lacks artifacts, best_epoch, epoch, metrics, value"),
        ("started", None, "{}", "names no trial"),
        ("sweep_resumed", 0, "{}", "names a trial"),
        ("started", 0, "[1]", "must hold a JSON object"),
        ("started", 0, "{", "Expecting property name"),
        (
            "terminal",
            0,
            '{"state": "lost", "epoch": 1, "value": 1, "best_epoch": 1, "metrics": {}, "artifacts": []}',
            "'lost' is not a valid State",
        ),
    ],
)
def test_an_event_that_is_none_of_its_kind_is_refused(
    path: Path, kind: str, trial: int | None, data: str, why: str
) -> None:
    Journal(path, create=True).close()
    write_row(path, kind, data, trial)
    for reads in (lambda: read(path), lambda: Journal(path), lambda: read_sweep(path.parent)):
        with pytest.raises(NotReadyError, match=rf"is damaged: event 1 \({kind}\) .*{re.escape(why)}"):
            reads()


def test_json_has_no_infinities(path: Path) -> None:
    assert finite({"a": [float("nan"), float("-inf")], "b": 1.0}) == {"a": ["nan", "-inf"], "b": 1.0}


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    Journal(path, create=True).close()
    with pytest.raises(NotReadyError, match="exists already"):
        Journal(path, create=True)


def test_a_missing_journal_is_named(path: Path) -> None:
    with pytest.raises(NotReadyError, match="no journal at"):
        Reader(path)
    with pytest.raises(NotReadyError, match="no journal at"):
        Journal(path)


def test_another_format_version_is_refused(path: Path) -> None:
    Journal(path, create=True).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(NotReadyError, match="format version 99"):
        Reader(path)


def test_a_journal_whose_making_was_cut_off_says_so(path: Path) -> None:
    path.touch()
    for kind in (Reader, Journal):
        with pytest.raises(NotReadyError, match="is empty: its sweep has not begun"):
            kind(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be read as one" * 50)
    with pytest.raises(NotReadyError, match="not a readable journal"):
        Reader(path)


def test_a_write_that_fails_is_told_to_the_next_caller(path: Path) -> None:
    journal = Journal(path, create=True)
    other = sqlite3.connect(path)
    other.execute("DROP TABLE events")
    other.close()
    with pytest.raises(NotReadyError, match="cannot be written"):
        journal.append(Started(), trial=0, attempt=1, sync=True)
    with pytest.raises(NotReadyError, match="cannot be written"):
        journal.append(Started(), trial=0, attempt=1)
    with pytest.raises(NotReadyError, match="cannot be written"):
        journal.close()


def test_what_was_committed_survives_sigkill(path: Path) -> None:
    script = (
        "import sys, json; from pathlib import Path\n"
        "from orchestrator.journal.events import Suggested\n"
        "from orchestrator.journal.file import Journal\n"
        "journal = Journal(Path(sys.argv[1]), create=True)\n"
        "config = {'epochs': 3, 'seed': 0, 'metric': 'm', 'mode': 'max'}\n"
        "for index in range(10_000):\n"
        "    journal.append(Suggested({'n': index}, config, index), trial=index, sync=True)\n"
        "    print(index, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [json.loads(process.stdout.readline()) for _ in range(25)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    acknowledged += [json.loads(line) for line in process.stdout.read().split()]
    process.stdout.close()
    kept = [entry.event.params["n"] for entry in read(path) if isinstance(entry.event, Suggested)]
    assert kept == list(range(len(kept)))
    assert len(kept) >= len(acknowledged)
