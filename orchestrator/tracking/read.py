"""Reads a sweep's runs back from an MLflow store as plain records; nothing is written.

SQL for the local SQLite store, plain requests to a server, MLflow's own client for what is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

from orchestrator.tracking.library import LibraryCalls
from orchestrator.tracking.rest import TIMEOUT_S, RestCalls, reachable_directly
from orchestrator.tracking.sqlite import BUSY_TIMEOUT_S, is_ours
from orchestrator.tracking.store import UID_TAGS, RefusedError, UnavailableError, chunks

RUNS_A_QUERY = 500
RUNS_A_CALL = 100
ROWS_A_CALL = 25_000
"""What MLflow's server answers at most for the histories of several runs."""


class Row(NamedTuple):
    """One number of a run's history; `value` is NaN where the store says so."""

    key: str
    step: int
    time_ms: int
    value: float


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    Args:
        latest: the newest number of each metric, which MLflow keeps beside the history.
    """

    run_id: str
    name: str
    status: str
    start_ms: int | None
    end_ms: int | None
    deleted: bool
    artifact_uri: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    latest: tuple[Row, ...] = ()

    @property
    def uid(self) -> str | None:
        """`<sweep>/<index>` of a trial's run, `<sweep>` of a sweep's."""
        return self.tags.get(UID_TAGS["trial"] if self.tags.get("kind") != "sweep" else UID_TAGS["sweep"])


class RunReader(Protocol):
    """A store that is only read; every method raises `UnavailableError` where it does not answer."""

    def runs(self, sweep_uid: str) -> list[StoredRun]:
        """The sweep's own run and those of its trials, deleted ones too, and runs that claim to be a trial's of no sweep."""

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Row]]:
        """The whole history of each of these runs, by run id."""

    def integrity(self) -> list[str] | None:
        """What the database finds wrong with itself; None where it is not at hand."""

    def changed(self) -> bool | None:
        """Whether what was read so far would now be read differently; None where that cannot be told."""

    def close(self) -> None: ...


def open_reader(settings: Mapping[str, Any], experiment: str) -> RunReader:
    """The reader of the store that `tracking` settings name; `experiment` is the name of the MLflow experiment.

    Raises:
        UnavailableError: it does not answer, or is not MLflow's.
    """
    uri = str(settings["uri"])
    if uri.startswith("sqlite:///") and is_ours(Path(uri[10:])):
        return SqliteReader(Path(uri[10:]), experiment)
    if uri.startswith(("http://", "https://")) and reachable_directly(uri):
        return RestReader(uri, experiment)
    return LibraryReader(uri, experiment)


class SqliteReader:
    """The local store, by SQL; a missing file is a store without runs."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path = path
        self._experiment = experiment
        self._db: sqlite3.Connection | None = None
        self._version = 0
        self._uid: str | None = None
        self._digest = hashlib.sha256()
        self._read: list[Sequence[StoredRun]] = []
        if path.is_file():
            with self._unavailable_if_it_fails():
                self._db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
                self._version = self._data_version()

    def runs(self, sweep_uid: str) -> list[StoredRun]:
        self._uid = sweep_uid
        found = list(self._select_runs(sweep_uid)) if self._db is not None else []
        self._digest.update(repr(found).encode())
        return found

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Row]]:
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
                    run_id,
                    name,
                    status,
                    start_ms,
                    end_ms,
                    stage != "active",
                    uri,
                    dict(tags.get(run_id, ())),
                    dict(params.get(run_id, ())),
                    tuple(sorted(latest.get(run_id, ()))),
                )

    def _select_rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {run.run_id: [] for run in runs}
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

    @contextlib.contextmanager
    def _unavailable_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError(f"the MLflow store {self.path} cannot be read ({error})") from error


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


