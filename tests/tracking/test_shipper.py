"""The shipper as a process: when it ends, that kills lose and double nothing, and what its status tells."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.layout import JOURNAL, TRACKING
from orchestrator.journal.cursor import ShipStatus, is_shipping, read_status, ship_lock, write_status
from orchestrator.journal.record import read_sweep
from orchestrator.stores.opening import open_store, store_settings
from orchestrator.tracking import shipper
from orchestrator.tracking.supervisor import start_shipper, wait_until_shipped
from orchestrator.tracking.sync import sync


def wait(process: subprocess.Popen[bytes], timeout_s: float = 30.0) -> int:
    try:
        return process.wait(timeout_s)
    finally:
        process.kill()
        process.wait()


def test_it_ends_when_the_sweep_is_closed_and_shipped(new_sweep: Any, tables: Any) -> None:
    sweep = new_sweep()
    process = start_shipper(sweep.folder)
    sweep.run_trial(0)
    sweep.journal.commit()
    assert wait_until_shipped(sweep.folder, 20.0).shipped == sweep.journal.last_seq
    assert process.poll() is None
    sweep.finish(1)
    assert wait(process) == 0
    status = read_status(sweep.folder)
    assert status == ShipStatus(shipped=7, error=None, refused=0, ended=True)
    assert [row[1] for row in tables()["runs"]] == ["FINISHED", "FINISHED"]
    assert not is_shipping(sweep.folder)


def test_told_to_end_it_ships_what_is_committed_and_marks_the_rest(new_sweep: Any, tables: Any) -> None:
    sweep = new_sweep()
    sweep.journal.commit()
    process = start_shipper(sweep.folder)
    wait_until_shipped(sweep.folder, 20.0)
    sweep.start(0)
    sweep.report(0, 1, 3)
    sweep.journal.commit()
    process.terminate()
    assert wait(process) == 0
    assert [row[1] for row in tables()["runs"]] == ["KILLED", "KILLED"]
    assert len(tables()["metrics"]) == 10


def test_it_outlives_its_driver_only_to_ship_the_rest(new_sweep: Any, tables: Any) -> None:
    sweep = new_sweep()
    sweep.start(0)
    sweep.journal.commit()
    code = "import sys, pathlib; from orchestrator.tracking.supervisor import start_shipper; "
    code += f"print(start_shipper(pathlib.Path({str(sweep.folder)!r})).pid)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not read_status(sweep.folder).ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [row[1] for row in tables()["runs"]] == ["KILLED", "KILLED"]


def test_ten_kills_lose_and_double_nothing(new_sweep: Any, ship: Any, tables: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    twin = new_sweep(
        f"twin/{sweep.uid}", kind="local", uri=f"sqlite:///{tmp_path}/twin.db", artifacts=f"{tmp_path}/twin-a"
    )
    chance = random.Random(0)
    index = 0
    for _ in range(10):
        process = start_shipper(sweep.folder)
        until = time.monotonic() + chance.uniform(0.15, 0.5)
        while time.monotonic() < until:
            sweep.run_trial(index)
            sweep.journal.commit()
            index += 1
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for repeat in range(index):
        twin.run_trial(repeat)
    for one in (sweep, twin):
        one.finish(index)
        ship(one, end=True)
    ours = tables()
    theirs = tables(tmp_path / "twin.db")
    for found in (ours, theirs):  # the description names the folder
        found["tags"] = [row for row in found["tags"] if row[1] != "mlflow.note.content"]
    assert ours == theirs
    assert len(ours["runs"]) == index + 1


CUT_OFF = """
import sys
from pathlib import Path
from orchestrator.journal.events import Started
from orchestrator.journal.file import Journal

journal = Journal(Path(sys.argv[1]))
for attempt in (1, 2):
    journal.append(Started(began_ms=None), trial=0, attempt=attempt, sync=True)
    print(flush=True)
    sys.stdin.readline()
"""

INDEX = """
import sys

with open(sys.argv[1], "r+b") as index:
    kept = index.read(136)  # its header, twice, and the number of frames that are in the database
    print(flush=True)
    sys.stdin.readline()
    index.seek(0)
    index.write(kept)
