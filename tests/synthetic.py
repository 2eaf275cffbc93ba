"""Synthetic sweeps for the tests of stores and tracking: events in a real journal, as the driver writes them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.journal.events import event_from
from orchestrator.journal.file import Journal, finite
from orchestrator.stores.runs import UnavailableError
from orchestrator.tracking.shipper import Shipper

START_MS = 1_700_000_000_000


CONFIG = {"epochs": 3, "seed": 0, "metric": "val/accuracy", "mode": "max"}
"""The least that a trial's configuration holds."""


FACTS = {
    "fingerprint": "0123456789abcdef" * 4,
    "train": 1151,
    "val": 287,
    "test": 359,
    "num_classes": 10,
    "in_channels": 1,
    "image_size": [8, 8],
}
"""What planning finds out of a data set."""


def plan_text(*, facts: dict[str, Any] | None = None, rules: int | None = None, **settings: Any) -> str:
    """A plan with the least that every version recorded, and these root keys.

    Args:
        facts: what planning found out of the data.
        rules: those that the sweep began with; where absent none are recorded, as in the first version.
    """
    parts = {part: {} for part in ("sampler", "scheduler", "tracking", "cluster")}
    plan = {
        "settings": settings,
        "base": CONFIG,
        "choices": {},
        "space": [],
        "facts": facts or {},
        "notes": [],
        **parts,
    }
    return json.dumps(plan if rules is None else plan | {"rules": rules})


class Sweep:
    """A sweep folder whose journal the test fills. Time is a counter, so that two journals can be equal."""

    def __init__(self, folder: Path, tracking: dict[str, Any], where: str | None = None, *, plan: str = "") -> None:
        self.folder = folder
        self.uid = folder.name
        folder.mkdir(parents=True)
        self._seconds = 0
        self.journal = Journal(folder / "journal.sqlite", create=True, clock=self._clock)
        self.append(
            "sweep_opened",
            uid=self.uid,
            name="digits lr",
            metric="val/accuracy",
            mode="max",
            trials=4,
            folder=str(folder) if where is None else where,
            plan=plan,
            config=self.config(0.1),
            space=[{"key": "optimizer.lr", "domain": "tag(log, interval(1e-4, 1))", "condition": "optimizer=sgd"}],
            sampler={"_target_": "orchestrator.scheduling.samplers.random"},
            tracking=tracking,
            environment={"command": "orchestrator launch optimizer.lr='interval(1e-4,1)'", "torch": "2.15.0"},
        )

    def _clock(self) -> float:
        self._seconds += 1
        return START_MS / 1000 + self._seconds

    @staticmethod
    def config(lr: float) -> dict[str, Any]:
        return {
            "choices": {"data": "digits", "model": "mlp", "norm": "default", "optimizer": "sgd"},
            "model": {"_target_": "models.mlp.mlp", "hidden": 2, "width": 100},
            "norm": {},
            "optimizer": {"_target_": "orchestrator.training.optimizers.sgd", "lr": lr, "nesterov": False},
            "batch_size": 32,
            **CONFIG,
        }

    def append(self, kind: str, trial: int | None = None, attempt: int | None = None, **data: Any) -> None:
        self.journal.append(event_from(kind, finite(data), trial), trial=trial, attempt=attempt)

    def start(self, index: int) -> None:
        lr = 0.1 / (index + 1)
        self.append("suggested", index, params={"optimizer.lr": lr}, config=self.config(lr))
        self.append("started", index, 1, host="here", pid=1)

    def report(self, index: int, first: int, last: int, attempt: int = 1) -> None:
        epochs = [
            {
                "epoch": epoch,
                "time_ms": START_MS + 1000 * epoch + index + 100_000 * attempt,
                "metrics": {"train/loss": 1 / epoch, "val/accuracy": 0.5 + epoch / 100 + index / 1000, "lr": 0.1},
            }
            for epoch in range(first, last + 1)
        ]
        self.append("reported", index, attempt, epochs=epochs, checkpoint=None)

    def end(self, index: int, state: str = "completed", **data: Any) -> None:
        predictions = self.folder / f"predictions-{index}" / "predictions.safetensors"
        predictions.parent.mkdir()
        predictions.write_bytes(f"logits of {index}".encode())
        ending = {
            "state": state,
            "reason": state,
            "epoch": 3,
            "value": 0.53 + index / 1000,
            "best_epoch": 3,
            "metrics": {"test/accuracy": 0.9, "test/loss": 0.3},
            "artifacts": [{"path": str(predictions), "sha256": "ab" * 32}],
            "error": None,
        }
        self.append("terminal", index, 1, **(ending | data))

    def run_trial(self, index: int) -> None:
        self.start(index)
        self.report(index, 1, 2)
        self.report(index, 3, 3)
        self.end(index)

    def finish(self, trials: int = 4) -> None:
        best = {"trial": trials - 1, "value": 0.53 + (trials - 1) / 1000, "params": {"optimizer.lr": 0.025}}
        self.append("sweep_closed", reason="finished", totals={"completed": trials}, best=best, seconds=12.5)
        self.journal.commit()


