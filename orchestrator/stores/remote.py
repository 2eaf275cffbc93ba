"""Runs behind an API whose requests can fail half way: each run on its own, several at a time, found by uid before it is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from orchestrator.base.failpoints import failpoint
from orchestrator.stores.runs import (
    UID_TAGS,
    Artifact,
    Metric,
    RefusedError,
    RunWrite,
    StoredRun,
    UnavailableError,
    chunks,
    current_user,
    deleted_experiment,
)

MAX_METRICS_A_CALL = 900
MAX_PARAMS_A_CALL = 100
MAX_TAGS_A_CALL = 100
RUNS_A_PAGE = 500
CONNECTIONS = 4

Batch = tuple[Sequence[Metric], Mapping[str, str], Mapping[str, str]]
"""Metrics, params and tags of one `log_batch`."""


class Api(Protocol):
    """MLflow's requests, one attempt each, from several threads; they raise `UnavailableError` or `RefusedError`."""

    def get_experiment(self, name: str) -> tuple[str, bool] | None:
        """Its id and whether it is deleted; None where there is none of this name."""

    def create_experiment(self, name: str) -> None: ...

    def search(self, experiment_id: str, condition: str) -> Iterator[StoredRun]:
        """Every run of the experiment, deleted ones too, that meets an MLflow filter."""

    def histories(self, runs: Sequence[StoredRun]) -> Iterator[tuple[str, Metric]]:
        """(run id, number) of the whole history of these runs, in any order."""

    def create_run(
        self, experiment_id: str, name: str, user: str, start_ms: int, tags: Mapping[str, str]
    ) -> StoredRun: ...

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None: ...

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None: ...

    def delete_run(self, run_id: str) -> None: ...

    def upload(self, run: StoredRun, artifact: Artifact) -> None: ...

    def close(self) -> None: ...


