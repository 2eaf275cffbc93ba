"""The driver's side of a sweep's report: has it written now and then by a process of low priority, and records each version.

The driver alone writes the journal, and waits for nothing until the sweep is closed. A report that fails ends no sweep.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import JOURNAL, LOCK, PUBLISHED
from orchestrator.base.locks import hold
from orchestrator.base.processes import python
from orchestrator.base.rules import SHOWN_RULES, rules_of
from orchestrator.journal.events import Published, Reported, Started, SweepClosed, Terminal
from orchestrator.journal.file import Entry, Journal
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.place import CopyError
from orchestrator.journal.publishing import file_event
from orchestrator.journal.record import SweepRecord, read_events
from orchestrator.stores.settling import settle_sweep
from orchestrator.sweep.diagnoses import publish_diagnoses
from orchestrator.sweep.published import REPORT, next_number, remove_superseded

PAUSE_S = 60.0
"""From the first trial to the first report, and at least from one to the next."""

TIMES_ITS_COST = 20
"""A report that takes a second of a core is followed by a pause of so many: it takes at most a twentieth of one core."""

LAST_IN_LINE = 19
"""The niceness of the process while trials run."""

PATIENCE_S = 60.0
PATIENCE_A_TRIAL_S = 0.02
"""How long the end of a sweep waits for its report."""

END_S = 5.0
"""How long a killed process may take to end."""


class Reporting:
    """A listener of the journal that has the sweep's report written while it runs, and once when it is closed.

    Args:
        folder: of the sweep.
        record: what its events add up to; the driver keeps it up to date.
        enabled: False where the sweep is not tracked: nobody would be shown the report.
        say: takes a line for people.
    """

    def __init__(
        self, folder: Path, journal: Journal, record: SweepRecord, *, enabled: bool, say: Callable[[str], None]
    ) -> None:
        self._folder, self._journal, self._record = folder, journal, record
        self._enabled, self._say = enabled, say
        self._writer: _Writer | None = None
        self._due: float | None = None
        self._changed = False
        self._told = False
        self._superseded_by: int | None = None

    def __call__(self, entry: Entry) -> None:
        self._changed = self._changed or not isinstance(entry.event, Published)
        if self._due is None and isinstance(entry.event, Started | Reported | Terminal):
            self._due = time.monotonic() + PAUSE_S

    def step(self) -> None:
        """Does what is due, and waits for nothing; to be called now and then while trials run."""
        if self._writer is not None:
            if (answer := self._writer.answer()) is not None:
                self._take(answer)
        elif self._superseded_by is not None and self._superseded_by <= self._journal.durable_seq:
            self._tidy()
        elif self._enabled and self._changed and self._due is not None and self._due <= time.monotonic():
            self._ask(LAST_IN_LINE)

    def finish(self) -> Path | None:
        """Has the report of the closed sweep written, and waits for it, but not for ever; where it lies, if it was."""
        if not self._enabled:
            return None
        self.stop()
        before = self._shown
        try:
            self._ask(0)
            if self._writer is not None:
                patience_s = PATIENCE_S + PATIENCE_A_TRIAL_S * len(self._record.trials)
                late = {"error": f"it was not there after {patience_s:.0f} s"}
                self._take(self._writer.answer(patience_s) or late)
        except KeyboardInterrupt:
            if self._shown is before:
                command = f"orchestrator resume {self._folder.name}{runs_dir_option(self._folder)}"
                self._say(f"interrupted before the report was finished; make up for it with:  {command}")
            raise
        finally:
            self.stop()
        self._journal.commit()
        shown = self._shown
        return self._folder / shown.path if shown and shown.path else None

    def stop(self) -> None:
        """Ends the process, wherever it is."""
        if self._writer is not None:
            self._writer.end()
            self._writer = None

    @property
    def _shown(self) -> Published | None:
        """The report that was recorded last."""
        return self._record.published.get((self._record.uid, REPORT))

    def _ask(self, nice: int) -> None:
        name = f"report-{next_number(self._folder, self._record)}.html"
        self._changed = False
        try:
            self._writer = _Writer(self._folder, name, nice=nice)
        except OSError as error:  # no memory or no file handle left for it
            self._failed(str(error))

    def _take(self, answer: Mapping[str, Any]) -> None:
        """Records the version that was written, or tells that there is none."""
        assert self._writer is not None
        path = self._folder / PUBLISHED / self._writer.name
        self.stop()
        self._due = time.monotonic() + max(PAUSE_S, TIMES_ITS_COST * float(answer.get("cpu_s", 0.0)))
        try:
            if "error" in answer:
                raise NotReadyError(answer["error"])
            event = file_event(self._folder, self._record.uid, REPORT, path)
        except NotReadyError as error:
            self._failed(str(error))
            return
        failpoint("publishing.before")
        self._superseded_by = self._journal.append(event).seq
        failpoint("publishing.after")

    def _failed(self, why: str) -> None:
        """Says once that there is no report, and how to make it."""
        self._superseded_by = self._superseded_by or 0
        if not self._told:
            self._told = True
            self._say(_without_report(self._folder, why))

    def _tidy(self) -> None:
        remove_superseded(self._folder, self._record)
        self._superseded_by = None


def make_up(folder: Path, say: Callable[[str], None]) -> Path | None:
    """Finishes the report of a closed sweep whose driver went before it had, and says so; where it lies, if it was made now.

    What stands in the way is told and raises nothing. Nothing is told where another process works on the sweep, whose driver may
    be at its report, or where the sweep is a copy, which commands that write refuse themselves.
    """
    folder = folder.resolve()
    try:
        if _without_last_report(folder) is None:
            return None
    except NotReadyError:  # the command that asks reads the same journal
        return None
    try:
        with hold(folder / LOCK, f"finishes the report of {folder.name}"):
            settle_sweep(folder)
            if (record := _without_last_report(folder)) is None:
                return None
            with Journal(folder / JOURNAL) as journal:
                journal.subscribe(record.apply)
                publish_diagnoses(folder, record, journal, say)
                before = journal.last_seq
                path = Reporting(folder, journal, record, enabled=True, say=say).finish()
                if path is None or journal.last_seq == before:
                    return None
            remove_superseded(folder, record)
    except (RunningElsewhereError, CopyError):
        return None
    except (NotReadyError, OSError) as error:
        say(_without_report(folder, str(error)))
        return None
    say(f"the report was not finished; it is now: {path}")
    return path


def _without_last_report(folder: Path) -> SweepRecord | None:
    """The record of a sweep that is closed, and whose report was not recorded since; None of any other.

    One that is not tracked has none, nor has one that began before there were reports.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
    """
    record, missing = SweepRecord(), False
    for entry in read_events(folder):
        record.apply(entry)
        if isinstance(entry.event, SweepClosed):
            missing = True
        elif isinstance(entry.event, Published) and (entry.event.run, entry.event.key) == (record.uid, REPORT):
            missing = False
    if not missing or record.closed is None or record.opened.tracking.get("kind") == "none":
        return None
    return record if record.plan and rules_of(record.plan) >= SHOWN_RULES else None


def _without_report(folder: Path, why: str) -> str:
    """What is said where there is no report, with how to make it."""
    command = f"orchestrator report {folder.name}{runs_dir_option(folder)}"
    return f"the report could not be made ({' '.join(why.split())[:300]}); make it with:  {command}"


class _Writer:
    """The process that writes one report, as the driver sees it."""

    def __init__(self, folder: Path, name: str, *, nice: int) -> None:
        self.name = name
        options = ["--parent-pid", str(os.getpid()), "--nice", str(nice)]
        self._process = subprocess.Popen(
            python("-m", "orchestrator.sweep.report_process", str(folder), *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told by the answer
            self._process.stdin.write(f"{name}\n".encode())
        self._said = b""

    def answer(self, timeout_s: float = 0.0) -> Mapping[str, Any] | None:
        """What the process has said of its report once it has ended; None where it has not within the time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while poll.poll(1000 * max(0.0, deadline - time.monotonic())):
            if more := os.read(self._process.stdout.fileno(), 1 << 16):
                self._said += more
            else:
                code = self._process.wait()
                return json.loads(self._said) if code == 0 else {"error": f"its process ended with {code}"}
        return None

    def end(self) -> None:
        """Ends it, wherever it is."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a disk
            self._process.wait(END_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
