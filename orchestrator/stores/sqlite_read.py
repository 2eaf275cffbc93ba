"""Reads a sweep's runs back from a local store, by SQL; nothing is written."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from orchestrator.stores.runs import CONTEXT_TAG, Dataset, Metric, StoredExperiment, StoredRun, chunks
from orchestrator.stores.schema import connect, triggers_in_reach, unavailable_if_it_fails
from orchestrator.stores.sqlite import derived_run_id

RUNS_A_QUERY = 500

_TEXT = (str, type(None))
_NUMBER = (int, type(None))
_RUN_COLUMNS = {
    "run_uuid": (str,),
    "name": _TEXT,
    "status": _TEXT,
    "start_time": _NUMBER,
    "end_time": _NUMBER,
    "lifecycle_stage": _TEXT,
    "artifact_uri": _TEXT,
    "user_id": _TEXT,
    "experiment_id": (int,),
    "source_type": _TEXT,
    "source_name": _TEXT,
    "entry_point_name": _TEXT,
    "source_version": _TEXT,
    "deleted_time": _NUMBER,
}
"""The columns of a run and what may stand in them: SQLite takes anything anywhere."""


class SqliteReader:
    """A local store that `schema.fits`; a missing file is a store without runs. See `RunReader`."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path = path
        self.problems: list[str] = []
        self._experiment = experiment
        self._db: sqlite3.Connection | None = None
        self._version = 0
        self._asked: tuple[str, bool] = ("", True)
        self._digest = hashlib.sha256()
        self._read: list[Sequence[StoredRun]] = []
        if path.is_file() and path.stat().st_size:
            with self._unavailable_if_it_fails():
                self._db = connect(path)
                self._version = self._data_version()

    def runs(self, sweep_uid: str, *, whole_store: bool = True) -> list[StoredRun]:
        self._asked = sweep_uid, whole_store
        found = list(self._select_runs(sweep_uid, whole_store)) if self._db is not None else []
        self._digest.update(repr(found).encode())
        return found

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        found = self._select_rows(runs)
        self._digest.update(repr(found).encode())
        self._read.append(tuple(runs))
        return found

    def experiment(self) -> StoredExperiment | None:
        query = (
            "SELECT experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time"
            " FROM experiments WHERE name = ?"
        )
        for row in self._query(query, (self._experiment,)):
            if not self._is_sound("experiments", row, ((int,), (str,), (str,), (str,), _NUMBER, _NUMBER)):
                continue
            tags = dict(self._query("SELECT key, value FROM experiment_tags WHERE experiment_id = ?", (row[0],)))
            number, name, place, stage, created_ms, updated_ms = row
            return StoredExperiment(str(number), name, place, stage, created_ms, updated_ms, tags)
        return None

    def integrity(self) -> list[str] | None:
        if self._db is None:
            return []
        with self._unavailable_if_it_fails():
            return database_problems(self._db)

    def foreign_parts(self) -> list[str]:
        if self._db is None:
            return []
        with self._unavailable_if_it_fails():
            return foreign_parts(self._db)

    def changed(self) -> bool | None:
        if self._db is None:
            return self.path.is_file()
        with self._unavailable_if_it_fails():
            if self._data_version() == self._version:
                return False
            # Another sweep may have written to the same file, so the rows themselves have to be compared.
            now = hashlib.sha256(repr(list(self._select_runs(*self._asked))).encode())
            for runs in self._read:
                now.update(repr(self._select_rows(runs)).encode())
        return now.digest() != self._digest.digest()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _data_version(self) -> int:
        assert self._db is not None
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _select_runs(self, sweep_uid: str, whole_store: bool) -> Iterator[StoredRun]:
        runs = list(self._select_run_rows(sweep_uid, whole_store))
        for part in chunks(runs, RUNS_A_QUERY):
            ids = [run["run_uuid"] for run in part]
            tags = self._pairs("tags", ids)
            params = self._pairs("params", ids)
            latest = self._metrics("latest_metrics", ids)
            datasets = self._datasets(ids)
            for run in part:
                run_id, stage = run.pop("run_uuid"), run.pop("lifecycle_stage")
                yield StoredRun(
                    run_id=run_id,
                    name=run.pop("name") or "",
                    status=run.pop("status") or "",
                    start_ms=run.pop("start_time"),
                    end_ms=run.pop("end_time"),
                    deleted=stage != "active",
                    artifact_uri=run.pop("artifact_uri") or "",
                    user=run.pop("user_id") or "",
                    experiment_id=str(run.pop("experiment_id")),
                    tags=tags.get(run_id, {}),
                    params=params.get(run_id, {}),
                    latest=tuple(sorted(latest.get(run_id, ()))),
                    datasets=tuple(sorted(datasets.get(run_id, ()), key=repr)),
                    columns=run,
                )

    def _select_run_rows(self, sweep_uid: str, whole_store: bool) -> Iterator[dict[str, Any]]:
        names = ", ".join(_RUN_COLUMNS)
        if whole_store or (parent := self._parent(sweep_uid)) is None:
            values: dict[str, Any] = {"experiment": self._experiment, "uid": sweep_uid}
            rows = self._query(f"SELECT {names} FROM runs WHERE {_OF_SWEEP_OR_NONE} ORDER BY run_uuid", values)
        else:
            values = {"parent": parent, "uid": sweep_uid}
            rows = self._query(f"SELECT {names} FROM runs WHERE {_OF_SWEEP} ORDER BY run_uuid", values)
        for row in rows:
            if self._is_sound("runs", row, _RUN_COLUMNS.values()):
                yield dict(zip(_RUN_COLUMNS, row, strict=True))

    def _parent(self, sweep_uid: str) -> str | None:
        """The id of the sweep's own run where it is the one that our tracker gives it; found without a search."""
        for (experiment_id,) in self._query(
            "SELECT experiment_id FROM experiments WHERE name = ?", (self._experiment,)
        ):
            run_id = derived_run_id(experiment_id, sweep_uid)
            if self._query("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)):
                return run_id
        return None

    def _select_rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        found: dict[str, list[Metric]] = {run.run_id: [] for run in runs}
        for part in chunks(list(found), RUNS_A_QUERY):
            found |= self._metrics("metrics", part)
        return {run_id: sorted(rows) for run_id, rows in found.items()}

    def _pairs(self, table: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """run -> key -> value."""
        found: dict[str, dict[str, str]] = {}
        for row in self._of_runs(f"SELECT run_uuid, key, value FROM {table}", ids):
            run_id, key, value = row
            if type(key) is str and type(value) is str:
                found.setdefault(run_id, {})[key] = value
            else:
                self._is_sound(table, row, ((str,), (str,), (str,)))
        return {run_id: dict(sorted(pairs.items())) for run_id, pairs in found.items()}

    def _datasets(self, ids: Sequence[str]) -> dict[str, list[Dataset]]:
        """run -> the data sets that it was given."""
        found: dict[str, list[Dataset]] = {}
        query = (
            "SELECT i.destination_id, d.name, d.digest, d.dataset_source_type, d.dataset_source, coalesce(d.dataset_schema, ''),"
            " coalesce(d.dataset_profile, ''), coalesce(t.value, '')"
            " FROM inputs i LEFT JOIN datasets d ON d.dataset_uuid = i.source_id"
            " AND d.experiment_id = (SELECT experiment_id FROM runs WHERE run_uuid = i.destination_id)"
            f" LEFT JOIN input_tags t ON t.input_uuid = i.input_uuid AND t.name = '{CONTEXT_TAG}'"
            f" WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id IN ({_marks(ids)})"
        )
        for run_id, *row in self._query(query, ids):
            if self._is_sound("datasets", row, ((str,),) * len(row)):
                found.setdefault(run_id, []).append(Dataset(*row))
        return found

    def _metrics(self, table: str, ids: Sequence[str]) -> dict[str, list[Metric]]:
        """run -> its numbers."""
        found: dict[str, list[Metric]] = {}
        for row in self._of_runs(f"SELECT run_uuid, key, step, timestamp, value, is_nan FROM {table}", ids):
            run_id, key, step, time_ms, value, is_nan = row
            if type(step) is int and type(time_ms) is int and type(value) is float and type(key) is str:
                found.setdefault(run_id, []).append(Metric(key, step, time_ms, math.nan if is_nan else value))
            else:
                self._is_sound(table, row, ((str,), (str,), (int,), (int,), (float,), (int,)))
        return found

    def _is_sound(self, table: str, row: Sequence[Any], kinds: Iterable[tuple[type, ...]]) -> bool:
        """Whether a row holds what may stand in its columns; if not, it is among the problems."""
        wrong = [value for value, kind in zip(row, kinds, strict=True) if not isinstance(value, kind)]
        if wrong:
            self.problems.append(f"a row of {table} holds {wrong[0]!r:.80} ({', '.join(map(repr, row))[:160]})")
        return not wrong

    def _of_runs(self, query: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._query(f"{query} WHERE run_uuid IN ({_marks(ids)})", ids)

    def _query(self, query: str, values: Any) -> list[tuple[Any, ...]]:
        if self._db is None:
            return []
        with self._unavailable_if_it_fails():
            return self._db.execute(query, values).fetchall()

    def _unavailable_if_it_fails(self) -> AbstractContextManager[None]:
        return unavailable_if_it_fails(f"the MLflow store {self.path} cannot be read")


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


_OF_SWEEP_OR_NONE = """
run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'sweep_uid' AND value = :uid)
OR run_uuid IN (
    SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId' AND value IN (
        SELECT run_uuid FROM tags JOIN runs USING (run_uuid) JOIN experiments e USING (experiment_id)
        WHERE key = 'sweep_uid' AND value = :uid AND e.name = :experiment
    )
)
OR run_uuid IN (
    SELECT run_uuid FROM runs JOIN experiments e USING (experiment_id) JOIN tags USING (run_uuid)
    WHERE e.name = :experiment AND key = 'kind' AND value = 'trial'
    AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key IN ('sweep_uid', 'trial_uid'))
)
"""
"""Runs of the sweep in any experiment, and trials of no sweep in its own; searched for in the whole store."""

_OF_SWEEP = """
run_uuid IN (
    SELECT run_uuid FROM runs r JOIN tags USING (run_uuid)
    WHERE r.rowid >= (SELECT rowid FROM runs WHERE run_uuid = :parent)
    AND (key = 'sweep_uid' AND value = :uid OR key = 'mlflow.parentRunId' AND value = :parent)
)
"""
"""The runs of the sweep, which are all younger than its own: nothing older is read."""


def foreign_parts(db: sqlite3.Connection) -> list[str]:
    """What acts by itself in an MLflow store, or stands in for a table; MLflow makes no views, and triggers elsewhere alone."""
    views = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")]
    named = [("trigger", name) for name in triggers_in_reach(db)] + [("view", name) for name in views]
    return [f"the {kind} {name!r:.80} is none of MLflow's" for kind, name in named]


def database_problems(db: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with a database: pages and indices, then rows that refer to none."""
    found = [str(line) for (line,) in db.execute("PRAGMA integrity_check(20)") if line != "ok"]
    broken = db.execute("PRAGMA foreign_key_check").fetchmany(20)
    return found + [f"row {row} of {table} refers to no row of {parent}" for table, row, parent, _ in broken]