class RemoteReader:
    """The runs of one experiment; see `RunReader`."""

    def __init__(self, api: Api, experiment: str) -> None:
        self._api = api
        self._experiment = experiment

    def runs(self, sweep_uid: str) -> list[StoredRun]:
        """The runs with the sweep's tag, and those below its own run that lack the tag."""
        try:
            found = self._api.get_experiment(self._experiment)
            if found is None:
                return []
            runs = {run.run_id: run for run in self._api.search(found[0], f"tags.sweep_uid = '{sweep_uid}'")}
            for parent in [run for run in runs.values() if run.tags.get("kind") == "sweep"]:
                below = self._api.search(found[0], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
                runs |= {run.run_id: run for run in below}
        except RefusedError as error:
            raise UnavailableError(str(error)) from error
        return list(runs.values())

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        found: dict[str, list[Metric]] = {run.run_id: [] for run in runs}
        try:
            for run_id, metric in self._api.histories(runs):
                found[run_id].append(metric)
        except RefusedError as error:
            raise UnavailableError(str(error)) from error
        return {run_id: sorted(rows) for run_id, rows in found.items()}

    def integrity(self) -> list[str] | None:
        return None

    def changed(self) -> bool | None:
        return None

    def close(self) -> None:
        self._api.close()


class RemoteStore:
    """A store that is written to; see `Store`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._experiment_id = ""
        self._user = current_user()
        self._runs: dict[str, StoredRun] = {}
        self._in_doubt: set[str] = set()
        self._refused: list[str] = []
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def open(self, experiment: str) -> None:
        found = self._api.get_experiment(experiment)
        if found is None:
            try:
                self._api.create_experiment(experiment)
            except RefusedError:
                pass  # another sweep made it in between, or an earlier answer was lost
            found = self._api.get_experiment(experiment)
        if found is None:
            raise UnavailableError(f"the MLflow experiment {experiment!r} cannot be created")
        experiment_id, deleted = found
        if deleted:
            raise UnavailableError(deleted_experiment(experiment, experiment_id))
        self._experiment_id = experiment_id

    def find(self, sweep_uid: str) -> set[str]:
        """As `Store.find`. Of several runs with one uid, left by requests whose answer was lost, the fullest stays."""
        by_uid: dict[str, list[StoredRun]] = defaultdict(list)
        for run in self._api.search(self._experiment_id, f"tags.sweep_uid = '{sweep_uid}'"):
            by_uid[run.tags.get("trial_uid", sweep_uid)].append(run)
        for uid, runs in by_uid.items():
            runs.sort(key=lambda run: (run.deleted, -len(run.latest), run.run_id))
            self._runs[uid] = runs[0]
            for double in runs[1:]:
                if not double.deleted:
                    self._api.delete_run(double.run_id)
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
        self._api.close()

    def _write_run(self, write: RunWrite) -> list[str]:
        """Writes what is accepted, and returns what was refused."""
        try:
            run = self._runs.get(write.uid)
            if run is None and write.create:
                run = self._find_or_create(write)
            if run is None or run.deleted:
                raise RefusedError("its run was deleted in MLflow")
        except RefusedError as error:
            return [f"{write.uid}: {error}"]
        refused = []
        for batch in _batches(write):
            refused += self._log(run.run_id, batch)
        for artifact in write.artifacts:
            try:
                self._api.upload(run, artifact)
            except RefusedError as error:
                refused.append(f"{artifact.name}: {error}")
        if write.status is not None:
            try:
                failpoint("server.status.before")
                self._api.update_run(run.run_id, write.status, write.end_ms)
                failpoint("server.status.after")
            except RefusedError as error:
                refused.append(str(error))
        return [f"{write.uid}: {text}" for text in refused]

    def _find_or_create(self, write: RunWrite) -> StoredRun:
        if write.uid in self._in_doubt:
            condition = f"tags.{UID_TAGS[write.kind]} = '{write.uid}' and tags.kind = '{write.kind}'"
            for found in self._api.search(self._experiment_id, condition):
                self._runs[write.uid] = found
                return found
        tags = {"mlflow.user": self._user, **write.tags}
        if write.kind == "trial":
            parent = self._runs.get(write.uid.rpartition("/")[0])
            if parent is None:
                raise RefusedError("its sweep has no run in MLflow")
            tags["mlflow.parentRunId"] = parent.run_id
        self._in_doubt.add(write.uid)
        failpoint("server.create.before")
        run = self._api.create_run(self._experiment_id, write.name, self._user, write.start_ms, tags)
        failpoint("server.create.after")
        self._in_doubt.discard(write.uid)
        self._runs[write.uid] = run
        return run

    def _log(self, run_id: str, batch: Batch) -> list[str]:
        """Logs a batch, in parts where MLflow refuses it as a whole; returns what was refused."""
        try:
            failpoint("server.batch.before")
            self._api.log_batch(run_id, *batch)
            failpoint("server.batch.after")
        except RefusedError:
            metrics, params, tags = batch
            refused = []
            parts: list[Batch] = [(metrics, {}, {}), ([], params, {}), ([], {}, tags)]
            for part in parts:
                try:
                    if any(part):
                        self._api.log_batch(run_id, *part)
                except RefusedError as error:
                    refused.append(str(error))
            return refused
        return []


def _batches(write: RunWrite) -> Iterator[Batch]:
    """As few batches as MLflow's limits allow; params and tags go with the first metrics."""
    metrics = list(chunks(write.metrics, MAX_METRICS_A_CALL))
    params = list(chunks(list(write.params.items()), MAX_PARAMS_A_CALL))
    tags = list(chunks(list(write.tags.items()), MAX_TAGS_A_CALL))

    def part(parts: list[Any], index: int) -> Any:
        return parts[index] if index < len(parts) else ()

    for index in range(max(len(metrics), len(params), len(tags))):
        yield part(metrics, index), dict(part(params, index)), dict(part(tags, index))