"""


def test_a_commit_that_a_kill_cut_off_from_the_index_is_shipped(new_sweep: Any, tables: Any) -> None:
    """A driver that is killed between a commit's last byte in the file and its entry in the index that readers share.

    The next to open the journal finds it there. Were the run ended without it, a resume would tell another story.
    """
    sweep = new_sweep()
    sweep.append("suggested", 0, params={"optimizer.lr": 0.1}, config=sweep.config(0.1))
    sweep.journal.close()
    (sweep.folder / TRACKING).mkdir()
    path = sweep.folder / JOURNAL
    pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen([sys.executable, "-c", CUT_OFF, str(path)], **pipe) as driver,
        contextlib.closing(shipper.Shipper(sweep.folder)) as ours,
    ):
        assert driver.stdin
        assert driver.stdout
        driver.stdout.readline()
        assert ours.ship_everything() == 3
        with subprocess.Popen([sys.executable, "-c", INDEX, f"{path}-shm"], **pipe) as index:
            assert index.stdin
            assert index.stdout
            index.stdout.readline()
            driver.stdin.write(b"\n")
            driver.stdin.flush()
            driver.stdout.readline()
            driver.kill()
            driver.wait()
            index.communicate(b"\n")
        assert ours.ship_everything() == 0, "no reader is told of it"
        assert shipper.follow(ours, driver_lives=lambda: False, stop=threading.Event())
    assert read_status(sweep.folder).shipped == 4
    assert ("attempt", "2") in [row[1:3] for row in tables()["tags"]]


def test_only_one_ships_a_sweep(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.finish(1)
    with ship_lock(sweep.folder):
        assert is_shipping(sweep.folder)
        assert wait(start_shipper(sweep.folder)) == 6
        with pytest.raises(RunningElsewhereError, match=f"process {os.getpid()} on .* ships digits-0a1b2c3d already"):
            sync(sweep.folder)
    assert "ships digits-0a1b2c3d already" in (sweep.folder / "tracking" / "shipper.log").read_text()


def test_waiting_ends_when_the_time_is_up(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.journal.commit()
    start = time.monotonic()
    assert wait_until_shipped(sweep.folder, 0.3) == ShipStatus()
    assert 0.3 <= time.monotonic() - start < 2.0


def test_a_failure_of_its_own_is_told(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.append("started", 7, 1, host="here", pid=1)  # never suggested
    sweep.journal.commit()
    assert wait(start_shipper(sweep.folder)) == 1
    assert read_status(sweep.folder).error == "the shipper failed: KeyError: 7 (tracking/shipper.log)"
    assert "Traceback" in (sweep.folder / "tracking" / "shipper.log").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1, "what": 2}', '{"format": 99, "shipped": 5}'])
def test_an_unreadable_cursor_is_the_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "cursor.json").write_text(text)
    assert read_status(tmp_path) == ShipStatus()


def test_the_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "tracking").mkdir()
    status = ShipStatus(shipped=12, error="no answer", refused=1, ended=True)
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status


def test_sync_refuses_a_folder_without_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="holds no sweep"):
        sync(tmp_path)


def test_sync_ships_an_untracked_sweep_beside_it(new_sweep: Any, tables: Any, tmp_path: Path) -> None:
    sweep = new_sweep(kind="none")
    sweep.run_trial(0)
    sweep.finish(1)
    opened = read_sweep(sweep.folder).opening
    assert store_settings(opened, sweep.folder)["uri"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert sync(sweep.folder) == f"7 events of digits-0a1b2c3d shipped to sqlite:///{tmp_path}/mlflow.db"
    assert len(tables()["runs"]) == 2


def test_the_shipper_does_not_import_mlflow_for_a_local_store() -> None:
    code = "import sys, orchestrator.tracking.shipper, orchestrator.stores.sqlite, orchestrator.tracking.dashboard;"
    code += "print(sorted({'mlflow', 'torch', 'numpy', 'sqlalchemy', 'requests'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_it_looks_at_once_where_it_is_woken(new_sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a sweep does not wait for the next look at its journal."""
    monkeypatch.setattr(shipper, "POLL_S", 3600.0)
    sweep = new_sweep()
    (sweep.folder / TRACKING).mkdir()
    sweep.journal.commit()
    stop, wake, result = threading.Event(), threading.Event(), []

    def ship() -> None:
        with contextlib.closing(shipper.Shipper(sweep.folder, make_store=open_store)) as ours:
            result.append(shipper.follow(ours, driver_lives=lambda: True, stop=stop, wake=wake))

    thread = threading.Thread(target=ship)
    thread.start()
    try:
        while read_status(sweep.folder).shipped < sweep.journal.last_seq:
            assert thread.is_alive()
            time.sleep(0.02)
        sweep.run_trial(0)
        sweep.finish(1)
        wake.set()
        thread.join(60)
        assert result == [True]
        assert read_status(sweep.folder).shipped == sweep.journal.last_seq
    finally:
        stop.set()
        wake.set()
        thread.join()
