"""Reads a sweep's runs back from a local store, by SQL; nothing is written."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from orchestrator.stores.runs import Metric, StoredRun, chunks
from orchestrator.stores.schema import connect, unavailable_if_it_fails

RUNS_A_QUERY = 500


class SqliteReader:
    """A local store that `schema.fits`; a missing file is a store without runs. See `RunReader`."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path = path
        self._experiment = experiment
        self._db: sqlite3.Connection | None = None
        self._version = 0
        self._uid: str | None = None
        self._digest = hashlib.sha256()
        self._read: list[Sequence[StoredRun]] = []
        if path.is_file() and path.stat().st_size:
            with self._unavailable_if_it_fails():
                self._db = connect(path)
                self._version = self._data_version()

    def runs(self, sweep_uid: str) -> list[StoredRun]:
        self._uid = sweep_uid
        found = list(self._select_runs(sweep_uid)) if self._db is not None else []
        self._digest.update(repr(found).encode())
        return found

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        found = self._select_rows(runs)
        self._digest.update(repr(found).encode())
        self._read.append(tuple(runs))
        return found

    def integrity(self) -> list[str] | None:
        if self._db is None:
            return []
        with self._unavailable_if_it_fails():
            return database_problems(self._db)

    def changed(self) -> bool | None:
        if self._db is None:
            return self.path.is_file()
        with self._unavailable_if_it_fails():
            if self._data_version() == self._version:
                return False
            # Another sweep may have written to the same file, so the rows themselves have to be compared.
            now = hashlib.sha256(repr(list(self._select_runs(self._uid or ""))).encode())
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

    def _select_runs(self, sweep_uid: str) -> Iterator[StoredRun]:
        runs = self._query(_SELECT_RUNS, {"experiment": self._experiment, "uid": sweep_uid})
        for part in chunks(runs, RUNS_A_QUERY):
            ids = [run[0] for run in part]
            tags = _grouped(self._of_runs("SELECT run_uuid, key, value FROM tags", ids))
            params = _grouped(self._of_runs("SELECT run_uuid, key, value FROM params", ids))
            latest = _rows(
                self._of_runs("SELECT run_uuid, key, step, timestamp, value, is_nan FROM latest_metrics", ids)
            )
            for run_id, name, status, start_ms, end_ms, stage, uri in part:
                yield StoredRun(
                    *(run_id, name, status, start_ms, end_ms, stage != "active", uri),
                    tags=dict(tags.get(run_id, ())),
                    params=dict(params.get(run_id, ())),
                    latest=tuple(sorted(latest.get(run_id, ()))),
                )

    def _select_rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        found: dict[str, list[Metric]] = {run.run_id: [] for run in runs}
        for part in chunks(list(found), RUNS_A_QUERY):
            query = "SELECT run_uuid, key, step, timestamp, value, is_nan FROM metrics"
            found |= _rows(self._of_runs(query, part))
        return {run_id: sorted(rows) for run_id, rows in found.items()}

    def _of_runs(self, query: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._query(f"{query} WHERE run_uuid IN ({','.join('?' * len(ids))})", ids)

    def _query(self, query: str, values: Any) -> list[tuple[Any, ...]]:
        if self._db is None:
            return []
        with self._unavailable_if_it_fails():
            return self._db.execute(query, values).fetchall()

    def _unavailable_if_it_fails(self) -> AbstractContextManager[None]:
        return unavailable_if_it_fails(f"the MLflow store {self.path} cannot be read")


_SELECT_RUNS = """
WITH here AS (
    SELECT r.* FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = :experiment
), sweep AS (
    SELECT run_uuid FROM here JOIN tags t USING (run_uuid) WHERE t.key = 'sweep_uid' AND t.value = :uid
)
SELECT run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri FROM here
WHERE run_uuid IN (SELECT run_uuid FROM sweep)
OR run_uuid IN (
    SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId' AND value IN (SELECT run_uuid FROM sweep)
)
OR run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'kind' AND value = 'trial')
AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key IN ('sweep_uid', 'trial_uid'))
ORDER BY run_uuid
"""


def database_problems(db: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with a database: pages and indices, then rows that refer to none."""
    found = [str(line) for (line,) in db.execute("PRAGMA integrity_check(20)") if line != "ok"]
    broken = db.execute("PRAGMA foreign_key_check").fetchmany(20)
    return found + [f"row {row} of {table} refers to no row of {parent}" for table, row, parent, _ in broken]


def _grouped(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for run_id, *rest in sorted(rows):
        found.setdefault(run_id, []).append(tuple(rest))
    return found


def _rows(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    for run_id, key, step, time_ms, value, is_nan in rows:
        found.setdefault(run_id, []).append(Metric(key, step, time_ms, math.nan if is_nan else value))
    return found
