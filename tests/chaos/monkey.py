"""A real sweep under random SIGKILLs: of its driver, the driver's process group, trial workers and the MLflow server; and under
processes that stop for seconds, and a disk that fills up.

After each death the runner does what a user would, `orchestrator resume`, and at the end it compares the journal, MLflow and the
files. What is killed and when follows from a seed and from how far the sweep is, not from the clock.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.cursor import is_shipping, read_status
from orchestrator.journal.events import Reported
from orchestrator.journal.file import Entry, Reader
from orchestrator.journal.record import read_sweep
from orchestrator.verify import verify
from tests.chaos import records
from tests.chaos.server import Server

MARK = "CHAOS_RUN"
"""A variable of everything that a run starts, by which it is found at the end."""

OVERRIDES = [
    *("data=synthetic", "data.num_examples=8000", "model.width=8", "model.hidden=1", "batch_size=32"),
    *("report_every_s=0.3", "optimizer.lr=tag(log,interval(1e-3,1))"),
]
"""A sweep of trials whose epochs take some 50 ms and are reported several times a second."""

DOWN_S = (1.0, 2.0)
"""How long a killed MLflow server stays away."""

PAUSE_S = (1.0, 5.0)
"""How long a process is stopped by SIGSTOP, and a disk is full."""

SETTLE_S = 30.0
UNEXPECTED_ENDS = 3
WORKER = "ray::TrialWorker."


@dataclass
class Outcome:
    """What a run came to; `ok` where nothing is wrong."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    states: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left_running: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    verified: str = ""
    driver_recovery_s: list[float] = field(default_factory=list)
    trial_recovery_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    timeline: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.left_running or self.wrong)

    def report(self) -> dict[str, Any]:
        """As plain data; counts of what is wrong, and the first of each."""
        return {
            "seed": self.seed,
            "kills": dict(self.kills),
            "trials": self.trials,
            "states": self.states,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "left_running": len(self.left_running),
            "wrong": [*self.lost[:5], *self.doubled[:5], *self.left_running[:5], *self.wrong[:20]],
            "verified": self.verified,
            "driver_restart_to_first_epoch_s": _spread(self.driver_recovery_s),
            "trial_kill_to_training_s": _spread(self.trial_recovery_s),
            "seconds": round(self.seconds, 1),
            "ok": self.ok,
        }

    def told(self) -> str:
        """For a test that fails."""
        return "\n".join([f"seed {self.seed}", *self.timeline, str(self.report())])


@dataclass(frozen=True)
class Death:
    """One kill."""

    time_ms: int
    kind: str


