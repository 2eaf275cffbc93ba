"""The driver's side of shipping: starts the shipper's process, starts it again when it dies, and waits for it at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from orchestrator.base.layout import JOURNAL, TRACKER_LOG, TRACKING
from orchestrator.base.processes import python
from orchestrator.base.regular import open_own
from orchestrator.journal.cursor import ShipStatus, is_shipping, read_status
from orchestrator.journal.events import Reported, Started, Terminal
from orchestrator.journal.file import Entry, Reader
from orchestrator.tracking.shipper import LOOK_NOW

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
NO_RESULT_S = 10.0
"""Without a result for this many seconds the shipper is started all the same, so that MLflow shows what runs."""

INTERRUPT_S = 5.0
"""How long an interrupted driver waits until MLflow has been told."""

NEW_STORE_S = 15.0
"""How much longer it waits where MLflow may still be making the store."""

STARTS_AT_THE_END = 2
"""How often a dead shipper is started again while the driver waits for the last events, looking every `LOOK_S`."""

LOOK_S = 1.0
END_S = 10.0
"""How long the process may take to end once it is told to."""


class Supervisor:
    """Listens to the journal's events; the shipper starts with the first result. Nothing waits for it until `finish`.

    Args:
        enabled: False where the sweep is not tracked: nothing is ever started.
        early: start with the first event: for a server the tracker imports MLflow first, and a new store has to be made.
    """

    def __init__(self, sweep_folder: Path, *, enabled: bool, early: bool = False) -> None:
        self._folder, self._enabled, self._early = sweep_folder, enabled, early
        self._process: subprocess.Popen[bytes] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._next_start = float("-inf")
        self._training_since: float | None = None

    def __call__(self, entry: Entry) -> None:
        if isinstance(entry.event, Started) and self._training_since is None:
            self._training_since = time.monotonic()
        if (self._early or isinstance(entry.event, Reported | Terminal)) and self._process is None:
            self._start()

    def keep_alive(self) -> None:
        """Starts the process again where it died or could not be started, with growing pauses."""
        tried = self._next_start > float("-inf")
        long_epoch = self._training_since is not None and time.monotonic() - self._training_since > NO_RESULT_S
        if (tried or long_epoch) and self._is_dead():
            self._start()

    def interrupt(self) -> bool:
        """Has what is committed shipped and open runs marked interrupted; whether that was done in time."""
        if not self._enabled or self._process is None:
            return True
        deadline = time.monotonic() + INTERRUPT_S + (NEW_STORE_S if self._early else 0.0)
        while self._process.poll() is None and time.monotonic() < deadline and not is_shipping(self._folder):
            time.sleep(0.02)  # it listens to signals once it ships
        return self._end(max(0.1, deadline - time.monotonic())) == 0

    def finish(self, timeout_s: float) -> tuple[ShipStatus | None, int]:
        """How far MLflow is once everything is shipped or the time is up, and how many events wait."""
        if not self._enabled:
            return None, 0
        with contextlib.closing(Reader(self._folder / JOURNAL)) as reader:
            last_seq = reader.last_seq()
        deadline, starts = time.monotonic() + timeout_s, STARTS_AT_THE_END
        if self._process is not None and is_shipping(self._folder):  # before that it does not listen to signals
            self._process.send_signal(LOOK_NOW)
        while True:
            if self._is_dead() and starts:
                starts -= 1
                self._next_start = 0.0
                self._start()
            left_s = deadline - time.monotonic()
            status = wait_until_shipped(self._folder, max(0.0, min(LOOK_S, left_s)))
            waiting = last_seq - status.shipped
            gone = self._is_dead() and not starts and not is_shipping(self._folder)
            if waiting <= 0 or left_s <= 0 or gone:
                break
        self._end(END_S)
        return status, waiting

    def _is_dead(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _start(self) -> None:
        now = time.monotonic()
        if not self._enabled or now < self._next_start:
            return
        self._next_start = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        try:
            self._process = start_shipper(self._folder)
        except OSError:  # no memory or no file handle left for it: a sweep does not end for that
            self._process = None

    def _end(self, timeout_s: float) -> int | None:
        """Tells the process to end; its exit code, negative where it had to be killed."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with MLflow, where that is making the store
            return self._process.wait()


def start_shipper(sweep_folder: Path) -> subprocess.Popen[bytes]:
    """Starts the process that ships this sweep for as long as the calling one lives, and then until it is done.

    It has a session of its own, so that Ctrl-C reaches the driver alone; `terminate()` tells it to ship what is committed,
    mark what is open as interrupted, and end. On a resume, append `sweep_resumed` before starting it.
    """
    folder = sweep_folder / TRACKING
    folder.mkdir(exist_ok=True)
    command = ["-m", "orchestrator.tracking.shipper", str(sweep_folder), "--parent-pid", str(os.getpid())]
    with open(open_own(folder / TRACKER_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
        return subprocess.Popen(
            python(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def wait_until_shipped(sweep_folder: Path, timeout_s: float) -> ShipStatus:
    """Waits until everything committed to the journal is in MLflow; returns how far it is then, or when the time is up.

    Returns early where no process ships the sweep any more.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.closing(Reader(sweep_folder / JOURNAL)) as reader:
        while True:
            shipping = is_shipping(sweep_folder)
            status = read_status(sweep_folder)
            if status.shipped >= reader.last_seq() or time.monotonic() >= deadline:
                return status
            if not shipping and time.monotonic() > deadline - timeout_s + 5.0:
                return status
            time.sleep(0.05)
