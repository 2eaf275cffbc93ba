"""An MLflow server killed in mid-sweep: are trials slower meanwhile, is anything missing afterwards?

    python benchmarks/outage.py                the server is killed for 20 s while a sweep trains

Starts a real server on a free port, launches a sweep on it, kills the server with SIGKILL once trials train, starts it again
after the outage on the same port and database, and then compares the journal with what MLflow has, row by row.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from orchestrator.journal.events import Reported
from orchestrator.journal.file import Entry, Reader


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """An MLflow server that answers."""
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [*command, *store],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return server
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the MLflow server did not start")


def kill(server: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the server and its children."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def events_of(folder: Path) -> list[Entry]:
    path = next(folder.glob("runs/*/journal.sqlite"), None)
    if path is None:
        return []
    reader = Reader(path)
    try:
        return list(reader.events())
    finally:
        reader.close()


def wait_for_reports(folder: Path, count: int) -> None:
    """Until that many reports are in the journal."""
    while sum(event.kind == "reported" for event in events_of(folder)) < count:
        time.sleep(0.2)


def run_sweep(folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """The sweep with its outage; returns when the server went and came back, in seconds since 1970."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(folder, port)
    keys = [f"trials={options.trials}", f"epochs={options.epochs}", f"runs_dir={folder}/runs", "report_every_s=0.2"]
    tracking = ["tracking=server", f"tracking.uri=http://127.0.0.1:{port}"]
    space = "optimizer.lr=tag(log,interval(1e-3,1e-1))"
    try:
        sweep = subprocess.Popen([sys.executable, "-m", "orchestrator", "launch", *keys, *tracking, space])
        wait_for_reports(folder, 20)
        kill(server)
        down = time.time()
        time.sleep(options.seconds)
        back = time.time()
        server = start_server(folder, port)
        assert sweep.wait() == 0, "the sweep failed"
    finally:
        kill(server)
    return down, back


def missing(folder: Path) -> tuple[int, int, int]:
    """(rows that the journal has, how many of them MLflow lacks, rows of MLflow that are there twice)."""
    import sqlite3

    journal = {
        (entry.trial, epoch["epoch"], name, value)
        for entry in events_of(folder)
        if isinstance(entry.event, Reported)
        for epoch in entry.event.epochs
        for name, value in epoch["metrics"].items()
    }
    db = sqlite3.connect(folder / "server.db")
    names = ",".join(f"'{name}'" for name in sorted({row[2] for row in journal}))
    stored: list[tuple[Any, ...]] = db.execute(
        "SELECT CAST(substr(t.value, instr(t.value, '/') + 1) AS INTEGER), m.step, m.key, m.value FROM metrics m"
        f" JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'trial_uid' WHERE m.key IN ({names})"
    ).fetchall()
    open_runs = db.execute("SELECT count(*) FROM runs WHERE status NOT IN ('FINISHED')").fetchone()[0]
    db.close()
    assert open_runs == 0, f"{open_runs} runs are not finished"
    return len(journal), len(journal - set(stored)), len(stored) - len(set(stored))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outage-") as name:
        folder = Path(name)
        down, back = run_sweep(folder, options)
        speeds: dict[str, list[float]] = {"before": [], "outage": [], "after": []}
        for entry in events_of(folder):
            for epoch in entry.event.epochs if isinstance(entry.event, Reported) else []:
                moment = epoch["time_ms"] / 1000
                phase = "before" if moment < down else "outage" if moment < back else "after"
                speeds[phase].append(epoch["metrics"]["images_per_s"])
        rows, lost, double = missing(folder)
    print(f"server killed for {back - down:.0f} s; images/s of an epoch, median:")
    for phase, found in speeds.items():
        print(f"  {phase:<7} {statistics.median(found):9,.0f}  (n={len(found)})")
    print(json.dumps({"rows": rows, "missing": lost, "twice": double}))


if __name__ == "__main__":
    main()
