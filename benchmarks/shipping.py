"""What shipping a sweep to MLflow costs: `python benchmarks/shipping.py [--trials 200] [--epochs 5] [--metrics 8] [--rate R]`.

Writes a synthetic journal of trials and ships it to a new local store in a process of its own, all at once or while the
journal grows at `--rate` results (epochs) a second. Prints CPU time a trial, results a second and the shipper's memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.base.records import State
from orchestrator.journal.events import (
    Reported,
    Started,
    Suggested,
    SweepClosed,
    SweepOpened,
    Terminal,
)
from orchestrator.journal.file import Journal
from orchestrator.journal.parts import Epoch, FileRecord
from orchestrator.stores.schema import create
from orchestrator.tracking.supervisor import start_shipper, wait_until_shipped


def config(index: int) -> dict[str, object]:
    return {
        "choices": {"data": "digits", "model": "mlp", "norm": "batch", "optimizer": "sgd", "schedule": "constant"},
        "data": {"_target_": "orchestrator.training.data.digits.digits", "val_fraction": 0.2, "split_seed": 0},
        "model": {"_target_": "models.mlp.mlp", "hidden": 2, "width": 100, "dropout": 0.0},
        "norm": {"_target_": "models.layers.norm.batch_norm", "momentum": 0.1, "eps": 1e-05},
        "optimizer": {"_target_": "orchestrator.training.optimizers.sgd", "lr": 0.1 / (index + 1), "momentum": 0.9},
        "epochs": 5, "batch_size": 32, "seed": 0, "metric": "val/accuracy", "mode": "max", "precision": "auto",
    }  # fmt: skip


def open_sweep(journal: Journal, folder: Path, trials: int) -> None:
    tracking = {
        "kind": "local",
        "uri": f"sqlite:///{folder.parent}/mlflow.db",
        "artifacts": f"{folder.parent}/artifacts",
    }
    space = [{"key": "optimizer.lr", "domain": "interval(0, 1)"}]
    journal.append(
        SweepOpened(
            folder.name, "shipping", "val/accuracy", "max", trials, str(folder), "", tracking, config=config(0), space=space
        )
    )  # fmt: skip


def run_trial(journal: Journal, index: int, epochs: int, metrics: int, artifact: Path) -> None:
    journal.append(Suggested({"optimizer.lr": 0.1 / (index + 1)}, config(index), index), trial=index)
    journal.append(Started(), trial=index, attempt=1)
    results: list[Epoch] = []
    for epoch in range(1, epochs + 1):
        numbers = {f"val/metric_{m}": epoch + m / 7 + index for m in range(metrics)}
        results.append({"epoch": epoch, "time_ms": int(time.time() * 1000), "metrics": numbers})
    journal.append(Reported(results), trial=index, attempt=1)
    metrics_of_test = {"test/accuracy": 0.9, "test/loss": 0.1}
    files: list[FileRecord] = [{"path": str(artifact), "sha256": "0" * 64}]
    end = Terminal(State.COMPLETED, epochs, 0.5 + index / 1e4, epochs, metrics_of_test, files, "completed")
    journal.append(end, trial=index, attempt=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--metrics", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.0, help="results a second; 0 writes the whole journal at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shipping-00000000"
        folder.mkdir()
        artifact = folder / "predictions.safetensors"
        artifact.write_bytes(bytes(30_000))
        journal = Journal(folder / "journal.sqlite", create=True)
        open_sweep(journal, folder, options.trials)
        journal.commit()
        create(folder.parent / "mlflow.db", folder.parent / "artifacts")  # by MLflow, once a machine: not counted
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        shipper = start_shipper(folder)
        for index in range(options.trials):
            run_trial(journal, index, options.epochs, options.metrics, artifact)
            if options.rate:
                time.sleep(max(0.0, started + (index + 1) * options.epochs / options.rate - time.monotonic()))
        journal.commit()
        written_s = time.monotonic() - started
        wait_until_shipped(folder, 600.0)
        shipped_s = time.monotonic() - started
        peak_mb = _peak_mb(shipper)
        journal.append(SweepClosed("finished", {"completed": options.trials}, None, written_s))
        journal.close()
        code = shipper.wait(60)
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
        with sqlite3.connect(folder.parent / "mlflow.db") as db:
            runs, rows = (db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "metrics"))
        db.close()
        idle = _start_up_cpu_s()
        cpu_s = cpu.ru_utime + cpu.ru_stime - before.ru_utime - before.ru_stime
        print(
            json.dumps(
                {
                    "exit": code, "runs": runs, "metric rows": rows, "written_s": round(written_s, 2),
                    "shipped_s": round(shipped_s, 2), "lag_s": round(shipped_s - written_s, 2),
                    "results_per_s": round(options.trials * options.epochs / shipped_s),
                    "cpu_s": round(cpu_s, 3), "import cpu_s": round(idle, 3),
                    "cpu_ms_per_trial": round(1000 * (cpu_s - idle) / options.trials, 2), "peak_mb": peak_mb,
                },
                indent=1,
            )
        )  # fmt: skip


def _peak_mb(process: subprocess.Popen[bytes]) -> int | None:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return None


def _start_up_cpu_s() -> float:
    """CPU time of an interpreter that only imports the shipper."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import orchestrator.tracking.shipper"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