@pytest.fixture
def new_sweep(tmp_path: Path, first_store: None) -> Iterator[Callable[..., Sweep]]:
    """Makes sweeps below the test's folder, tracked in its `mlflow.db` unless told otherwise."""
    sweeps: list[Sweep] = []

    def make(name: str = "digits-0a1b2c3d", plan: str = "", **tracking: Any) -> Sweep:
        local = {"kind": "local", "uri": f"sqlite:///{tmp_path}/mlflow.db", "artifacts": str(tmp_path / "artifacts")}
        sweeps.append(Sweep(tmp_path / name, tracking or local, plan=plan))
        return sweeps[-1]

    yield make
    for sweep in sweeps:
        sweep.journal.close()


@pytest.fixture
def ship() -> Callable[..., Shipper]:
    """Ships all that is committed in this process, trying again for some seconds; with `end` also settles the sweep."""

    def ship_now(
        sweep: Sweep, *, end: bool = False, patience_s: float = 0.0, lines: list[str] | None = None
    ) -> Shipper:
        sweep.journal.commit()
        (sweep.folder / "tracking").mkdir(exist_ok=True)
        said: list[str] = [] if lines is None else lines
        shipper = Shipper(sweep.folder, log=said.append)
        deadline = time.monotonic() + patience_s
        try:
            while True:
                try:
                    shipper.ship_everything()
                    if end:
                        shipper.end()
                    return shipper
                except UnavailableError as error:
                    shipper.note(error)
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
        finally:
            shipper.close()

    return ship_now


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., dict[str, list[tuple[Any, ...]]]]:
    """What a store holds of its runs, with their names for the random ids, so that two stores can be compared."""

    def read(
        path: Path = tmp_path / "mlflow.db", *, leave_out: tuple[str, ...] = ()
    ) -> dict[str, list[tuple[Any, ...]]]:
        uid = "SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND key = 'trial_uid' AND lifecycle_stage = 'active'"
        named = f"(SELECT r.*, coalesce(({uid}), r.name) AS uid FROM runs r)"
        queries = {
            "experiments": "SELECT name, lifecycle_stage FROM experiments",
            "views": "SELECT substr(key, 24), name, value FROM experiment_tags JOIN experiments USING (experiment_id)"
            " WHERE key LIKE 'mlflow.sharedViewState.%'",
            "runs": f"SELECT uid, status, start_time, end_time, lifecycle_stage, source_type FROM {named}",
            "names": f"SELECT uid, name FROM {named} WHERE lifecycle_stage = 'active'",
            "tags": f"SELECT uid, key, value FROM tags JOIN {named} USING (run_uuid)"
            " WHERE key NOT IN ('mlflow.parentRunId', 'journal')",  # both differ from sweep to sweep
            "parents": f"SELECT r.uid, p.uid FROM tags JOIN {named} r USING (run_uuid) JOIN {named} p ON p.run_uuid = tags.value"
            " WHERE key = 'mlflow.parentRunId'",
            "params": f"SELECT uid, key, value FROM params JOIN {named} USING (run_uuid)",
            "metrics": f"SELECT uid, key, step, timestamp, value, is_nan FROM metrics JOIN {named} USING (run_uuid)",
            "latest": f"SELECT uid, key, step, timestamp, value, is_nan FROM latest_metrics JOIN {named} USING (run_uuid)",
            "datasets": "SELECT name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile FROM datasets",
            "inputs": "SELECT n.uid, d.name, i.source_type, i.destination_type, i.step, t.name, t.value FROM inputs i"
            f" JOIN {named} n ON n.run_uuid = i.destination_id JOIN datasets d ON d.dataset_uuid = i.source_id"
            " LEFT JOIN input_tags t USING (input_uuid)",
        }
        db = sqlite3.connect(path)
        try:
            return {
                table: sorted(row for row in db.execute(query).fetchall() if not set(leave_out) & set(row))
                for table, query in queries.items()
            }
        finally:
            db.close()

    return read
