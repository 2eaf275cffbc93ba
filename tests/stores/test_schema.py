"""New stores are MLflow's own, and the fast writer looks at columns, not at versions."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.stores.client import ClientStore
from orchestrator.stores.opening import open_reader, open_store
from orchestrator.stores.runs import UnavailableError
from orchestrator.stores.schema import (
    COLUMNS,
    create,
    fits,
    head_revision,
    let_mlflow_create,
    other_version,
    revision,
)
from orchestrator.stores.sqlite import SqliteStore
from orchestrator.stores.sqlite_read import SqliteReader


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create(tmp_path / "mlflow.db", tmp_path / "artifacts")
    return tmp_path / "mlflow.db"


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def test_a_new_store_is_mlflows_own(store: Path, tmp_path: Path) -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert revision(store) == head_revision() == _get_latest_schema_revision()
    assert fits(store)
    assert other_version(store) is None
    with contextlib.closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall() == [
            (0, "Default", str(tmp_path / "artifacts" / "0"))
        ]
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"], "nothing is left beside it"


def test_an_existing_store_is_left_alone_and_an_empty_file_becomes_one(store: Path, tmp_path: Path) -> None:
    change(store, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('mine', 'active')")
    create(store, tmp_path / "elsewhere")
    with contextlib.closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT name FROM experiments").fetchall() == [("Default",), ("mine",)]
    empty = tmp_path / "empty.db"
    empty.touch()
    killed = tmp_path / ".mlflow-new-killed"
    killed.mkdir()
    (killed / ".temporary-of-orchestrator").write_text(killed.name)
    (killed / "mlflow.db").write_text("half")
    assert not fits(empty)
    create(empty, tmp_path / "artifacts")
    assert fits(empty)
    assert list(tmp_path.glob(".*")) == []


def test_two_trackers_share_a_store_that_neither_has_made(new_sweep: Any, tables: Any) -> None:
    sweeps = [new_sweep(f"digits-0000000{index}") for index in range(2)]
    for sweep in sweeps:
        sweep.run_trial(0)
        sweep.finish(1)
    command = [sys.executable, "-m", "orchestrator.tracking.shipper", "--parent-pid", "1"]
    for process in [subprocess.Popen([*command, str(sweep.folder)]) for sweep in sweeps]:
        assert process.wait(300) == 0
    assert [(row[0], row[1]) for row in tables()["runs"]] == [
        (name, "FINISHED") for sweep in sweeps for name in (sweep.uid, f"{sweep.uid}/0")
    ]


def test_our_copy_of_the_tables_is_what_mlflow_makes(store: Path, tmp_path: Path) -> None:
    """Else run `python -m orchestrator.stores.copy_schema`."""
    let_mlflow_create(tmp_path / "its.db")
    ours, its = contents(store), contents(tmp_path / "its.db")
    assert len(its) > 100
    assert ours == its


def contents(path: Path) -> list[tuple[Any, ...]]:
    """Every table and index, and every row but for the times and the address of MLflow's own experiment.

    Of a statement the sorted words: MLflow writes a table's constraints in an order that varies.
    """
    with contextlib.closing(sqlite3.connect(path)) as db:
        made = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        found: list[tuple[Any, ...]] = [(*row, sorted(re.findall(r"[^\s,]+", sql or ""))) for *row, sql in made]
        db.execute("UPDATE experiments SET artifact_location = '', creation_time = 0, last_update_time = 0")
        for name in [row[1] for row in made if row[0] == "table"]:
            found += [(name, *row) for row in db.execute(f'SELECT * FROM "{name}"')]
        return found


@pytest.fixture
def copy_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.sql"
    path.write_text("-- The empty SQLite store of MLflow 1.0.0, schema 0.\nCREATE TABLE nothing (x INTEGER);\n")
    monkeypatch.setattr("orchestrator.stores.schema.SCHEMA", path)


@pytest.mark.usefixtures("copy_of_another_version")
def test_mlflow_makes_the_store_where_another_version_is_installed(tmp_path: Path) -> None:
    create(tmp_path / "mlflow.db", tmp_path / "artifacts")
    assert fits(tmp_path / "mlflow.db")
    assert revision(tmp_path / "mlflow.db") == head_revision()


@pytest.mark.usefixtures("copy_of_another_version")
def test_a_failure_of_mlflow_leaves_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.stores.schema._CREATE", "raise SystemExit('no such database')")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UnavailableError, match=r"cannot be created \(MLflow fails: no such database\)"):
        create(tmp_path / "runs" / "mlflow.db", tmp_path / "artifacts")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("statements", "fast"),
    [
        (["UPDATE alembic_version SET version_num = 'abc'"], True),
        (["ALTER TABLE runs ADD COLUMN owner VARCHAR(9)"], True),
        (["ALTER TABLE runs ADD COLUMN owner VARCHAR(9) NOT NULL DEFAULT 'me'"], True),
        (["ALTER TABLE runs RENAME COLUMN end_time TO ended"], False),
        (["ALTER TABLE tags DROP COLUMN value", "ALTER TABLE tags ADD COLUMN value INTEGER"], False),
        (["DROP TABLE params", "CREATE TABLE params (key VARCHAR, value VARCHAR, run_uuid VARCHAR)"], False),
        (
            [
                "DROP TABLE params",
                "CREATE TABLE params (key VARCHAR, value VARCHAR, run_uuid VARCHAR, by VARCHAR NOT NULL,"
                " PRIMARY KEY (key, run_uuid))",
            ],
            False,
        ),
    ],
    ids=["revision", "nullable", "default", "renamed", "type", "key", "not-null"],
)
def test_the_fast_writer_is_for_the_columns_that_it_knows(store: Path, statements: list[str], fast: bool) -> None:
    change(store, *statements)
    assert fits(store) is fast
    settings = {"uri": f"sqlite:///{store}"}
    with (
        contextlib.closing(open_store(settings, "x")) as writer,
        contextlib.closing(open_reader(settings, "x")) as reader,
    ):
        assert isinstance(writer, SqliteStore if fast else ClientStore)
        assert isinstance(reader, SqliteReader if fast else ClientStore)


def test_our_sql_names_no_other_columns(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store)) as db:
        for table, columns in COLUMNS.items():
            there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            assert {column.split("*")[0].split()[0] for column in columns.split(", ")} <= there


@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated")
def test_a_store_with_another_column_is_written_and_read_through_mlflow(
    store: Path, new_sweep: Any, ship: Any, tables: Any
) -> None:
    tags = "input_uuid VARCHAR(36) NOT NULL, name TEXT NOT NULL, value VARCHAR(500) NOT NULL"
    change(store, "DROP TABLE input_tags", f"CREATE TABLE input_tags ({tags}, PRIMARY KEY (input_uuid, name))")
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.finish(1)
    ship(sweep, end=True)
    assert [row[1] for row in tables()["runs"]] == ["FINISHED", "FINISHED"]
    with contextlib.closing(open_reader({"uri": f"sqlite:///{store}"}, "digits lr")) as reader:
        assert isinstance(reader, ClientStore)
        assert len(reader.runs(sweep.uid)) == 2
