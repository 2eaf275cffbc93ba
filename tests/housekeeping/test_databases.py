"""`status --check` tells damage in the journals and in the MLflow store, once each, by its exit code too."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import EXIT_OK, EXIT_VIOLATION
from orchestrator.base.layout import JOURNAL
from orchestrator.cli import main


@pytest.fixture
def runs(new_sweep: Any, ship: Any, tmp_path: Path) -> Path:
    """A folder with two sweeps in one store."""
    for name in ("digits-00000001", "digits-00000002"):
        sweep = new_sweep(name)
        for index in range(4):
            sweep.run_trial(index)
        sweep.finish()
        ship(sweep, end=True)
        sweep.journal.close()
    return tmp_path


def check(runs: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines below the table."""
    code = main(["status", *arguments, "--check", "--runs-dir", str(runs)])
    return code, capsys.readouterr().out.partition("\n\n")[2].splitlines()


def test_whole_databases_are_told_as_whole(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journals = ["whole        journal of digits-00000001", "whole        journal of digits-00000002"]
    store = f"whole        MLflow store {runs / 'mlflow.db'}"
    code, lines = check(runs, capsys)
    assert code == EXIT_OK
    assert sorted(lines[:-1]) == journals
    assert lines[-1] == store
    assert check(runs, capsys, "digits-00000001") == (EXIT_OK, [journals[0], store])


def test_without_the_option_nothing_is_checked(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs-dir", str(runs)]) == EXIT_OK
    assert "whole" not in capsys.readouterr().out


def test_a_row_that_refers_to_nothing_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sqlite3.connect(runs / "mlflow.db")) as db, db:
        db.execute("INSERT INTO params VALUES ('key', 'value', 'no such run')")
    code, lines = check(runs, capsys)
    assert code == EXIT_VIOLATION
    assert lines[-2].startswith("damaged      MLflow store")
    assert "params refers to no row of runs" in lines[-1]


def test_a_page_of_zeros_in_the_store_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sqlite3.connect(runs / "mlflow.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with (runs / "mlflow.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\0" * size)
    code, lines = check(runs, capsys)
    assert code == EXIT_VIOLATION
    assert any(line.startswith("damaged      MLflow store") for line in lines)


def test_a_damaged_journal_is_told_beside_whole_ones(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "digits-00000001" / JOURNAL).write_bytes(b"no database at all" * 1000)
    code, lines = check(runs, capsys)
    assert code == EXIT_VIOLATION
    assert "damaged      journal of digits-00000001" in lines
    assert "whole        journal of digits-00000002" in lines


def test_an_index_of_a_journal_that_lacks_rows_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The events themselves are read in order of their number, and are whole: only the check finds it."""
    with contextlib.closing(sqlite3.connect(runs / "digits-00000002" / JOURNAL)) as db, db:
        db.execute("CREATE INDEX extra ON events (kind)")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = 'extra'")
    code, lines = check(runs, capsys, "digits-00000002")
    assert code == EXIT_VIOLATION
    assert lines[0] == "damaged      journal of digits-00000002"
    assert any("never used" in line for line in lines), "the index's page belongs to nothing"


def test_a_server_is_not_looked_into(new_sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep("digits-00000003", kind="server", uri="http://127.0.0.1:9")
    sweep.run_trial(0)
    sweep.finish(1)
    code, lines = check(tmp_path, capsys)
    assert code == EXIT_OK
    assert lines[-1] == "not checked  MLflow server http://127.0.0.1:9: the server's database is not at hand"
