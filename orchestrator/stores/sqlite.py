"""Writes runs straight into MLflow's SQLite store: one transaction for the runs of a whole batch, without importing MLflow.

MLflow's own store takes a run in three transactions and 15 ms, and importing it takes seconds and 220 MB beside the trials.
Only stores that `schema.fits` are written like this. A test ships one journal both ways and compares the tables.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.failpoints import failpoint
from orchestrator.stores import artifacts
from orchestrator.stores.runs import (
    CONTEXT_TAG,
    EXPERIMENT_TAGS,
    Dataset,
    RefusedError,
    RunWrite,
    UnavailableError,
    current_user,
    deleted_experiment,
    local_folder,
)
from orchestrator.stores.schema import connect, unavailable_if_it_fails

_UPSERT_LATEST = """
INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)
ON CONFLICT (key, run_uuid) DO UPDATE
SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)
"""


def derived_run_id(experiment_id: int, uid: str) -> str:
    """The id of the run that is written here for a trial, or a sweep."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{experiment_id}/{uid}").hex


def derived_input_id(run_id: str) -> str:
    """The id of the row that says which data set a run was given."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id}/data").hex


@dataclass(frozen=True)
class _Run:
    run_id: str
    artifact_uri: str
    deleted: bool = False


class SqliteStore:
    """An MLflow store in a SQLite file of this machine; see `Store`.

    Args:
        path: the database, with MLflow's tables.
        experiment: its name.
        artifact_root: where new experiments keep their artifacts; absolute.
        experiment_tags: that the experiment is to have, unless it has others of these keys.
    """

    def __init__(
        self, path: Path, experiment: str, artifact_root: Path, experiment_tags: Mapping[str, str] | None = None
    ) -> None:
        self._experiment_tags = experiment_tags or {}
        self._path, self._experiment, self._artifact_root = path, experiment, artifact_root
        self._user = current_user()
        self._runs: dict[str, _Run] = {}
        self._db: sqlite3.Connection | None = None
        self._experiment_id = -1
        self._artifact_location = ""

    def open(self) -> None:
        with self._unavailable_if_it_fails():
            if self._db is None:
                self._db = connect(self._path, write=True)
            with transaction(self._db) as db:
                self._find_or_create_experiment(db, self._experiment)

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

    def tag(self, uid: str, key: str) -> str | None:
        assert self._db is not None
        run_id = self._runs[uid].run_id if uid in self._runs else None
        with self._unavailable_if_it_fails():
            row = self._db.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = ?", (run_id, key)).fetchone()
        return row and str(row[0])

    def tag_experiment(self, key: str, value: str) -> None:
        assert self._db is not None
        with self._unavailable_if_it_fails(), transaction(self._db) as db:
            db.execute(
                "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)"
                " ON CONFLICT (key, experiment_id) DO UPDATE SET value = excluded.value",
                (key, value, self._experiment_id),
            )

    def write(self, writes: Sequence[RunWrite]) -> list[str]:
        assert self._db is not None
        refused: list[str] = []
        accepted: list[tuple[RunWrite, _Run]] = []
        for write in writes:
            run = self._runs.get(write.uid) or (self._new_run(write.uid) if write.create else None)
            if run is None or run.deleted:
                refused.append(f"{write.uid}: its run was deleted in MLflow")
            else:
                accepted.append((write, run))
        # Files before rows: whoever sees a finished run finds its files.
        for write, run in accepted:
            refused += _put_artifacts(write, run)
        with self._unavailable_if_it_fails(), transaction(self._db) as db:
            self._write_rows(db, accepted)
            failpoint("sqlite.commit.before")
        failpoint("sqlite.commit.after")
        # Only now: where anything failed, the same runs are created by the repetition.
        self._runs |= {write.uid: run for write, run in accepted}
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
            new = db.execute(
                "INSERT INTO experiments (name, lifecycle_stage, creation_time, last_update_time)"
                " VALUES (?, 'active', ?, ?)",
                (name, now_ms, now_ms),
            ).lastrowid
            db.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (str(self._artifact_root / str(new)), new),
            )
            db.executemany(
                "INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)",
                [(key, value, new) for key, value in EXPERIMENT_TAGS.items()],
            )
            row = db.execute(query, (name,)).fetchone()
        if row[2] != "active":
            raise UnavailableError(deleted_experiment(name, row[0]))
        db.executemany(
            "INSERT OR IGNORE INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)",
            [(key, value, row[0]) for key, value in self._experiment_tags.items()],
        )
        self._experiment_id, self._artifact_location = row[0], row[1]

    def _new_run(self, uid: str) -> _Run:
        """Its id follows from the uid: a batch that is repeated after a kill writes its files where they were."""
        run_id = derived_run_id(self._experiment_id, uid)
        return _Run(run_id, f"{self._artifact_location}/{run_id}/artifacts")

    def _write_rows(self, db: sqlite3.Connection, accepted: Sequence[tuple[RunWrite, _Run]]) -> None:
        ids = {write.uid: run.run_id for write, run in accepted}
        runs, names, tags, params, metrics, latest, ends = [], [], [], [], [], [], []
        for write, run in accepted:
            run_id = run.run_id
            if write.uid not in self._runs:
                runs.append((run_id, write.name, self._user, write.start_ms, run.artifact_uri, self._experiment_id))
                own = {"mlflow.runName": write.name, "mlflow.user": self._user}
                if write.kind == "trial":
                    sweep_uid = write.uid.rpartition("/")[0]
                    own["mlflow.parentRunId"] = ids.get(sweep_uid) or self._runs[sweep_uid].run_id
                tags += [(key, value, run_id) for key, value in own.items()]
            elif write.name:
                names.append((write.name, run_id))
                tags.append(("mlflow.runName", write.name, run_id))
            tags += [(key, value, run_id) for key, value in write.tags.items()]
            params += [(key, value, run_id) for key, value in write.params.items()]
            newest: dict[str, tuple[int, int, float]] = {}
            for key, step, time_ms, value in write.metrics:
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
        db.executemany("UPDATE runs SET name = ? WHERE run_uuid = ?", names)
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
        self._write_datasets(db, [(write.dataset, ids[write.uid]) for write, _ in accepted if write.dataset])
        if ends:
            failpoint("sqlite.status.before")
        db.executemany("UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?", ends)
        if ends:
            failpoint("sqlite.status.after")

    def _write_datasets(self, db: sqlite3.Connection, given: Sequence[tuple[Dataset, str]]) -> None:
        """One row a data set of the experiment, and one for each (data set, run)."""
        known = {dataset: self._dataset_id(db, dataset) for dataset in {dataset for dataset, _ in given}}
        inputs = [(derived_input_id(run_id), known[dataset], run_id) for dataset, run_id in given]
        db.executemany(
            "INSERT OR IGNORE INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id)"
            " VALUES (?, 'DATASET', ?, 'RUN', ?)",
            inputs,
        )
        tags = [(derived_input_id(run_id), CONTEXT_TAG, dataset.context) for dataset, run_id in given]
        db.executemany("INSERT OR IGNORE INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)", tags)

    def _dataset_id(self, db: sqlite3.Connection, dataset: Dataset) -> str:
        """The id of the row of a data set, which is made where it is missing."""
        key = (self._experiment_id, dataset.name, dataset.digest)
        query = "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
        if row := db.execute(query, key).fetchone():
            return str(row[0])
        found = uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, key))).hex
        db.execute(
            "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source,"
            " dataset_schema, dataset_profile) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (found, *key, dataset.source_type, dataset.source, dataset.schema, dataset.profile),
        )
        return found

    def _unavailable_if_it_fails(self) -> AbstractContextManager[None]:
        return unavailable_if_it_fails(f"the MLflow store {self._path} cannot be written")


def _put_artifacts(write: RunWrite, run: _Run) -> list[str]:
    """Stores the files of a run; returns what was refused."""
    refused = []
    folder = local_folder(run.artifact_uri)
    for artifact in write.artifacts:
        try:
            if folder is None:
                raise RefusedError(f"{run.artifact_uri} is not a folder of this machine")
            artifacts.put(artifact, folder)
        except RefusedError as error:
            refused.append(f"{write.uid}: {artifact.name}: {error}")
    return refused


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One transaction that holds the write lock from its beginning."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
