"""What `verify` costs at the end of a sweep of 16 trials, alone in its store and beside many runs of other sweeps.

    python benchmarks/verifying.py                 beside 0 and 100,000 runs
    python benchmarks/verifying.py --runs 1000     beside another number

The sweep is a real one. The other runs are rows made by SQL, each with the tags, params and metrics of one of its trials; half
are younger than it. "end" is what a driver does when its sweep ends, "command" is `orchestrator verify`, which also looks at
the whole database.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 7
OVERRIDES = ["data=digits", "model=mlp", "trials=16", "epochs=3", "optimizer.lr=tag(log,interval(1e-3,1e-1))"]


def launch(folder: Path) -> Path:
    """The folder of a finished sweep of 16 trials."""
    command = [sys.executable, "-m", "orchestrator", "launch", *OVERRIDES, f"runs_dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (sweep,) = (path.parent for path in folder.glob("*/journal.sqlite"))
    return sweep


def add_runs(database: Path, count: int, uid: str) -> None:
    """Runs of other sweeps of 100 trials each, older than the sweep and younger, in experiments of their own."""
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        (model,) = db.execute("SELECT run_uuid FROM runs WHERE name = ?", (f"{uid}/0",)).fetchone()
        db.execute(
            "CREATE TEMP TABLE n AS WITH RECURSIVE c(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM c) SELECT i FROM c LIMIT ?",
            [count],
        )
        (first,) = db.execute("SELECT min(rowid) FROM runs").fetchone()
        db.execute("UPDATE runs SET rowid = rowid + ? WHERE rowid >= ?", (count // 2 + 1000, first))
        db.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)"
            " SELECT 'other-' || i, '/other', 'active', 1, 1 FROM n WHERE i % 100 = 0"
        )
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(runs)")]
        values = {
            "run_uuid": "printf('%032x', i)",
            "name": "'other-' || (i / 100) || '/' || (i % 100)",
            "experiment_id": "(SELECT experiment_id FROM experiments WHERE name = 'other-' || (i / 100 * 100))",
        }
        chosen = ", ".join(values.get(name, name) for name in columns)
        # Half of them stand before the sweep's own.
        row_id = "CASE WHEN i % 2 THEN i / 2 + 1 ELSE NULL END"
        db.execute(
            f"INSERT INTO runs (rowid, {', '.join(columns)}) SELECT {row_id}, {chosen} FROM n, runs"
            " WHERE run_uuid = ? ORDER BY i % 2 DESC",
            (model,),
        )
        other = "CASE key WHEN 'sweep_uid' THEN 'other-' || (i / 100)"
        other += " WHEN 'trial_uid' THEN 'other-' || (i / 100) || '/' || (i % 100)"
        other += " WHEN 'mlflow.parentRunId' THEN printf('%032x', i / 100 * 100) ELSE value END"
        for table, given in (
            ("tags", {"run_uuid": "printf('%032x', i)", "value": other}),
            ("params", {"run_uuid": "printf('%032x', i)"}),
            ("latest_metrics", {"run_uuid": "printf('%032x', i)"}),
            ("metrics", {"run_uuid": "printf('%032x', i)"}),
        ):
            columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join(given.get(name, name) for name in columns)
            db.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM n, {table} WHERE run_uuid = ?",
                (model,),
            )


def seconds(sweep: Path, *, own: bool) -> tuple[float, str]:
    """The median time of a check, and what it came to."""
    from orchestrator.verify import verify

    taken, summary = [], ""
    for _ in range(REPEATS):
        start = time.perf_counter()
        summary = verify(sweep, own=own).summary
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    options = parser.parse_args()
    os.environ.setdefault("ORCHESTRATOR_SETTINGS", "/nonexistent")
    with tempfile.TemporaryDirectory() as folder:
        sweep = launch(Path(folder))
        for runs in (0, options.runs):
            if runs:
                add_runs(Path(folder) / "mlflow.db", runs, sweep.name)
            for what, own in (("end", True), ("command", False)):
                taken, summary = seconds(sweep, own=own)
                print(f"{what:<8} beside {runs:>7,} runs: {taken * 1000:8.1f} ms  {summary}")


if __name__ == "__main__":
    main()
