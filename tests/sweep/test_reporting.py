"""A sweep's report, written beside it: recorded by the driver, superseded, failing without harm, and gone with its driver."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.base.layout import JOURNAL, LOCK, PUBLISHED
from orchestrator.base.locks import DRIVING, hold
from orchestrator.base.removal import opened_below
from orchestrator.base.rules import RULES
from orchestrator.cli import main
from orchestrator.journal.events import Published, Started, SweepClosed, SweepResumed, Terminal
from orchestrator.journal.file import Journal
from orchestrator.journal.marking import write_mark
from orchestrator.journal.publishing import file_event
from orchestrator.journal.record import SweepRecord, read_events, read_sweep
from orchestrator.sweep import reporting
from orchestrator.sweep.published import next_number, remove_superseded
from orchestrator.sweep.reporting import Reporting, make_up
from orchestrator.verify import verify
from tests.simulated import simulated_sweep

PATIENCE_S = 600.0
"""What is last in line may wait long beside other tests."""


class Driver:
    """What of a driver has to do with reports: a journal, its record, and a line for people."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, list[str]()
        self.record = read_sweep(folder)
        self.journal = Journal(folder / JOURNAL)
        self.reporting = Reporting(folder, self.journal, self.record, enabled=True, say=self.said.append)
        for listener in (self.record.apply, self.reporting):
            self.journal.subscribe(listener)

    def goes_on(self) -> None:
        """The sweep is resumed, and a trial begins."""
        self.journal.append(SweepResumed())
        self.journal.append(Started(), trial=0, attempt=2, sync=True)

    def step_until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline
            self.reporting.step()
            time.sleep(0.01)

    @property
    def reports(self) -> list[Published]:
        """The events of reports."""
        self.journal.commit()
        events = [entry.event for entry in read_events(self.folder)]
        return [event for event in events if isinstance(event, Published) and event.key == "report.html"]

    @property
    def process(self) -> int:
        """The process that writes now."""
        assert self.reporting._writer is not None
        return self.reporting._writer._process.pid

    def there(self) -> list[str]:
        """What lies in `published/`."""
        return sorted(path.name for path in (self.folder / PUBLISHED).glob("*"))


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=4, epochs=2)
    with opened_below(folder) as sweep:
        write_mark(sweep, folder.name, "0" * 32)
    driver = Driver(folder)
    yield driver
    driver.reporting.stop()
    driver.journal.close()


def test_the_last_report_is_recorded_and_what_came_before_it_goes(driver: Driver) -> None:
    folder = driver.folder / PUBLISHED
    (folder / "model-3").mkdir(parents=True)
    (folder / "model-3" / "MLmodel").write_text("of a driver that was killed")
    (folder / "report-7.html.tmp").write_text("<html")
    (folder / "notes.txt").write_text("a person's")
    path = driver.reporting.finish()
    assert path == folder / "report-8.html"
    text = path.read_text()
    assert text.startswith("<!doctype html>")
    assert "sim" in text
    (event,) = driver.reports
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert event == Published("sim-00000000", "report.html", digest, path="published/report-8.html")
    remove_superseded(driver.folder, driver.record)
    assert driver.there() == ["notes.txt", "report-8.html"]
    assert driver.said == []


@pytest.mark.slow
def test_while_it_runs_a_report_follows_what_changed_and_nothing_else(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "PAUSE_S", 0.0)
    monkeypatch.setattr(reporting, "TIMES_ITS_COST", 0.0)
    for _ in range(3):
        driver.reporting.step()
    assert driver.reporting._writer is None, "nothing has begun"
    driver.goes_on()
    driver.step_until(lambda: driver.there() == ["report-1.html"])
    assert os.getpriority(os.PRIO_PROCESS, driver.process) == 19
    driver.step_until(lambda: driver.reporting._writer is None)
    for _ in range(20):
        driver.reporting.step()
        assert driver.reporting._writer is None
    driver.journal.append(Started(), trial=0, attempt=3, sync=True)
    driver.step_until(lambda: driver.there() == ["report-2.html"])
    assert [event.path for event in driver.reports] == ["published/report-1.html", "published/report-2.html"]


def test_reports_are_a_minute_apart_and_twenty_times_what_they_cost(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now)
    driver.goes_on()
    assert driver.reporting._due == 1060.0
    for cpu_s, due in ((1.0, 1060.0), (3.5, 1070.0)):
        driver.reporting._ask(0)
        driver.reporting._take({"cpu_s": cpu_s})
        assert driver.reporting._due == due