class Monkey:
    """One run.

    Args:
        folder: for the sweep, the logs and the server's store.
        kills: kind -> how often; the kinds are `driver`, `group`, `trial` and `server`, `pause` (SIGSTOP to the driver or a
            worker, and SIGCONT after seconds) and `disk` (the disk of `folder` is full for seconds: it has to be a small one).
        overrides: of the sweep, besides `trials` and `epochs`.
        server: one that answers, to be used and left running; else one is started for the run.
        say: takes each line of the timeline as it happens.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        trials: int,
        epochs: int,
        kills: Mapping[str, int],
        overrides: list[str],
        server: Server | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._folder, self._server_given, self._say = folder, server, say
        self._chance = random.Random(seed)
        self._overrides = [*overrides, f"trials={trials}", f"epochs={epochs}", "max_retries=100"]
        self._due = self._schedule(kills, trials * epochs)
        self._outcome = Outcome(seed)
        self._events: list[Entry] = []
        self._epochs = 0
        self._deaths: list[Death] = []
        self._starts: list[int] = []
        self._paused: list[tuple[float, Callable[[], object]]] = []
        self._began = time.monotonic()

    def run(self) -> Outcome:
        """Runs the sweep to its end under fire."""
        temporary = tempfile.mkdtemp(prefix="c", dir="/tmp")  # short: Ray puts sockets there
        self._environment = {**os.environ, "TMPDIR": temporary, MARK: temporary}
        try:
            with self._a_server() as self._server:
                self._began = time.monotonic()
                self._run_sweep()
                self._outcome.seconds = time.monotonic() - self._began
                self._judge()
        finally:
            for process in self._ours():
                process.kill()
            shutil.rmtree(temporary, ignore_errors=True)
        return self._outcome

    @contextlib.contextmanager
    def _a_server(self) -> Iterator[Server]:
        if self._server_given is not None:
            yield self._server_given
            return
        with contextlib.closing(Server(self._folder)) as server:
            server.start()
            server.warm_up()
            yield server

    def _schedule(self, kills: Mapping[str, int], epochs: int) -> list[tuple[int, str]]:
        """(epochs reported in all, kind) of each kill, spread over the sweep."""
        kinds = [kind for kind, count in sorted(kills.items()) for _ in range(count)]
        self._chance.shuffle(kinds)
        step = 0.95 * epochs / max(1, len(kinds))
        return [(1 + int((place + self._chance.random()) * step), kind) for place, kind in enumerate(kinds)]

    def _run_sweep(self) -> None:
        tracking = ["tracking=server", f"tracking.uri={self._server.uri}"]
        self._start("launch", "name=chaos", f"runs_dir={self._folder / 'runs'}", *self._overrides, *tracking)
        back_at: float | None = None
        unexpected = 0
        while True:
            self._follow()
            if back_at is not None and time.monotonic() >= back_at:
                back_at = None
                self._server.start()
                self._note("the server is back")
            self._end_pauses(time.monotonic())
            if (code := self._driver.poll()) is not None:
                if code == 0 and back_at is None:
                    return self._end_pauses(sys.maxsize)
                if code:
                    unexpected += 1
                    self._outcome.wrong.append(f"the driver ended with {code}: {self._last_words()}")
                    if not self._events:
                        raise RuntimeError(f"the sweep did not begin: {self._last_words()}")
                    if unexpected > UNEXPECTED_ENDS:
                        return None
                    self._resume()
            elif self._due and self._epochs >= self._due[0][0] and self._kill(self._due[0][1], up=back_at is None):
                _, kind = self._due.pop(0)
                if kind == "server":
                    back_at = time.monotonic() + self._chance.uniform(*DOWN_S)
            time.sleep(0.03)

    def _kill(self, kind: str, *, up: bool) -> bool:
        """Whether there was something of this kind that could be killed now."""
        if kind == "server":
            if not up:
                return False
            self._server.kill()
            self._died(kind, "the MLflow server")
            return True
        if kind == "disk":
            self._fill()
            return True
        if kind == "pause":
            self._pause()
            return True
        if kind == "trial":
            workers = self._workers()
            if not workers:
                return False
            worker = self._chance.choice(workers)
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
                self._died(kind, f"trial worker {worker.pid}")
                return True
            return False
        if not any(event.kind == "reported" and event.time_ms > self._starts[-1] for event in self._events[-200:]):
            return False
        if kind == "group":
            os.killpg(self._driver.pid, signal.SIGKILL)
        else:
            self._driver.kill()
        self._driver.wait()
        self._died(kind, f"driver {self._driver.pid}" + (" and its process group" if kind == "group" else ""))
        self._resume()
        return True

    def _pause(self) -> None:
        """Stops the driver or one of its workers for seconds."""
        process = self._chance.choice([psutil.Process(self._driver.pid), *self._workers()])
        process.suspend()
        self._paused.append((time.monotonic() + self._chance.uniform(*PAUSE_S), process.resume))
        self._outcome.kills["pause"] += 1
        self._note(f"SIGSTOP: {'the driver' if process.pid == self._driver.pid else 'trial worker'} {process.pid}")

    def _fill(self) -> None:
        """Leaves no byte free for seconds."""
        filler = self._folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        self._paused.append((time.monotonic() + self._chance.uniform(*PAUSE_S), filler.unlink))
        self._outcome.kills["disk"] += 1
        self._note("the disk is full")

    def _end_pauses(self, now: float) -> None:
        for end in [end for end in self._paused if end[0] <= now]:
            self._paused.remove(end)
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                end[1]()
            self._note("a stopped process goes on, or the disk has room again")

    def _died(self, kind: str, what: str) -> None:
        self._deaths.append(Death(int(time.time() * 1000), kind))
        self._outcome.kills[kind] += 1
        self._note(f"SIGKILL {sum(self._outcome.kills.values())}: {what}")

    def _start(self, command: str, *arguments: str) -> None:
        self._starts.append(int(time.time() * 1000))
        with (self._folder / "driver.log").open("ab") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", command, *arguments],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._note(f"{command}: driver {self._driver.pid}")

    def _resume(self) -> None:
        self._start("resume", self._sweep.name, "--runs-dir", str(self._folder / "runs"))

    @property
    def _sweep(self) -> Path:
        (path,) = (self._folder / "runs").glob(f"*/{JOURNAL}")
        return path.parent

    def _follow(self) -> None:
        """Takes what is new in the journal."""
        if not list((self._folder / "runs").glob(f"*/{JOURNAL}")):
            return
        try:
            with contextlib.closing(Reader(self._sweep / JOURNAL)) as reader:
                new = list(reader.events(after=len(self._events)))
        except NotReadyError:
            if self._events:
                raise
            return  # it is just made
        self._events += new
        self._epochs += sum(len(entry.event.epochs) for entry in new if isinstance(entry.event, Reported))

    def _workers(self) -> list[psutil.Process]:
        """The processes of the driver's cluster that train at this moment."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._driver.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "".join(process.cmdline()[:1]).startswith(WORKER):
                        found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def _ours(self) -> list[psutil.Process]:
        """Every process that descends from a driver of this run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._environment[MARK]:
                    found.append(process)
        return found

    def _judge(self) -> None:
        """What is lost, doubled, left or wrong."""
        outcome, folder = self._outcome, self._sweep
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline and (self._ours() or is_shipping(folder)):
            time.sleep(0.1)
        for process in self._ours():
            with contextlib.suppress(psutil.Error):
                outcome.left_running.append(f"process {process.pid} is left: {' '.join(process.cmdline())[:100]}")
        if self._due:
            outcome.wrong.append(f"{len(self._due)} kills were not due before the end")
        status, last_seq = read_status(folder), len(self._events)
        if not status.ended:
            outcome.wrong.append(f"{status.shipped} of {last_seq} events are shipped ({status.error})")
        record = read_sweep(folder)
        outcome.trials = len(record.trials)
        outcome.states = dict(Counter(trial.state.value for trial in record.trials.values()))
        lost, outcome.doubled = records.rows(folder, self._server.database)
        unended = [f"trial {trial.index} has not ended" for trial in record.unfinished]
        outcome.lost = [*lost, *records.lost_epochs(folder), *unended]
        outcome.left_running += records.left_running(folder, self._server.database)
        outcome.wrong += records.faults_of_journal(folder)
        outcome.wrong += [f"{path} is left" for path in folder.rglob("*.tmp")]
        report = verify(folder)
        outcome.verified = report.summary
        outcome.wrong += [f"verify: {violation}" for violation in report.violations]
        outcome.driver_recovery_s = list(self._driver_recoveries())
        outcome.trial_recovery_s = list(self._trial_recoveries())

    def _driver_recoveries(self) -> Iterator[float]:
        """From the start of each resume to the first epoch that is reported by it."""
        ends = [*self._starts[1:], sys.maxsize]
        for start, end in list(zip(self._starts, ends, strict=True))[1:]:
            resumed = next(
                (e.seq for e in self._events if e.kind == "sweep_resumed" and start <= e.time_ms < end), None
            )
            for event in self._events[resumed or len(self._events) :]:
                if isinstance(event.event, Reported) and event.event.epochs and event.time_ms < end:
                    yield (event.time_ms - start) / 1000
                    break

    def _trial_recoveries(self) -> Iterator[float]:
        """From the kill of each worker until its trial has trained an epoch again; not where its driver died meanwhile."""
        taken: set[int] = set()
        for death in self._deaths:
            if death.kind != "trial":
                continue
            retry = next(
                (
                    event
                    for event in self._events
                    if event.time_ms >= death.time_ms
                    and event.kind in ("retrying", "sweep_resumed")
                    and event.seq not in taken
                ),
                None,
            )
            if retry is None or retry.kind != "retrying":
                continue
            taken.add(retry.seq)
            for event in self._events[retry.seq :]:
                if event.kind == "sweep_resumed":
                    break
                if isinstance(event.event, Reported) and event.trial == retry.trial and event.event.epochs:
                    yield (event.time_ms - death.time_ms) / 1000
                    break

    def _last_words(self) -> str:
        lines = (self._folder / "driver.log").read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-4:])

    def _note(self, what: str) -> None:
        line = f"{time.monotonic() - self._began:8.1f} s  {self._epochs:6} epochs  {what}"
        self._outcome.timeline.append(line)
        self._say(line)


def _spread(values: list[float]) -> dict[str, float | int]:
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "max": round(ordered[-1], 2),
    }
