"""The local store: what is written, that repeating it changes nothing, and that it is what MLflow itself would write."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.records import State
from orchestrator.base.rules import RULES
from orchestrator.stores import schema
from orchestrator.stores.client import ClientStore
from orchestrator.stores.runs import UnavailableError
from orchestrator.stores.schema import create
from orchestrator.stores.sqlite import SqliteStore
from orchestrator.tracking.shipper import Shipper
from tests.synthetic import FACTS, plan_text

Tables = dict[str, list[tuple[Any, ...]]]

# MLflow 3.17.2 under SQLAlchemy 2.1.
warnings_of_mlflow = pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated")


def rows_of(tables: Tables, table: str, run: str) -> dict[str, Any]:
    """key -> value (or the newest value) of one run."""
    return {row[1]: row[2] if len(row) == 3 else row[4] for row in tables[table] if row[0] == run}


def test_a_sweep_becomes_a_run_with_nested_runs(new_sweep: Any, ship: Any, tables: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    for index in range(4):
        sweep.run_trial(index)
    sweep.finish()
    ship(sweep, end=True)
    found: Tables = tables()

    assert ("digits lr", "active") in found["experiments"]
    assert [(row[0], row[1]) for row in found["runs"]] == [(sweep.uid, "FINISHED")] + [
        (f"{sweep.uid}/{index}", "FINISHED") for index in range(4)
    ]
    assert found["parents"] == [(f"{sweep.uid}/{index}", sweep.uid) for index in range(4)]
    tags = rows_of(found, "tags", f"{sweep.uid}/2")
    assert tags["kind"] == "trial"
    assert tags["trial_uid"] == f"{sweep.uid}/2"
    assert tags["reason"] == "completed"
    assert tags["best_epoch"] == "3"
    params = rows_of(found, "params", f"{sweep.uid}/0")
    assert params["optimizer.lr"] == "0.1"
    assert params["model"] == "mlp"
    assert params["norm"] == "default"
    metrics = rows_of(found, "latest", f"{sweep.uid}/3")
    assert metrics["best/val_accuracy"] == 0.533
    assert metrics["best/epoch"] == 3
    assert metrics["test/accuracy"] == 0.9
    steps = [row[2] for row in found["metrics"] if row[:2] == (f"{sweep.uid}/1", "train/loss")]
    assert steps == [1, 2, 3]
    totals = rows_of(found, "latest", sweep.uid)
    assert totals["trials/completed"] == 4
    assert totals["best/val_accuracy"] == totals["best_so_far/val_accuracy"] == 0.533
    single = {row[2] for row in found["metrics"] if row[1].startswith(("best/", "test/", "trials/", "seconds"))}
    assert single == {0}, "MLflow draws bars of what stands at step 0"
    note = rows_of(found, "tags", sweep.uid)["mlflow.note.content"]
    assert "**Best:** trial 3, `val/accuracy` = 0.533" in note
    assert "| `optimizer.lr` | `tag(log, interval(1e-4, 1))` | `optimizer=sgd` |" in note
    files = {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    assert files == {"config.yaml", "predictions.safetensors"}


def test_times_are_those_of_the_journal(new_sweep: Any, ship: Any, tables: Any) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.finish(1)
    ship(sweep)
    start = 1_700_000_000_000
    # Events are a second apart: opened 1, suggested 2, started 3, two reports, terminal 6, closed 7.
    assert [row[2:4] for row in tables()["runs"]] == [(start + 1000, start + 7000), (start + 3000, start + 6000)]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.COMPLETED, "FINISHED"),
        (State.STOPPED, "FINISHED"),
        (State.DIVERGED, "FAILED"),
        (State.INFEASIBLE, "FAILED"),
        (State.FAILED, "FAILED"),
        (State.CANCELLED, "KILLED"),
    ],
)
def test_each_state_has_its_status_and_reason(
    new_sweep: Any, ship: Any, tables: Any, tmp_path: Path, state: State, status: str
) -> None:
    sweep = new_sweep()
    sweep.start(0)
    sweep.end(
        0, state.value, reason="out of memory", error="Traceback ...\nMemoryError" if state is State.FAILED else None
    )
    ship(sweep)
    found: Tables = tables()
    assert found["runs"][1][1] == status
    tags = rows_of(found, "tags", f"{sweep.uid}/0")
    assert tags["reason"] == state.value
    assert tags["detail"] == "out of memory"
    errors = list((tmp_path / "artifacts").rglob("error.txt"))
    assert [path.read_text() for path in errors] == (["Traceback ...\nMemoryError"] if state is State.FAILED else [])
    can_be_best = state in (State.COMPLETED, State.STOPPED, State.CANCELLED)
    assert ("best_so_far/val_accuracy" in rows_of(found, "latest", sweep.uid)) is can_be_best


def test_an_abandoned_sweep_is_interrupted_and_a_resumed_one_reopened(new_sweep: Any, ship: Any, tables: Any) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.start(1)
    sweep.report(1, 1, 2)
    sweep.append("suggested", 2, params={"optimizer.lr": 0.5}, config=sweep.config(0.5))
    ship(sweep, end=True)
    found: Tables = tables()
    assert [row[1] for row in found["runs"]] == ["KILLED", "FINISHED", "KILLED", "KILLED"]
    assert rows_of(found, "tags", f"{sweep.uid}/1")["reason"] == "interrupted"
    assert all(row[3] is not None for row in found["runs"])

    sweep.append("sweep_resumed")
    sweep.append("started", 1, 2, host="here", pid=2)
    ship(sweep)
    found = tables()
    assert [row[1] for row in found["runs"]] == ["RUNNING", "FINISHED", "RUNNING", "KILLED"]
    assert rows_of(found, "tags", f"{sweep.uid}/1")["attempt"] == "2"

    sweep.report(1, 3, 3, attempt=2)
    sweep.end(1)
    sweep.append("started", 2, 1, host="here", pid=2)
    sweep.report(2, 1, 3)
    sweep.end(2)
    sweep.finish(3)
    ship(sweep, end=True)
    assert [row[1] for row in tables()["runs"]] == ["FINISHED"] * 4


def test_shipping_again_without_the_cursor_changes_nothing(new_sweep: Any, ship: Any, tables: Any) -> None:
    sweep = new_sweep()
    for index in range(3):
        sweep.run_trial(index)
        ship(sweep)
    sweep.start(3)
    sweep.end(3, "failed", error="Traceback")
    sweep.finish()
    ship(sweep, end=True)
    before = tables()
    (sweep.folder / "tracking" / "cursor.json").unlink()
    assert ship(sweep, end=True).status.shipped == sweep.journal.last_seq
    assert tables() == before


def test_an_epoch_trained_again_is_stored_once(new_sweep: Any, ship: Any, tables: Any) -> None:
    sweep = new_sweep()
    sweep.start(0)
    sweep.report(0, 1, 2)
    ship(sweep)
    sweep.append("retrying", 0, 1, reason="worker died", error="")
    sweep.append("started", 0, 2, host="here", pid=2)
    sweep.report(0, 1, 3, attempt=2)
    ship(sweep)
    rows = [row for row in tables()["metrics"] if row[1] == "val/accuracy"]
    assert [row[2] for row in rows] == [1, 2, 3]


def test_numbers_that_are_not_finite_are_left_out(new_sweep: Any, ship: Any, tables: Any) -> None:
    sweep = new_sweep()
    sweep.start(0)
    epochs = [{"epoch": 1, "time_ms": 1, "metrics": {"train/loss": float("inf"), "val/loss": float("nan"), "lr": 1.0}}]
    sweep.append("reported", 0, 1, epochs=epochs, checkpoint=None)
    sweep.end(0, "diverged", value=float("nan"))
    ship(sweep)
    assert {row[1] for row in tables()["metrics"]} == {"lr", "log10/optimizer.lr", "test/accuracy", "test/loss"}


def test_a_deleted_experiment_is_explained_and_waited_for(
    new_sweep: Any, ship: Any, tables: Any, tmp_path: Path
) -> None:
    create(tmp_path / "mlflow.db", tmp_path / "artifacts")
    store = SqliteStore(tmp_path / "mlflow.db", "digits lr", tmp_path / "artifacts")
    store.open()
    store.close()
    _change(tmp_path, "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'digits lr'")
    sweep = new_sweep()
    sweep.run_trial(0)
    with pytest.raises(
        UnavailableError, match=r"'digits lr' \(id 1\) is deleted; restore it \(mlflow experiments restore"
    ):
        ship(sweep)
    _change(tmp_path, "UPDATE experiments SET lifecycle_stage = 'active'")
    ship(sweep)
    assert len(tables()["runs"]) == 2


def test_a_run_deleted_in_mlflow_stays_deleted(new_sweep: Any, ship: Any, tables: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.start(1)
    ship(sweep)
    _change(tmp_path, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE name LIKE '1 %'")
    sweep.report(1, 1, 3)
    sweep.run_trial(2)
    lines: list[str] = []
    assert ship(sweep, lines=lines).status.refused == 1
    assert lines == [f"refused by MLflow: {sweep.uid}/1: its run was deleted in MLflow"]
    assert [row[0] for row in tables()["runs"]] == ["1 lr=0.05", sweep.uid, f"{sweep.uid}/0", f"{sweep.uid}/2"]


def test_a_store_that_was_thrown_away_is_filled_again(new_sweep: Any, ship: Any, tables: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    ship(sweep)
    before = tables()
    for path in tmp_path.glob("mlflow.db*"):
        path.unlink()
    sweep.journal.commit()
    ship(sweep)
    assert tables() == before


def test_predictions_that_are_gone_are_named(new_sweep: Any, ship: Any) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    path = sweep.folder / "predictions-0" / "predictions.safetensors"
    path.unlink()
    lines: list[str] = []
    ship(sweep, lines=lines)
    assert lines == [f"refused by MLflow: {sweep.uid}/0: predictions.safetensors: {path} is gone"]


def test_a_locked_database_is_waited_for(
    new_sweep: Any, ship: Any, tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.2)
    sweep = new_sweep()
    sweep.start(0)
    ship(sweep)
    locker = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    locker.execute("BEGIN EXCLUSIVE")
    sweep.report(0, 1, 3)
    with pytest.raises(UnavailableError, match="database is locked"):
        ship(sweep)
    threading.Timer(0.5, lambda: locker.execute("ROLLBACK")).start()
    ship(sweep, patience_s=10.0)
    locker.close()
    assert len(tables()["metrics"]) == 10


def test_two_sweeps_share_a_new_store(new_sweep: Any, ship: Any, tables: Any) -> None:
    sweeps = [new_sweep(f"digits-0000000{index}") for index in range(2)]
    for sweep in sweeps:
        for index in range(3):
            sweep.run_trial(index)
    threads = [threading.Thread(target=ship, args=(sweep,)) for sweep in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables()["runs"]) == 8


@warnings_of_mlflow
def test_mlflow_would_write_the_same_rows(mlflow_made: Path, new_sweep: Any, ship: Any, tables: Any) -> None:
    sweep = new_sweep(plan=plan_text(facts=FACTS, rules=RULES))
    for index in range(2):
        sweep.run_trial(index)
    sweep.start(2)
    ship(sweep)
    sweep.end(2, "failed", error="Traceback")
    sweep.finish(3)
    ship(sweep, end=True)
    here = tables()
    assert [row[1] for row in here["names"]][1:] == ["0 lr=0.1", "1 lr=0.05", "2 [failed] lr=0.033"]
    assert len(here["views"]) == len(here["datasets"]) == 1
    assert len(here["inputs"]) == 4

    (sweep.folder / "tracking" / "cursor.json").unlink()
    store = ClientStore(f"sqlite:///{mlflow_made}", "digits lr", mlflow_made.parent / "artifacts")
    shipper = Shipper(sweep.folder, make_store=lambda *_: store)
    for _ in range(2):  # and again: the library's way can be repeated, too
        shipper.ship_everything()
        shipper.end()
        shipper.start_over()
    shipper.close()
    assert tables(mlflow_made) == here


@warnings_of_mlflow
def test_mlflow_reads_what_we_write(mlflow_made: Path, new_sweep: Any, ship: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    sweep.run_trial(0)
    sweep.finish(1)
    ship(sweep)
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("digits lr")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "metrics.`best/val_accuracy` > 0.5 and tags.kind = 'trial'")
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val/accuracy")] == [1, 2, 3]
    path = download_artifacts(run_id=run.info.run_id, artifact_path="predictions.safetensors", tracking_uri=uri)
    assert Path(path).read_text() == "logits of 0"


@pytest.fixture(scope="module")
def mlflow_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that MLflow's own migrations made."""
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    store = ClientStore(f"sqlite:///{path}", "Default")
    assert store.experiment_id() == "0"
    store.close()
    return path


def _change(folder: Path, statement: str) -> None:
    db = sqlite3.connect(folder / "mlflow.db", timeout=10)
    with db:
        db.execute(statement)
    db.close()
