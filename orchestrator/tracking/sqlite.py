"""Writes runs straight into MLflow's SQLite store: one transaction for the runs of a whole batch, without importing MLflow.

MLflow's own store takes a run in three transactions and 15 ms, and importing it takes seconds and 220 MB beside the trials.
The tables written here are those of the schema revision below; a store of any other revision is left to the library
(`library.py`). A test ships one journal both ways and compares the tables.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from orchestrator.base.failpoints import failpoint
from orchestrator.journal.file import on_network_file_system
from orchestrator.tracking import artifacts
from orchestrator.tracking.store import (
    EXPERIMENT_TAGS,
    RefusedError,
    RunWrite,
    UnavailableError,
    current_user,
    deleted_experiment,
    local_folder,
)

SCHEMA_REVISION = "dc11669786a5"
SCHEMA_OF_MLFLOW = "3.17.2"
BUSY_TIMEOUT_S = 20.0

_UPSERT_LATEST = """
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)
ON CONFLICT (key, run_uuid) DO UPDATE
SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)
"""


@dataclass(frozen=True)
class _Run:
    run_id: str
    artifact_uri: str
    deleted: bool = False


class SqliteStore:
    """An MLflow store in a SQLite file on this machine; see `Store`.

    Args:
        path: the database; created with MLflow's schema where it is missing or empty.
        artifact_root: where new experiments keep their artifacts; absolute.
    """

    def __init__(self, path: Path, artifact_root: Path) -> None:
        self.path = path
        self.artifact_root = artifact_root
        self._user = current_user()
        self._runs: dict[str, _Run] = {}
        self._db: sqlite3.Connection | None = None
        self._experiment_id = -1
        self._artifact_location = ""

    def create(self) -> None:
        """Opens the database and creates the tables where there are none."""
        with self._unavailable_if_it_fails():
            if self._db is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
                self._db.execute("PRAGMA foreign_keys = ON")
            _create_where_empty(self._db, self.path, self.artifact_root)

    def open(self, experiment: str) -> None:
        self.create()
        with self._unavailable_if_it_fails(), self._transaction() as db:
            self._find_or_create_experiment(db, experiment)

    def find(self, sweep_uid: str) -> set[str]:
        assert self._db is not None
        with self._unavailable_if_it_fails():
            rows = self._db.execute(
                "SELECT coalesce(trial.value, sweep.value), r.run_uuid, r.artifact_uri, r.lifecycle_stage <> 'active'"
                " FROM tags sweep JOIN runs r USING (run_uuid)"
                " LEFT JOIN tags trial ON trial.run_uuid = r.run_uuid AND trial.key = 'trial_uid'"
                " WHERE sweep.key = 'sweep_uid' AND sweep.value = ? AND r.experiment_id = ?",
                (sweep_uid, self._experiment_id),
            ).fetchall()
        self._runs = {uid: _Run(run_id, uri, bool(deleted)) for uid, run_id, uri, deleted in rows}
        return set(self._runs)

    def write(self, writes: Sequence[RunWrite]) -> list[str]:
        refused: list[str] = []
        accepted: list[tuple[RunWrite, _Run, bool]] = []
        for write in writes:
            known = self._runs.get(write.uid)
            run = known or (self._new_run(write.uid) if write.create else None)
            if run is None or run.deleted:
                refused.append(f"{write.uid}: its run was deleted in MLflow")
                continue
            self._runs[write.uid] = run
            accepted.append((write, run, known is None))
        # Files before rows: whoever sees a finished run finds its files.
        for write, run, _ in accepted:
            folder = local_folder(run.artifact_uri)
            for artifact in write.artifacts:
                try:
                    if folder is None:
                        raise RefusedError(f"{run.artifact_uri} is not a folder of this machine")
                    artifacts.put(artifact, folder)
                except RefusedError as error:
                    refused.append(f"{write.uid}: {artifact.name}: {error}")
        try:
            with self._unavailable_if_it_fails(), self._transaction() as db:
                self._write_rows(db, accepted)
                failpoint("sqlite.commit.before")
            failpoint("sqlite.commit.after")
        except UnavailableError:
            for write, _, is_new in accepted:
                if is_new:
                    del self._runs[write.uid]
            raise
        return refused

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _find_or_create_experiment(self, db: sqlite3.Connection, name: str) -> None:
        query = "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE name = ?"
        row = db.execute(query, (name,)).fetchone()
        if row is None:
            now_ms = int(time.time() * 1000)
            cursor = db.execute(
                "INSERT INTO experiments (name, lifecycle_stage, creation_time, last_update_time, workspace)"
                " VALUES (?, 'active', ?, ?, 'default')",
                (name, now_ms, now_ms),
            )
            db.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (str(self.artifact_root / str(cursor.lastrowid)), cursor.lastrowid),
            )
            db.executemany(
                "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)",
                [(key, value, cursor.lastrowid) for key, value in EXPERIMENT_TAGS.items()],
            )
            row = db.execute(query, (name,)).fetchone()
        if row[2] != "active":
            raise UnavailableError(deleted_experiment(name, row[0]))
        self._experiment_id, self._artifact_location = row[0], row[1]

    def _new_run(self, uid: str) -> _Run:
        """Its id follows from the uid: a batch that is given again after a kill writes its files where they were."""
        run_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._experiment_id}/{uid}").hex
        return _Run(run_id, f"{self._artifact_location}/{run_id}/artifacts")

    def _write_rows(self, db: sqlite3.Connection, accepted: Sequence[tuple[RunWrite, _Run, bool]]) -> None:
        runs, tags, params, metrics, latest, ends = [], [], [], [], [], []
        for write, run, is_new in accepted:
            run_id = run.run_id
            if is_new:
                runs.append((run_id, write.name, self._user, write.start_ms, run.artifact_uri, self._experiment_id))
                own = {"mlflow.runName": write.name, "mlflow.user": self._user}
                if write.kind == "trial":
                    own["mlflow.parentRunId"] = self._runs[write.uid.rpartition("/")[0]].run_id
                tags += [(key, value, run_id) for key, value in own.items()]
            tags += [(key, value, run_id) for key, value in write.tags.items()]
            params += [(key, value, run_id) for key, value in write.params.items()]
            newest: dict[str, tuple[int, int, float]] = {}
            for key, value, time_ms, step in write.metrics:
                metrics.append((key, value, time_ms, run_id, step))
                if key not in newest or (step, time_ms, value) > newest[key]:
                    newest[key] = (step, time_ms, value)
            latest += [(key, value, time_ms, step, run_id) for key, (step, time_ms, value) in newest.items()]
            if write.status is not None:
                ends.append((write.status, write.end_ms, run_id))
        if runs:
            failpoint("sqlite.create.before")
        db.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
            " source_version, lifecycle_stage, artifact_uri, experiment_id)"
            " VALUES (?, ?, 'UNKNOWN', '', '', ?, 'RUNNING', ?, '', 'active', ?, ?)",
            runs,
        )
        if runs:
            failpoint("sqlite.create.after")
        db.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)"
            " ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value",
            tags,
        )
        db.executemany("INSERT OR IGNORE INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
        db.executemany(
            "INSERT OR IGNORE INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
            metrics,
        )
        db.executemany(_UPSERT_LATEST, latest)
        if ends:
            failpoint("sqlite.status.before")
        db.executemany("UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?", ends)
        if ends:
            failpoint("sqlite.status.after")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _unavailable_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UnavailableError(f"the MLflow store {self.path} cannot be written ({error})") from error


def is_ours(path: Path) -> bool:
    """Whether `SqliteStore` can write this store: it has the known revision, or is to be made for the MLflow of that revision.

    Raises:
        UnavailableError: the file is not a readable database.
    """
    revision = schema_revision(path)
    if revision is None:
        return importlib.metadata.version("mlflow") == SCHEMA_OF_MLFLOW
    return revision == SCHEMA_REVISION


def schema_revision(path: Path) -> str | None:
    """The schema revision of an MLflow store; None where there is no file, or an empty one.

    Raises:
        UnavailableError: the file is not a database, or not MLflow's.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5.0)) as db:
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            return str(db.execute("SELECT version_num FROM alembic_version").fetchone()[0]) if tables else None
    except (sqlite3.Error, TypeError) as error:
        raise UnavailableError(f"{path} is not an MLflow store ({error})") from error


def _create_where_empty(db: sqlite3.Connection, path: Path, artifact_root: Path) -> None:
    """Creates the store that MLflow's own migrations would, from the schema kept beside this file."""
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return
    if not on_network_file_system(path):
        # A reader (the dashboard) and the writer do not wait for one another then.
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("PRAGMA journal_mode = WAL")
    schema = files(__package__).joinpath("mlflow_schema.sql").read_text()
    now_ms = int(time.time() * 1000)
    db.execute("BEGIN EXCLUSIVE")
    try:
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _statements(schema):
                db.execute(statement)
            db.execute(
                "INSERT INTO experiments VALUES (0, 'Default', ?, 'active', ?, ?, 'default')",
                (str(artifact_root / "0"), now_ms, now_ms),
            )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one; `executescript` would commit before and between them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
