"""What a sweep left in its journal, in MLflow and on disk: checked against each other, and made comparable between sweeps."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from orchestrator.base import layout
from orchestrator.base.records import State
from orchestrator.journal.record import SweepRecord, TrialRecord, read_sweep
from orchestrator.training import checkpoint, predictions

MEASURED = "images_per_s"
"""The one metric that is a time."""


def results(folder: Path) -> dict[int, dict[str, Any]]:
    """Everything that interruptions must not change, by trial."""
    record = read_sweep(folder, keep_epochs=True)
    return {index: _result(trial, folder / "trials" / f"{index:05d}") for index, trial in record.trials.items()}


def _result(trial: TrialRecord, folder: Path) -> dict[str, Any]:
    epochs = {
        epoch["epoch"]: {name: value for name, value in epoch["metrics"].items() if name != MEASURED}
        for epoch in trial.epochs
    }
    files = {}
    snapshots = sorted(path.name for path in folder.glob("snapshot-*.safetensors"))
    for path in (layout.BEST, layout.AVERAGE, layout.PREDICTIONS, *snapshots):
        if (folder / path).is_file():
            tensors = checkpoint.load(folder / path, uid=None).tensors
            parts = [name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors)]
            files[str(path)] = hashlib.sha256(b"".join(parts)).hexdigest()
    return {
        "params": trial.params,
        "config": {key: value for key, value in trial.config.items() if key != "data_entry"},
        "state": trial.state.value,
        "epochs": epochs,
        "value": trial.value,
        "best_epoch": trial.best_epoch,
        "metrics": trial.metrics,
        "files": files,
    }


def lost_epochs(folder: Path) -> list[str]:
    """Epochs in the journal that no file of their trial remembers as they are there: lost, or trained a second time.

    Holds at every moment, also between a kill and a resume: a checkpoint is durable before its epochs are reported.
    """
    found = []
    for trial in read_sweep(folder, keep_epochs=True).trials.values():
        if trial.state not in (State.RUNNING, State.COMPLETED):
            continue  # its checkpoints are gone
        there = folder / "trials" / f"{trial.index:05d}"
        history: list[Any] = []
        with contextlib.suppress(checkpoint.Damaged, OSError):
            history = predictions.read(there / layout.PREDICTIONS).state["history"]
        if not history:
            loaded, notes = checkpoint.load_newest(there, f"{folder.name}/{trial.index}")
            found += [f"trial {trial.index}: {note}" for note in notes]
            history = loaded.state["history"] if loaded else []
        remembered = {epoch: (time_ms, metrics) for epoch, time_ms, metrics in history}
        for epoch in trial.epochs:
            if remembered.get(epoch["epoch"]) != (epoch["time_ms"], epoch["metrics"]):
                found.append(f"trial {trial.index}: epoch {epoch['epoch']} is in the journal, and not in its files")
    return found


def rows(folder: Path, database: Path) -> tuple[list[str], list[str]]:
    """(results in the journal that MLflow lacks, rows of MLflow that are there twice or that the journal lacks)."""
    record = read_sweep(folder, keep_epochs=True)
    wanted = {
        (trial.index, name, epoch["epoch"], value)
        for trial in record.trials.values()
        for epoch in trial.epochs
        for name, value in epoch["metrics"].items()
    }
    names = {name for _, name, _, _ in wanted}
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        stored = [
            row
            for row in db.execute(
                "SELECT CAST(substr(t.value, length(:uid) + 2) AS INTEGER), m.key, m.step, m.value"
                " FROM metrics m JOIN runs r USING (run_uuid) JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'trial_uid'"
                " WHERE t.value LIKE :uid || '/%' AND r.lifecycle_stage = 'active'",
                {"uid": folder.name},
            ).fetchall()
            if row[1] in names
        ]
    steps = Counter((index, name, step) for index, name, step, _ in stored)
    lost = [f"trial {i}: {name} of epoch {epoch}" for i, name, epoch, _ in sorted(wanted - set(stored))]
    doubled = [f"trial {i}: {name} of epoch {epoch}, {n} times" for (i, name, epoch), n in steps.items() if n > 1]
    foreign = [f"trial {i}: {name} of epoch {epoch} = {value}" for i, name, epoch, value in set(stored) - wanted]
    return lost, doubled + foreign


def left_running(folder: Path, database: Path) -> list[str]:
    """Runs of the sweep in MLflow that are not as the journal says that their trials ended; each trial has one."""
    record = read_sweep(folder)
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        runs = db.execute(
            "SELECT coalesce(t.value, s.value), r.status, r.end_time FROM runs r"
            " JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = 'sweep_uid'"
            " LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'trial_uid'"
            " WHERE s.value = ? AND r.lifecycle_stage = 'active'",
            (folder.name,),
        ).fetchall()
    expected = {f"{folder.name}/{index}": _status(trial.state) for index, trial in record.trials.items()}
    expected[folder.name] = "FINISHED"
    found = [
        f"{uid} is {status} in MLflow, not {expected.get(uid)}"
        for uid, status, _ in runs
        if status != expected.get(uid)
    ]
    found += [f"{uid} has no end in MLflow" for uid, _, end in runs if end is None]
    counts = Counter(uid for uid, _, _ in runs)
    return found + [f"{uid} has {counts[uid]} runs in MLflow" for uid in expected if counts[uid] != 1]


def _status(state: State) -> str:
    if state in (State.COMPLETED, State.STOPPED):
        return "FINISHED"
    return "KILLED" if state is State.CANCELLED else "FAILED"


def faults_of_journal(folder: Path) -> list[str]:
    """What is wrong with the events of a sweep that is closed."""
    record: SweepRecord = read_sweep(folder, keep_epochs=True)
    found = [] if record.closed else ["the sweep is not closed"]
    for trial in record.trials.values():
        epochs = [epoch["epoch"] for epoch in trial.epochs]
        if epochs != list(range(1, len(epochs) + 1)):
            found.append(f"trial {trial.index} has epochs {epochs}")
        if not trial.ended:
            found.append(f"trial {trial.index} has not ended")
    return found + attempts_without_a_trace(folder / layout.JOURNAL)


def attempts_without_a_trace(journal: Path) -> list[str]:
    """Attempts that neither began nor were retried: a worker that is killed at once may leave the retry alone."""
    numbers: dict[int, list[int]] = defaultdict(list)
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        for kind, trial, attempt in db.execute("SELECT kind, trial, attempt FROM events ORDER BY seq"):
            if kind == "started" or (kind == "retrying" and attempt not in numbers[trial]):
                numbers[trial].append(attempt)
    return [f"trial {i} has attempts {seen}" for i, seen in numbers.items() if seen != list(range(1, len(seen) + 1))]


def faults(folder: Path, database: Path) -> list[str]:
    """Everything that is wrong with a closed sweep that was tracked in this database."""
    lost, doubled = rows(folder, database)
    return [
        *faults_of_journal(folder),
        *lost_epochs(folder),
        *(f"lost: {line}" for line in lost),
        *(f"doubled: {line}" for line in doubled),
        *left_running(folder, database),
        *(f"{path} is left" for path in [*folder.rglob("*.tmp"), *database.parent.glob("artifacts/**/*.tmp")]),
    ]
