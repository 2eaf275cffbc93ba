"""A driver without Ray: the real launch and resume, with one worker process at a time in the place of Ray Tune.

`python -m tests.chaos.without_ray` reads one JSON order a line, runs each in a fork of itself, so that torch is imported once,
and answers with a JSON line when that process has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.base import failpoints
from orchestrator.base.records import Trial
from orchestrator.config.plan import SweepPlan
from orchestrator.scheduling.conductor import Conductor
from orchestrator.scheduling.reports import Reporter

SHIPPER_PAUSE_S = 0.2


class Drivers:
    """Runs drivers in processes of their own, one after the other."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *overrides], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self,
        *,
        runs_dir: Path,
        folder: Path | None = None,
        uri: str | None = None,
        failpoint: str | None = None,
        late_checkpoints: bool = False,
    ) -> int:
        """Launches a sweep in `runs_dir`, or resumes the one in `folder`; how its driver ended, -9 for SIGKILL.

        Args:
            uri: of an MLflow server; a local store without.
            failpoint: as in the environment of the driver.
            late_checkpoints: workers write a checkpoint after its report, which is wrong.
        """
        order = {
            "runs_dir": str(runs_dir),
            "folder": folder and str(folder),
            "uri": uri,
            "failpoint": failpoint,
            "late_checkpoints": late_checkpoints,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


class LateReporter(Reporter):
    """Writes a checkpoint when it is asked for the next report, instead of before it hands out its own: the negative control."""

    _late: Callable[[], object] | None = None

    def next_report(self) -> dict[str, Any]:
        if self._late is not None:
            failpoints.failpoint("report.after")
            self._late()
            self._late = None
        return super().next_report()

    def _advance(self) -> dict[str, Any]:
        run = self._run
        save = type(run).save
        run.save = lambda: dataclasses.make_dataclass("NotYet", ["epoch", "sha256"])(run.epoch, "0" * 64)
        report = super()._advance()
        del run.save
        if report["checkpoint"]:
            self._late = lambda: save(run)
        return report


class Workers:
    """Starts worker processes from a fork that was made before this process had threads."""

    def __init__(self, reporter: type[Reporter]) -> None:
        self._orders, theirs = socket.socketpair()
        if os.fork() == 0:
            self._orders.close()
            _start_workers(theirs, reporter)
            os._exit(0)
        theirs.close()

    def start(self, told: dict[str, Any]) -> Worker:
        ours, theirs = socket.socketpair()
        socket.send_fds(self._orders, [json.dumps(told).encode() + b"\n"], [theirs.fileno()])
        theirs.close()
        return Worker(ours)

    def close(self) -> None:
        self._orders.close()


class Worker:
    """A worker process, as its driver sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rw")

    def next_report(self) -> dict[str, Any] | None:
        """None where the process has died."""
        with contextlib.suppress(OSError):
            print("next", file=self._file, flush=True)
            if line := self._file.readline():
                return dict(json.loads(line))
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._connection.close()


def _start_workers(orders: socket.socket, reporter: type[Reporter]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 1)
        if not message:
            return
        connection = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            orders.close()
            told = json.loads(message)
            file = connection.makefile("rw")
            work = reporter(Trial(**told.pop("trial")), **told)
            with contextlib.suppress(OSError):  # the driver is gone
                while file.readline():
                    print(json.dumps(work.next_report()), file=file, flush=True)
            os._exit(0)
        connection.close()


def run(conductor: Conductor, *, ended: Callable[[], bool], on_step: Callable[[], None], **others: object) -> None:
    """In the place of `orchestrator.scheduling.ray.tuner.run`: every epoch is a report of its own."""
    assert _workers is not None
    while not conductor.done and not ended():
        trial = conductor.next_trial()
        assert trial is not None
        index = trial.index
        conductor.before_run(index)
        while index in conductor.live:
            told = {"trial": vars(conductor.trial(index)), "rungs": list(range(1, trial.config["epochs"]))}
            worker = _workers.start({**told, "retries_left": conductor.retries_left(index)})
            conductor.on_started(index)
            while (report := worker.next_report()) is not None:
                conductor.on_report(index, report)
                on_step()
                if index not in conductor.live:
                    break
            worker.close()
            if report is None and conductor.retries_left(index) > 0:
                conductor.on_death(index, "the worker was killed")
            elif report is None:
                conductor.on_lost(index, "the worker was killed")


_workers: Workers | None = None


@contextlib.contextmanager
def connect(address: str | None, **others: object) -> Iterator[Any]:
    """In the place of a Ray cluster."""
    from orchestrator.scheduling.ray.cluster import Cluster, Node

    yield Cluster([Node(cpus=1, gpus=0)])


def drive(order: dict[str, Any], plan: SweepPlan) -> None:
    """One driver's life."""
    global _workers
    if order["failpoint"]:
        os.environ[failpoints.VARIABLE] = order["failpoint"]
        failpoints._armed = failpoints._from_environment()
    _workers = Workers(LateReporter if order["late_checkpoints"] else Reporter)
    tuner = ModuleType("tuner")
    tuner.run = run  # type: ignore[attr-defined]
    sys.modules["orchestrator.scheduling.ray.tuner"] = tuner
    from orchestrator.scheduling.ray import cluster

    cluster.connect = connect
    from orchestrator.sweep.launching import launch
    from orchestrator.sweep.resuming import resume
    from orchestrator.sweep.session import DriverContext
    from orchestrator.tracking import supervisor

    supervisor.FIRST_PAUSE_S = SHIPPER_PAUSE_S
    context = DriverContext(say=lambda line: None)
    if order["folder"]:
        resume(Path(order["folder"]), plan, context)
    else:
        launch(plan, context)


def main() -> None:
    from orchestrator.config.planning import plan

    overrides = sys.argv[1:]
    import orchestrator.training.trial  # noqa: F401 - once for all forks

    for line in sys.stdin:
        order = json.loads(line)
        tracking = ["tracking=server", f"tracking.uri={order['uri']}"] if order["uri"] else []
        made = plan([*overrides, *tracking, f"runs_dir={order['runs_dir']}"])
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                drive(order, made)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
