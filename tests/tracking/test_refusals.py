"""A database that refuses writes for a while, and what `sync` does about writes that were refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.journal.cursor import read_status, write_status
from orchestrator.stores.client import ClientStore
from orchestrator.stores.opening import open_reader
from orchestrator.stores.runs import UnavailableError
from orchestrator.tracking.shipper import Shipper
from orchestrator.tracking.sync import sync
from tests.chaos.server import Server, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("refusing"))
    server.start()
    server.warm_up()
    yield server
    server.close()


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db, db:
        for statement in statements:
            db.execute(statement)


def refuse(path: Path, table: str) -> None:
    """From now on the database refuses to insert into a table, as a read-only one does: MLflow answers BAD_REQUEST."""
    change(path, f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'read-only'); END")


def accept(path: Path, table: str) -> None:
    change(path, f"DROP TRIGGER no_{table}")


def names(tables: Any, path: Path, sweep: Any) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in tables(path)["runs"] if row[0].startswith(sweep.uid)]


@pytest.mark.parametrize("table", ["runs", "metrics", "params"])
def test_a_database_that_refuses_writes_for_a_while_loses_nothing(
    table: str, server: Server, new_sweep: Any, ship: Any, tables: Any
) -> None:
    sweep = new_sweep(f"{table}-00000000", kind="server", uri=server.uri)
    for index in range(3):
        sweep.run_trial(index)
    refuse(server.database, table)
    try:
        with pytest.raises(UnavailableError, match=r"BAD_REQUEST.*read-only|500 .*read-only"):
            ship(sweep)
    finally:
        accept(server.database, table)
    assert read_status(sweep.folder).refused == 0
    sweep.finish(3)
    status = ship(sweep, end=True).status
    assert (status.shipped, status.refused, status.error) == (sweep.journal.last_seq, 0, None)
    assert len(names(tables, server.database, sweep)) == 4
    assert len([row for row in tables(server.database)["metrics"] if row[0] == f"{sweep.uid}/2"]) == 9 + 5


def test_sync_finds_and_ships_what_was_refused_on_a_server(
    server: Server, new_sweep: Any, ship: Any, tables: Any
) -> None:
    sweep = new_sweep("lost-00000000", kind="server", uri=server.uri)
    for index in range(3):
        sweep.run_trial(index)
    sweep.finish(3)
    ship(sweep, end=True)
    assert sync(sweep.folder) == f"{server.uri} had everything already"
    expected = tables(server.database)

    # What the cursor of an earlier version says, that took BAD_REQUEST for final.
    of_trial = "(SELECT run_uuid FROM tags WHERE value = 'lost-00000000/1' AND key = 'trial_uid')"
    change(
        server.database,
        *(f"DELETE FROM {table} WHERE run_uuid IN {of_trial}" for table in ("metrics", "latest_metrics", "params")),
        f"UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = {of_trial}",
        "DELETE FROM metrics WHERE key = 'lr' AND run_uuid = (SELECT run_uuid FROM tags"
        " WHERE value = 'lost-00000000/2' AND key = 'trial_uid')",
    )
    refused(sweep, 4)
    told = sync(sweep.folder)
    assert told == f"compared 4 runs with {server.uri}: 2 were incomplete (0 missing, 17 metric rows), now shipped"
    assert tables(server.database) == expected
    assert read_status(sweep.folder).refused == 0
    assert sync(sweep.folder) == f"{server.uri} had everything already"


def refused(sweep: Any, count: int) -> None:
    status = read_status(sweep.folder)
    write_status(sweep.folder, type(status)(**{**vars(status), "refused": count}))


def test_sync_compares_a_local_store_too(new_sweep: Any, ship: Any, tables: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    for index in range(3):
        sweep.run_trial(index)
    sweep.finish(3)
    ship(sweep, end=True)
    expected = tables()
    where = f"sqlite:///{tmp_path}/mlflow.db"
    refused(sweep, 1)
    assert sync(sweep.folder) == f"compared 4 runs with {where}: nothing is missing"

    change(tmp_path / "mlflow.db", "DELETE FROM metrics WHERE step = 2", "DELETE FROM tags WHERE key = 'best_epoch'")
    (lost, *_) = (tmp_path / "artifacts").rglob("predictions.safetensors")
    lost.unlink()
    refused(sweep, 1)
    # Three metrics of an epoch and the sweep's second number of the best trial.
    assert sync(sweep.folder) == (
        f"compared 4 runs with {where}: 4 were incomplete (0 missing, {3 * 3 + 1} metric rows), now shipped"
    )
    assert tables() == expected
    assert lost.exists()

    change(tmp_path / "mlflow.db", "UPDATE runs SET lifecycle_stage = 'deleted' WHERE name LIKE '1 %'")
    refused(sweep, 1)
    assert (
        sync(sweep.folder)
        == f"compared 4 runs with {where}: 1 were deleted in MLflow and stay so; 1 writes were refused (tracking/shipper.log)"
    )


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL database of this test's own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (uv pip install psycopg2-binary)")
    binaries, port = found[-1].parent, free_port()
    with tempfile.TemporaryDirectory() as folder:
        user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

        def run(program: str, *arguments: str) -> None:
            command = [*user, str(binaries / program), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

        run("initdb", "-A", "trust", "-U", "mlflow")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-l", f"{folder}/log", "-w", "-o", options, "start")
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        run("pg_ctl", "-m", "immediate", "-w", "stop")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated")
def test_postgresql_read_only_for_a_while_loses_nothing(postgres: str, new_sweep: Any) -> None:
    import psycopg2

    def read_only(on: bool) -> None:
        with contextlib.closing(psycopg2.connect(postgres.replace("+psycopg2", ""))) as db:
            db.autocommit = True
            with db.cursor() as cursor:
                cursor.execute("SET default_transaction_read_only = off")
                cursor.execute(f"ALTER DATABASE postgres SET default_transaction_read_only = {'on' if on else 'off'}")
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    sweep = new_sweep("postgres-00000000", kind="server", uri=postgres)
    for index in range(4):
        sweep.run_trial(index)
    sweep.journal.commit()
    (sweep.folder / "tracking").mkdir()
    store = ClientStore(postgres, "digits lr", sweep.folder / "artifacts")
    with contextlib.closing(Shipper(sweep.folder, make_store=lambda *_: store)) as shipper:
        shipper.ship_everything()
        for index in range(4, 8):
            sweep.run_trial(index)
        sweep.finish(8)
        read_only(True)
        failures = []
        for _ in range(3):
            with pytest.raises(UnavailableError, match=r"read-only|terminating|closed") as failure:
                shipper.ship_everything()
            failures.append(str(failure.value))
        assert any("read-only" in text for text in failures), failures
        lift = threading.Timer(0.5, read_only, [False])
        lift.start()
        lift.join()
        ship_patiently(shipper)
        shipper.end()
        assert (shipper.status.shipped, shipper.status.refused) == (sweep.journal.last_seq, 0)
    with contextlib.closing(open_reader({"uri": postgres}, "digits lr")) as reader:
        runs = reader.runs(sweep.uid)
        assert {run.status for run in runs} == {"FINISHED"}
        assert len(runs) == 9
        histories = reader.rows([run for run in runs if run.tags["kind"] == "trial"])
        assert [len(rows) for rows in histories.values()] == [9 + 4] * 8


def ship_patiently(shipper: Shipper) -> None:
    """Tries again after connections that the server has cut."""
    for last in (False, False, True):
        try:
            shipper.ship_everything()
            return
        except UnavailableError:
            if last:
                raise