def test_the_death_of_its_process_is_told_once_and_ends_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "PAUSE_S", 0.0)
    driver.goes_on()
    for _ in range(2):
        driver.reporting._changed = True
        driver.step_until(lambda: driver.reporting._writer is not None)
        os.kill(driver.process, signal.SIGKILL)
        driver.step_until(lambda: driver.reporting._writer is None)
    (line,) = driver.said
    assert line.startswith("the report could not be made (its process ended with -9); make it with:  ")
    assert "orchestrator report sim-00000000" in line
    assert driver.reports == []
    assert driver.reporting.finish() == driver.folder / PUBLISHED / "report-1.html"


def test_a_report_that_finds_no_room_leaves_nothing(driver: Driver) -> None:
    driver.reporting._ask(0)
    resource.prlimit(driver.process, resource.RLIMIT_FSIZE, (1000, 1000))
    driver.step_until(lambda: driver.reporting._writer is None)
    (line,) = driver.said
    assert "File too large" in line
    assert driver.there() == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_written_where_the_folder_is_another_thing(driver: Driver, kind: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    if kind == "link":
        (driver.folder / PUBLISHED).symlink_to(tmp_path / "elsewhere")
    else:
        (driver.folder / PUBLISHED).write_text("mine")
    assert driver.reporting.finish() is None
    (line,) = driver.said
    assert ("is a link" if kind == "link" else "is no folder") in line
    remove_superseded(driver.folder, driver.record)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_untracked_sweep_has_no_report(driver: Driver) -> None:
    silent = Reporting(driver.folder, driver.journal, driver.record, enabled=False, say=driver.said.append)
    assert silent.finish() is None
    assert driver.there() == driver.said == []


def test_versions_count_on_from_what_lies_there_and_what_is_recorded(tmp_path: Path) -> None:
    (tmp_path / PUBLISHED).mkdir()
    record = SweepRecord()
    assert next_number(tmp_path, record) == 1
    record.published["s-1", "report.html"] = Published("s-1", "report.html", "0", path="published/report-4.html")
    record.published["s-1", "a.png"] = Published("s-1", "a.png", "0", path="published")
    assert next_number(tmp_path, record) == 5
    (tmp_path / PUBLISHED / "model-6").mkdir()
    (tmp_path / PUBLISHED / "report-x.html").touch()
    assert next_number(tmp_path, record) == 7


def test_an_interrupt_that_leaves_no_report_says_what_makes_it_up(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt("from the terminal")

    monkeypatch.setattr(reporting._Writer, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt, match="from the terminal"):
        driver.reporting.finish()
    (line,) = driver.said
    assert line.startswith("interrupted before the report was finished; make up for it with:  orchestrator resume sim-")
    assert driver.reporting._writer is None
    assert driver.reports == []


# A driver that was killed between the closing and its last report


def cut_off(runs: Path, *, earlier: bool = False, tracking: str = "local", rules: int = RULES) -> Path:
    """A closed sweep without the report of its end; with one of its middle, if `earlier`."""
    folder = simulated_sweep(runs / "sim-00000000", trials=4, epochs=2, tracking=tracking, rules=rules)
    if earlier:
        (folder / PUBLISHED).mkdir()
        (folder / PUBLISHED / "report-1.html").write_text("of its middle")
        event = file_event(folder, folder.name, "report.html", folder / PUBLISHED / "report-1.html")
        with Journal(folder / JOURNAL) as journal:
            closed = read_sweep(folder).closed
            journal.append(SweepResumed())
            journal.append(event)
            assert closed is not None
            journal.append(closed)
    return folder


def events_of(folder: Path) -> list[object]:
    return [entry.event for entry in read_events(folder)]


@pytest.mark.parametrize("earlier", [False, True], ids=["none", "of its middle"])
@pytest.mark.parametrize("command", ["resume", "sync"])
def test_the_report_of_a_killed_driver_is_made_up(
    tmp_path: Path, command: str, earlier: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut_off(tmp_path, earlier=earlier)
    before = events_of(folder)
    where = ["sim", "--runs-dir", str(tmp_path)]
    assert main([command, *where]) == 0
    path = folder / PUBLISHED / f"report-{1 + earlier}.html"
    said = capsys.readouterr().out
    assert said.count(f"the report was not finished; it is now: {path}\n") == 1
    *same, event = events_of(folder)
    assert same == before
    assert event == file_event(folder, folder.name, "report.html", path)
    assert [one.name for one in (folder / PUBLISHED).iterdir()] == [path.name]
    if command == "resume":
        assert f"MLflow has not taken {len(before) + 1} events:  orchestrator sync" in said
    assert main(["sync", *where]) == 0
    (report,) = (tmp_path / "artifacts").rglob("report.html")
    assert report.read_bytes() == path.read_bytes()
    for again in ("resume", "sync"):
        assert main([again, *where]) == 0
    assert len(events_of(folder)) == len(before) + 1, "there is nothing left to make up"
    said = capsys.readouterr().out
    assert "the report was not" not in said
    assert "had everything already" in said


@pytest.mark.parametrize("kind", ["untracked", "of an earlier version", "driven", "not closed"])
@pytest.mark.parametrize("command", ["resume", "sync"])
def test_other_reports_are_nobodys_to_make_up(
    tmp_path: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut_off(
        tmp_path,
        tracking="none" if kind == "untracked" else "local",
        rules=2 if kind == "of an earlier version" else RULES,
    )
    if kind == "not closed":
        with Journal(folder / JOURNAL) as journal:
            journal.append(SweepResumed())
    before = events_of(folder)
    with hold(folder / LOCK, f"{DRIVING} sim") if kind == "driven" else contextlib.nullcontext():
        said: list[str] = []
        assert make_up(folder, said.append) is None
    if kind in ("untracked", "of an earlier version"):
        assert main([command, "sim", "--runs-dir", str(tmp_path)]) == 0
        assert "the report" not in capsys.readouterr().out
    assert said == []
    assert events_of(folder) == before
    assert not (folder / PUBLISHED).exists()


@pytest.mark.parametrize("command", ["resume", "sync"])
def test_a_report_that_cannot_be_made_up_is_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut_off(tmp_path)
    (folder / PUBLISHED).write_text("mine")
    before = events_of(folder)
    assert main([command, "sim", "--runs-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("the report could not be made (") == 1
    assert "is no folder" in said
    assert ("nothing to do: " if command == "resume" else " shipped to ") in said
    assert events_of(folder) == before


WAITS = """
import os, signal, subprocess, sys
command = [sys.executable, "-P", "-m", "orchestrator.sweep.report_process", ".", "--parent-pid", str(os.getpid())]
child = subprocess.Popen(command, stdin={stdin}, stdout=subprocess.PIPE)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("pipe", ["closed", "held by another"])
def test_it_ends_with_its_driver(pipe: str) -> None:
    """Nothing was asked of it yet, so that it would wait for ever."""
    read, write = os.pipe()
    code = WAITS.format(stdin="subprocess.PIPE" if pipe == "closed" else read)
    ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, pass_fds=[read], check=False)
    assert ran.returncode == -signal.SIGKILL
    process = Path("/proc", ran.stdout.decode().strip())
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "State:\tZ" not in (process / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    os.close(read)
    os.close(write)


TINY = ["data=synthetic", "model.width=8", "model.hidden=1", "batch_size=32", "epochs=1", "name=tiny"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_ends_with_a_report_and_a_resume_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["launch", *TINY, "trials=2", "optimizer.lr=0.01,0.1,0.5", "sampler=grid"]) == 0
    (folder,) = (path.parent for path in Path("runs").glob(f"*/{JOURNAL}"))
    *_, closed, published = (entry.event for entry in read_events(folder))
    assert isinstance(closed, SweepClosed)
    assert isinstance(published, Published)
    (report,) = Path("runs/artifacts").rglob("report.html")
    assert report.samefile(folder / str(published.path))
    assert capfd.readouterr().err == ""
    assert main(["resume", folder.name, "--more", "1"]) == 0
    ends = [entry.event for entry in read_events(folder) if isinstance(entry.event, Terminal)]
    assert len(ends) == 3
    last = read_sweep(folder).published[folder.name, "report.html"]
    assert last != published
    assert report.samefile(folder / str(last.path))
    assert not (folder / str(published.path)).exists()
    assert verify(folder).summary == "verified: 26/26"
    assert main(["resume", folder.name]) == 0, "what is published after a closing leaves it closed"
    assert main(["delete", folder.name, "--yes"]) == 0
    assert not folder.exists()