def _rows(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for run_id, key, step, time_ms, value, is_nan in rows:
        found.setdefault(run_id, []).append(Row(key, step, time_ms, math.nan if is_nan else value))
    return found


def _of_sweep(search: Callable[[str], Iterable[StoredRun]], sweep_uid: str) -> list[StoredRun]:
    """The runs with the sweep's tag, and those below its own run that lack the tag."""
    runs = {run.run_id: run for run in search(f"tags.sweep_uid = '{sweep_uid}'")}
    for parent in [run for run in runs.values() if run.tags.get("kind") == "sweep"]:
        runs |= {run.run_id: run for run in search(f"tags.`mlflow.parentRunId` = '{parent.run_id}'")}
    return list(runs.values())


class RestReader(RestCalls):
    """A server, without MLflow's client."""

    def __init__(self, uri: str, experiment: str) -> None:
        super().__init__(uri)
        self._experiment = experiment

    def runs(self, sweep_uid: str) -> list[StoredRun]:
        found = self.get_experiment(self._experiment)
        return [] if found is None else _of_sweep(partial(self._search, found[0]), sweep_uid)

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {run.run_id: [] for run in runs}
        for key in sorted({row.key for run in runs for row in run.latest}):
            having = {run.run_id: row.step for run in runs for row in run.latest if row.key == key}
            # Twice what is expected, so that a doubled history is not cut off.
            at_once = max(1, min(RUNS_A_CALL, ROWS_A_CALL // (2 * max(having.values()) + 2)))
            for part in chunks(list(having), at_once):
                for run_id, row in self._histories(part, key):
                    found[run_id].append(row)
        return {run_id: sorted(rows) for run_id, rows in found.items()}

    def integrity(self) -> list[str] | None:
        return None

    def changed(self) -> bool | None:
        return None

    def _search(self, experiment_id: str, condition: str) -> Iterator[StoredRun]:
        try:
            yield from map(_run_of_answer, self.found(experiment_id, condition))
        except RefusedError as error:
            raise UnavailableError(str(error)) from error

    def _histories(self, run_ids: Sequence[str], key: str) -> Iterator[tuple[str, Row]]:
        question = urlencode({"run_id": run_ids, "metric_key": key, "max_results": ROWS_A_CALL}, doseq=True)
        path = f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?{question}"
        metrics = json.loads(self._request("GET", path, None, TIMEOUT_S)).get("metrics", [])
        if len(metrics) < ROWS_A_CALL:
            yield from ((metric["run_id"], _row_of_answer(metric)) for metric in metrics)
            return
        for run_id in run_ids:
            yield from ((run_id, row) for row in self._history(run_id, key))

    def _history(self, run_id: str, key: str) -> Iterator[Row]:
        token = ""
        while True:
            question = {"run_id": run_id, "metric_key": key, "max_results": ROWS_A_CALL}
            answer = self._asked(
                "GET", f"metrics/get-history?{urlencode(question | ({'page_token': token} if token else {}))}"
            )
            yield from map(_row_of_answer, answer.get("metrics", []))
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return self._call(method, path, body)
        except RefusedError as error:
            raise UnavailableError(str(error)) from error


def _run_of_answer(answer: Mapping[str, Any]) -> StoredRun:
    info, data = answer["info"], answer.get("data", {})
    return StoredRun(
        run_id=info["run_id"],
        name=info.get("run_name", ""),
        status=info["status"],
        start_ms=_number(info.get("start_time")),
        end_ms=_number(info.get("end_time")),
        deleted=info.get("lifecycle_stage") == "deleted",
        artifact_uri=info["artifact_uri"],
        tags={tag["key"]: tag["value"] for tag in data.get("tags", [])},
        params={param["key"]: param["value"] for param in data.get("params", [])},
        latest=tuple(sorted(map(_row_of_answer, data.get("metrics", [])))),
    )


def _row_of_answer(metric: Mapping[str, Any]) -> Row:
    """Protobuf's JSON leaves zeros out and writes large integers as strings."""
    step, time_ms = int(metric.get("step", 0)), int(metric.get("timestamp", 0))
    return Row(metric["key"], step, time_ms, float(metric.get("value", 0.0)))


def _number(value: Any) -> int | None:
    return None if value in (None, "") else int(value)


class LibraryReader(LibraryCalls):
    """Any other store, through MLflow's own client."""

    def __init__(self, uri: str, experiment: str) -> None:
        super().__init__(uri)
        self._experiment = experiment

    def runs(self, sweep_uid: str) -> list[StoredRun]:
        found = self.get_experiment(self._experiment)
        return [] if found is None else _of_sweep(partial(self._search, found[0]), sweep_uid)

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        with self._translated():
            for run in runs:
                keys = [row.key for row in run.latest]
                history = [metric for key in keys for metric in self._client.get_metric_history(run.run_id, key)]
                found[run.run_id] = sorted(map(_row_of_entity, history))
        return found

    def integrity(self) -> list[str] | None:
        return None

    def changed(self) -> bool | None:
        return None

    def _search(self, experiment_id: str, condition: str) -> Iterator[StoredRun]:
        from mlflow.entities import ViewType

        token = None
        while True:
            with self._translated():
                page = self._client.search_runs(
                    [experiment_id], condition, run_view_type=ViewType.ALL, max_results=500, page_token=token
                )
                for run in page:
                    yield _run_of_entity(run)
            token = page.token
            if not token:
                return


def _run_of_entity(run: Any) -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        start_ms=run.info.start_time,
        end_ms=run.info.end_time,
        deleted=run.info.lifecycle_stage == "deleted",
        artifact_uri=run.info.artifact_uri,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        latest=tuple(sorted(map(_row_of_entity, run.data._metric_objs))),
    )


def _row_of_entity(metric: Any) -> Row:
    return Row(metric.key, metric.step, metric.timestamp, metric.value)
