"""Runs read back are what was shipped, whichever way they are read."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.stores import client
from orchestrator.stores.client import ClientStore
from orchestrator.stores.opening import open_reader
from orchestrator.stores.runs import Metric, RunReader, StoredRun, UnavailableError
from orchestrator.stores.sqlite_read import SqliteReader
from tests.chaos.server import Server


def by_name(reader: RunReader, uid: str) -> dict[str, StoredRun]:
    return {str(run.uid): run for run in reader.runs(uid)}


@pytest.fixture
def shipped(new_sweep: Any, ship: Any) -> Any:
    """A sweep of four trials, of which one diverged, in the local store."""
    sweep = new_sweep()
    for index in range(3):
        sweep.run_trial(index)
    sweep.start(3)
    sweep.report(3, 1, 2)
    sweep.end(3, "diverged", epoch=2, value=None, best_epoch=None, metrics={}, artifacts=[])
    sweep.finish(4)
    ship(sweep, end=True)
    return sweep


@pytest.fixture
def reader(shipped: Any, tmp_path: Path) -> Any:
    with contextlib.closing(SqliteReader(tmp_path / "mlflow.db", "digits lr")) as reader:
        yield reader


def change(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def test_runs_come_back_as_they_were_shipped(shipped: Any, reader: SqliteReader) -> None:
    runs = by_name(reader, shipped.uid)
    assert set(runs) == {shipped.uid, *(f"{shipped.uid}/{index}" for index in range(4))}
    assert [runs[name].uid for name in sorted(runs)] == sorted(runs)
    one, sweep, diverged = runs[f"{shipped.uid}/1"], runs[shipped.uid], runs[f"{shipped.uid}/3"]
    assert (one.status, diverged.status, sweep.status) == ("FINISHED", "FAILED", "FINISHED")
    assert not one.deleted
    assert one.start_ms is not None
    assert one.end_ms is not None
    assert one.start_ms < one.end_ms
    assert one.tags["mlflow.parentRunId"] == sweep.run_id
    assert one.params["optimizer.lr"] == "0.05"
    assert Metric("val/accuracy", 3, one_time(shipped, 1, 3), 0.5 + 3 / 100 + 1 / 1000) in one.latest

    rows = reader.rows([one, diverged])
    assert set(rows) == {one.run_id, diverged.run_id}
    assert [row.step for row in rows[one.run_id] if row.key == "train/loss"] == [1, 2, 3]
    assert [row.value for row in rows[diverged.run_id] if row.key == "train/loss"] == [1.0, 0.5]
    assert [row.key for row in rows[one.run_id] if row.key.startswith(("best/", "test/"))] == [
        "best/epoch",
        "best/val_accuracy",
        "test/accuracy",
        "test/loss",
    ]


def one_time(shipped: Any, index: int, epoch: int) -> int:
    (time_ms,) = (
        entry["time_ms"]
        for seq, text in sqlite_rows(shipped.folder / "journal.sqlite")
        for entry in text["epochs"]
        if (seq, entry["epoch"]) == (index, epoch)
    )
    return int(time_ms)


def sqlite_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT trial, data FROM events WHERE kind = 'reported'").fetchall()
    return [(trial, json.loads(text)) for trial, text in rows]


def test_other_sweeps_of_the_store_are_left_out(shipped: Any, new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    other = new_sweep("digits-ffffffff")
    other.run_trial(0)
    other.finish(1)
    ship(other, end=True)
    with contextlib.closing(SqliteReader(tmp_path / "mlflow.db", "digits lr")) as reader:
        assert len(reader.runs(shipped.uid)) == 5
        assert len(reader.runs(other.uid)) == 2
        assert reader.runs("digits-00000000") == []
        for sweep in (shipped, other):
            assert reader.runs(sweep.uid, whole_store=False) == reader.runs(sweep.uid)
    with contextlib.closing(SqliteReader(tmp_path / "mlflow.db", "another experiment")) as reader:
        assert len(reader.runs(shipped.uid)) == 5, "wherever they lie"


def test_a_number_that_is_none_is_nan(shipped: Any, reader: SqliteReader, tmp_path: Path) -> None:
    change(tmp_path / "mlflow.db", "UPDATE metrics SET value = 0, is_nan = 1 WHERE key = 'lr' AND step = 2")
    run = by_name(reader, shipped.uid)[f"{shipped.uid}/0"]
    values = [row.value for row in reader.rows([run])[run.run_id] if row.key == "lr"]
    assert [math.isnan(value) for value in values] == [False, True, False]


def test_a_change_is_noticed_and_another_sweep_is_none(shipped: Any, reader: SqliteReader, tmp_path: Path) -> None:
    reader.rows(reader.runs(shipped.uid))
    assert reader.changed() is False
    change(
        tmp_path / "mlflow.db", "INSERT INTO experiment_tags SELECT 'a', 'b', experiment_id FROM experiments LIMIT 1"
    )
    assert reader.changed() is False
    change(tmp_path / "mlflow.db", "UPDATE metrics SET value = 17 WHERE key = 'lr' AND step = 2")
    assert reader.changed() is True


def test_a_broken_reference_is_told(reader: SqliteReader, tmp_path: Path) -> None:
    assert reader.integrity() == []
    change(tmp_path / "mlflow.db", "INSERT INTO params VALUES ('key', 'value', 'no such run')")
    (told,) = reader.integrity() or []
    assert "params refers to no row of runs" in told


def test_a_store_without_a_file_has_no_runs(tmp_path: Path) -> None:
    reader = open_reader({"uri": f"sqlite:///{tmp_path}/none.db"}, "digits lr")
    assert isinstance(reader, SqliteReader)
    assert reader.runs("digits-0a1b2c3d") == []
    assert reader.integrity() == []
    assert reader.changed() is False
    assert not (tmp_path / "none.db").exists(), "looking creates nothing"


def test_a_server_that_does_not_answer_says_so() -> None:
    with contextlib.closing(open_reader({"uri": "http://127.0.0.1:9"}, "digits lr")) as reader:
        assert isinstance(reader, ClientStore)
        with pytest.raises(UnavailableError, match=r"MLflow at http://127\.0\.0\.1:9: .*refused"):
            reader.runs("digits-0a1b2c3d")


def same_records(one: RunReader, other: RunReader, uid: str) -> None:
    """The two read the same runs and the same histories; columns that MLflow's client does not tell are left out."""
    ours, theirs = (
        {name: replace(run, columns={}) for name, run in by_name(reader, uid).items()} for reader in (one, other)
    )
    assert ours == theirs
    assert len(ours) == 5
    assert one.rows(list(ours.values())) == other.rows(list(theirs.values()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated")
def test_mlflows_client_reads_the_same(shipped: Any, reader: SqliteReader, tmp_path: Path) -> None:
    store = ClientStore(f"sqlite:///{tmp_path}/mlflow.db", "digits lr")
    same_records(reader, store, shipped.uid)
    assert store.integrity() is None
    assert store.changed() is None
    store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    server.warm_up()
    yield server
    server.close()


@pytest.mark.slow
def test_a_server_tells_the_same(
    server: Server, new_sweep: Any, ship: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = new_sweep(kind="server", uri=server.uri)
    for index in range(4):
        sweep.run_trial(index)
    sweep.finish(4)
    ship(sweep, end=True, patience_s=60.0)
    remote, local = open_reader({"uri": server.uri}, "digits lr"), SqliteReader(server.database, "digits lr")
    with contextlib.closing(remote), contextlib.closing(local):
        assert isinstance(remote, ClientStore)
        same_records(remote, local, sweep.uid)
        # Where an answer is as full as it can be, rows may be missing from it: the runs are asked one by one then.
        monkeypatch.setattr(client, "ROWS_A_CALL", 3)
        monkeypatch.setattr(client, "RUNS_A_PAGE", 2)
        same_records(remote, local, sweep.uid)
