"""Writes runs through calls that can fail half way: each run on its own, several at a time, found by uid before it is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from orchestrator.base.failpoints import failpoint
from orchestrator.tracking.store import (
    UID_TAGS,
    Artifact,
    Metric,
    RefusedError,
    RunWrite,
    UnavailableError,
    chunks,
    current_user,
    deleted_experiment,
)

MAX_METRICS_A_CALL = 900
MAX_PARAMS_A_CALL = 100
MAX_TAGS_A_CALL = 100
CONNECTIONS = 4


@dataclass(frozen=True)
class RemoteRun:
    """A run as the store knows it."""

    run_id: str
    artifact_uri: str
    deleted: bool = False
    tags: Mapping[str, str] | None = None
    num_metrics: int = 0


class Calls(Protocol):
    """One request each; every one raises `UnavailableError` or `RefusedError`, and may be made from several threads."""

    def get_experiment(self, name: str) -> tuple[str, bool] | None:
        """Its id and whether it is deleted; None where there is none of this name."""

    def create_experiment(self, name: str) -> None: ...

    def search(self, experiment_id: str, condition: str) -> list[RemoteRun]:
        """Every run of the experiment, deleted ones too, that meets an MLflow filter."""

    def create_run(
        self, experiment_id: str, name: str, user: str, start_ms: int, tags: Mapping[str, str]
    ) -> RemoteRun: ...

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None: ...

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None: ...

    def delete_run(self, run_id: str) -> None: ...

    def upload(self, run: RemoteRun, artifact: Artifact) -> None: ...

    def close(self) -> None: ...


class RemoteStore:
    """An MLflow store behind single calls; see `Store`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._experiment_id = ""
        self._user = current_user()
        self._runs: dict[str, RemoteRun] = {}
        self._in_doubt: set[str] = set()
        self._refused: list[str] = []
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def open(self, experiment: str) -> None:
        found = self._calls.get_experiment(experiment)
        if found is None:
            try:
                self._calls.create_experiment(experiment)
            except RefusedError:
                pass  # another sweep made it in between, or an earlier answer was lost
            found = self._calls.get_experiment(experiment)
        if found is None:
            raise UnavailableError(f"the MLflow experiment {experiment!r} cannot be created")
        experiment_id, deleted = found
        if deleted:
            raise UnavailableError(deleted_experiment(experiment, experiment_id))
        self._experiment_id = experiment_id

    def find(self, sweep_uid: str) -> set[str]:
        """As `Store.find`; of runs with one uid the fullest stays and the others, made by calls whose answer was lost, go."""
        by_uid: dict[str, list[RemoteRun]] = defaultdict(list)
        for run in self._calls.search(self._experiment_id, f"tags.sweep_uid = '{sweep_uid}'"):
            tags = run.tags or {}
            by_uid[tags.get("trial_uid", sweep_uid)].append(run)
        for uid, runs in by_uid.items():
            runs.sort(key=lambda run: (run.deleted, -run.num_metrics, run.run_id))
            self._runs[uid] = runs[0]
            for double in runs[1:]:
                if not double.deleted:
                    self._calls.delete_run(double.run_id)
        return set(by_uid)

    def write(self, writes: Sequence[RunWrite]) -> list[str]:
        failures: list[UnavailableError] = []

        def write_one(write: RunWrite) -> None:
            if write.written or failures:
                return
            try:
                self._refused.extend(self._write_run(write))
                write.written = True
            except UnavailableError as error:
                failures.append(error)

        for write in writes:
            if write.kind == "sweep":
                write_one(write)
        list(self._pool.map(write_one, [write for write in writes if write.kind != "sweep"]))
        if failures:
            raise failures[0]
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        self._pool.shutdown()
        self._calls.close()

    def _write_run(self, write: RunWrite) -> list[str]:
        """Writes what was not refused, and returns what was."""
        try:
            run = self._runs.get(write.uid)
            if run is None and write.create:
                run = self._find_or_create(write)
            if run is None or run.deleted:
                raise RefusedError("its run was deleted in MLflow")
        except RefusedError as error:
            return [f"{write.uid}: {error}"]
        refused = self._log(run, write)
        for artifact in write.artifacts:
            try:
                self._calls.upload(run, artifact)
            except RefusedError as error:
                refused.append(f"{write.uid}: {artifact.name}: {error}")
        if write.status is not None:
            try:
                failpoint("server.status.before")
                self._calls.update_run(run.run_id, write.status, write.end_ms)
                failpoint("server.status.after")
            except RefusedError as error:
                refused.append(f"{write.uid}: {error}")
        return refused

    def _find_or_create(self, write: RunWrite) -> RemoteRun:
        if write.uid in self._in_doubt:
            condition = f"tags.{UID_TAGS[write.kind]} = '{write.uid}' and tags.kind = '{write.kind}'"
            found = self._calls.search(self._experiment_id, condition)
            if found:
                self._runs[write.uid] = found[0]
                return found[0]
        tags = {"mlflow.user": self._user, **write.tags}
        if write.kind == "trial":
            parent = self._runs.get(write.uid.rpartition("/")[0])
            if parent is None:
                raise RefusedError("its sweep has no run in MLflow")
            tags["mlflow.parentRunId"] = parent.run_id
        self._in_doubt.add(write.uid)
        failpoint("server.create.before")
        run = self._calls.create_run(self._experiment_id, write.name, self._user, write.start_ms, tags)
        failpoint("server.create.after")
        self._in_doubt.discard(write.uid)
        self._runs[write.uid] = run
        return run

    def _log(self, run: RemoteRun, write: RunWrite) -> list[str]:
        """Params and tags with the first metrics in one call; apart where MLflow refuses them together."""
        metrics = [list(part) for part in chunks(write.metrics, MAX_METRICS_A_CALL)] or [[]]
        params = [dict(part) for part in chunks(list(write.params.items()), MAX_PARAMS_A_CALL)]
        tag_parts = [dict(part) for part in chunks(list(write.tags.items()), MAX_TAGS_A_CALL)]
        requests: list[tuple[list[Metric], dict[str, str], dict[str, str]]] = []
        for index in range(max(len(metrics), len(params), len(tag_parts))):
            requests.append(
                (
                    metrics[index] if index < len(metrics) else [],
                    params[index] if index < len(params) else {},
                    tag_parts[index] if index < len(tag_parts) else {},
                )
            )
        refused = []
        for request in requests:
            if not any(request):
                continue
            try:
                failpoint("server.batch.before")
                self._calls.log_batch(run.run_id, *request)
                failpoint("server.batch.after")
            except RefusedError:
                metric_part, param_part, tag_part = request
                refused += self._log_apart(run, write.uid, metric_part, param_part, tag_part)
        return refused

    def _log_apart(
        self, run: RemoteRun, uid: str, metrics: list[Metric], params: dict[str, str], tags: dict[str, str]
    ) -> list[str]:
        refused = []
        parts: list[tuple[list[Metric], dict[str, str], dict[str, str]]] = [
            (metrics, {}, {}),
            ([], params, {}),
            ([], {}, tags),
        ]
        for part in parts:
            if any(part):
                try:
                    self._calls.log_batch(run.run_id, *part)
                except RefusedError as error:
                    refused.append(f"{uid}: {error}")
        return refused
