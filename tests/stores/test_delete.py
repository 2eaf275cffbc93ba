"""Runs are deleted from MLflow: for good from a local store, and nothing of others with them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.journal.events import SweepOpened
from orchestrator.stores.delete import tracked_runs
from orchestrator.stores.opening import local_run, store_settings

TABLES = ("runs", "tags", "params", "metrics", "latest_metrics", "inputs", "input_tags")


def shipped(new_sweep: Any, ship: Any, name: str, trials: int = 2) -> Any:
    sweep = new_sweep(name)
    for index in range(trials):
        sweep.run_trial(index)
    sweep.finish(trials)
    ship(sweep, end=True)
    return sweep


def opened_of(sweep: Any, tracking: Mapping[str, Any] | None = None) -> SweepOpened:
    tracking = tracking or {"kind": "local", "uri": f"sqlite:///{sweep.folder.parent}/mlflow.db"}
    return SweepOpened(sweep.uid, "digits lr", "val/accuracy", "max", 4, str(sweep.folder), "", tracking)


def counts(database: Path) -> dict[str, int]:
    db = sqlite3.connect(database)
    try:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
    finally:
        db.close()


def query(database: Path, sql: str, *values: object) -> list[Any]:
    db = sqlite3.connect(database)
    try:
        rows = db.execute(sql, values).fetchall()
        db.commit()
        return rows
    finally:
        db.close()


def test_runs_rows_and_files_go_and_those_of_another_sweep_stay(
    new_sweep: Any, ship: Any, tables: Any, tmp_path: Path
) -> None:
    shipped(new_sweep, ship, "stays-00000000")
    database = tmp_path / "mlflow.db"
    before, stored = counts(database), tables()
    files = {path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}

    sweep = shipped(new_sweep, ship, "goes-00000000")
    run = local_run(store_settings(opened_of(sweep), sweep.folder), "goes-00000000/1")
    query(database, "INSERT INTO inputs VALUES ('i', 'DATASET', 'd', 'RUN', ?, 0)", run)
    query(database, "INSERT INTO input_tags VALUES ('i', 'mlflow.data.context', 'training')")
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        assert (runs.count, runs.for_good) == (3, True)
        assert run is not None
        runs.delete()

    assert counts(database) == before
    assert tables() == stored
    assert {path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()} == files
    assert query(database, "PRAGMA integrity_check") == [("ok",)]
    assert query(database, "PRAGMA foreign_key_check") == []
    assert [row[0] for row in query(database, "SELECT name FROM experiments")] == ["Default", "digits lr"]
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        assert runs.count == 0
        runs.delete()


def test_an_experiment_goes_with_its_last_run(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = shipped(new_sweep, ship, "alone-00000000")
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        runs.delete()
    database = tmp_path / "mlflow.db"
    assert query(database, "SELECT name FROM experiments") == [("Default",)]
    assert query(database, "SELECT count(*) FROM experiment_tags") == [(0,)]
    assert list((tmp_path / "artifacts").iterdir()) == []
    again = shipped(new_sweep, ship, "again-00000000")
    assert local_run(store_settings(opened_of(again), again.folder), "again-00000000/0")


def test_an_experiment_that_somebody_else_uses_stays(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = shipped(new_sweep, ship, "shared-00000000")
    database = tmp_path / "mlflow.db"
    experiment = query(database, "SELECT experiment_id FROM experiments WHERE name = 'digits lr'")[0][0]
    insert = (
        "INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage, status) VALUES ('own', ?, 'deleted', 'FINISHED')"
    )
    query(database, insert, experiment)
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        runs.delete()
    assert query(database, "SELECT run_uuid FROM runs") == [("own",)]
    assert query(database, "SELECT name FROM experiments WHERE experiment_id = ?", experiment) == [("digits lr",)]


def test_cut_off_behind_the_files_it_finishes(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = shipped(new_sweep, ship, "half-00000000")
    for folder in (tmp_path / "artifacts").glob("*/*"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        runs.delete()
    assert counts(tmp_path / "mlflow.db")["runs"] == 0


def test_artifacts_outside_a_folder_of_the_run_are_not_touched(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = shipped(new_sweep, ship, "elsewhere-00000000")
    precious = tmp_path / "precious"
    precious.mkdir()
    query(tmp_path / "mlflow.db", "UPDATE runs SET artifact_uri = ?", str(precious))
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        runs.delete()
    assert precious.is_dir()


def test_much_room_is_given_back_to_the_file_system(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = new_sweep("large-00000000")
    sweep.start(0)
    for first in range(1, 6_000, 1_000):
        sweep.report(0, first, first + 999)
    ship(sweep)
    database = tmp_path / "mlflow.db"
    query(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = database.stat().st_size
    with tracked_runs(opened_of(sweep), sweep.folder) as runs:
        runs.delete()
    assert database.stat().st_size < before / 2


def test_without_a_store_there_is_nothing_to_delete(new_sweep: Any, tmp_path: Path) -> None:
    sweep = new_sweep("untracked-00000000")
    with tracked_runs(opened_of(sweep, tracking={"kind": "none"}), sweep.folder) as runs:
        assert (runs.count, runs.for_good) == (0, True)
        runs.delete()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_used_is_told_before_anything_goes(new_sweep: Any, tmp_path: Path) -> None:
    sweep = new_sweep("refused-00000000")
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be looked at" * 100)
    with (
        pytest.raises(NotReadyError, match=r"mlflow.db cannot be deleted now: .* is not an MLflow store"),
        tracked_runs(opened_of(sweep), sweep.folder),
    ):
        pass
    away = {"kind": "server", "uri": "http://user:secret@127.0.0.1:9"}
    with (
        pytest.raises(NotReadyError, match=r"//\*\*\*@127.0.0.1:9 cannot be deleted now: MLflow at .*refused") as told,
        tracked_runs(opened_of(sweep, tracking=away), sweep.folder),
    ):
        pass
    assert "secret" not in str(told.value)


def test_a_locked_store_keeps_its_rows(new_sweep: Any, ship: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("orchestrator.stores.schema.BUSY_TIMEOUT_S", 0.1)
    sweep = shipped(new_sweep, ship, "locked-00000000")
    before = counts(tmp_path / "mlflow.db")
    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(NotReadyError, match="database is locked"),
            tracked_runs(opened_of(sweep), sweep.folder) as runs,
        ):
            runs.delete()
    finally:
        other.close()
    assert counts(tmp_path / "mlflow.db") == before


def test_kept_weights_are_files_of_their_trials_run(new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = new_sweep("kept-00000000")
    for index in range(2):
        sweep.run_trial(index)
    best = sweep.folder / "trials" / "00001" / "best.safetensors"
    best.parent.mkdir(parents=True)
    best.write_text("first")
    gone = {"trial": 0, "path": str(best.parent / "gone.safetensors"), "sha256": "00" * 32}
    kept = {"trial": 1, "path": str(best), "sha256": "01" * 32}
    sweep.append("sweep_closed", reason="finished", totals={}, best=None, seconds=1.0, weights=[gone, kept])
    assert ship(sweep, end=True).status.refused == 0
    (stored,) = (tmp_path / "artifacts").rglob("best.safetensors")
    run = local_run(store_settings(opened_of(sweep), sweep.folder), "kept-00000000/1")
    assert stored.parent.parent.name == run
    assert stored.read_text() == "first"

    aside = best.with_suffix(".tmp")
    aside.write_text("second")
    os.replace(aside, best)
    sweep.append("sweep_resumed", plan="", changes={}, trials=2)
    sweep.append(
        "sweep_closed", reason="finished", totals={}, best=None, seconds=2.0, weights=[kept | {"sha256": "02" * 32}]
    )
    assert ship(sweep, end=True).status.refused == 0
    assert stored.read_text() == "second"
    tags = query(tmp_path / "mlflow.db", "SELECT value FROM tags WHERE key = 'sha256.best.safetensors'")
    assert tags == [("02" * 32,)]
