"""Any store but a local SQLite file with tables that we know, through MLflow's own client: servers, PostgreSQL, other schemas.

Requests can fail half way, so each run is written on its own, several at a time, and found by its uid before it is made. MLflow
is imported with the first request, not before: that takes seconds and 220 MB.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from orchestrator.base.failpoints import failpoint
from orchestrator.base.secrets import bare_address, redact
from orchestrator.stores.runs import (
    CONTEXT_TAG,
    EXPERIMENT_TAGS,
    REFUSALS,
    Artifact,
    Dataset,
    Metric,
    RefusedError,
    RunWrite,
    StoredExperiment,
    StoredRun,
    UnavailableError,
    chunks,
    current_user,
    deleted_experiment,
)

TIMEOUT_S = 30
"""How long a request waits for the server, unless `MLFLOW_HTTP_REQUEST_TIMEOUT` says otherwise."""

MAX_METRICS_A_CALL = 900
MAX_PARAMS_A_CALL = 100
MAX_TAGS_A_CALL = 100
RUNS_A_PAGE = 500
CONNECTIONS = 4

BULK_HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
RUNS_A_HISTORY_CALL = 100
ROWS_A_CALL = 25_000
"""What MLflow's server answers at most for the histories of several runs."""

Batch = tuple[Sequence[Metric], Mapping[str, str], Mapping[str, str]]
"""Metrics, params and tags of one `log_batch`."""


class ClientStore:
    """Written to and read by `MlflowClient`; see `Store` and `RunReader`.

    Args:
        uri: any tracking address that MLflow knows.
        artifact_root: where a new experiment keeps its artifacts; None leaves it to the server.
        experiment_tags: that a new experiment is to have.
        uid_tags: which tags name the runs: of a sweep or a comparison, and of a trial or an ensemble below.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        artifact_root: Path | None = None,
        experiment_tags: Mapping[str, str] | None = None,
        uid_tags: tuple[str, str] = ("sweep_uid", "trial_uid"),
    ) -> None:
        self._uid_tags = uid_tags
        self._experiment_tags = experiment_tags or {}
        self.uri = bare_address(uri)
        self._name = experiment
        self._artifact_root = artifact_root
        self._experiment_id: str | None = None
        self._user = current_user()
        self._sweep_uid = ""
        self._runs: dict[str, StoredRun] = {}
        self._answer_lost = False
        self._pool = ThreadPoolExecutor(CONNECTIONS)
        self.problems: list[str] = []

    @cached_property
    def _client(self) -> Any:
        # MLflow's own retries would hide an outage for minutes; the tracker repeats what failed.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT_S))
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # It would print the address of each run that ends, password included.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow

        return mlflow.MlflowClient(self.uri)

    def open(self) -> None:
        if self.experiment_id() is None:
            location = None if self._artifact_root is None else str(self._artifact_root / self._name)
            # Refused where another sweep made it in between, or an earlier answer was lost.
            with contextlib.suppress(RefusedError), self._calls(refusals=True) as client:
                client.create_experiment(
                    self._name, artifact_location=location, tags={**EXPERIMENT_TAGS, **self._experiment_tags}
                )
        self._experiment_id = self.experiment_id()
        if self._experiment_id is None:
            raise UnavailableError(f"the MLflow experiment {self._name!r} cannot be created")

    def experiment_id(self) -> str | None:
        """The id of the experiment; None where there is none yet.

        Raises:
            UnavailableError: the store does not answer, or the experiment is deleted.
        """
        found = self._experiment()
        if found is not None and found.lifecycle_stage == "deleted":
            raise UnavailableError(deleted_experiment(self._name, found.experiment_id))
        return found and str(found.experiment_id)

    def find(self, sweep_uid: str) -> set[str]:
        """As `Store.find`. Of several runs with one uid, left by requests whose answer was lost, the fullest stays."""
        by_uid: dict[str, list[StoredRun]] = defaultdict(list)
        above, below = self._uid_tags
        for run in self._search([self._experiment_id], f"tags.{above} = '{sweep_uid}'"):
            by_uid[run.tags.get(below, sweep_uid)].append(run)
        for uid, runs in by_uid.items():
            runs.sort(key=lambda run: (run.deleted, -len(run.latest), run.run_id))
            self._runs[uid] = runs[0]
            self.delete([double.run_id for double in runs[1:] if not double.deleted])
        self._sweep_uid, self._answer_lost = sweep_uid, False
        return set(by_uid)

    def run(self, uid: str) -> StoredRun | None:
        """A run that was found or written; None where there is none."""
        return self._runs.get(uid)

    def tag(self, uid: str, key: str) -> str | None:
        run = self._runs.get(uid)
        return run.tags.get(key) if run else None

    def tag_experiment(self, key: str, value: str) -> None:
        with self._calls() as client:
            client.set_experiment_tag(self._experiment_id, key, value)

    def untag_experiment(self, key: str) -> None:
        """Removes a tag of the experiment, where there are both."""
        found = self._experiment()
        if found is not None and key in found.tags:
            with self._calls(refusals=True) as client:
                client.delete_experiment_tag(found.experiment_id, key)

    def write(self, writes: Sequence[RunWrite]) -> list[str]:
        if self._answer_lost:
            self.find(self._sweep_uid)  # the server may have made runs that we do not know of
        failures: list[UnavailableError] = []

        def write_one(write: RunWrite) -> None:
            if write.refused is not None or failures:
                return
            try:
                write.refused = self._write_run(write)
            except UnavailableError as error:
                failures.append(error)

        for write in writes:
            if "/" not in write.uid:
                write_one(write)
        list(self._pool.map(write_one, [write for write in writes if "/" in write.uid]))
        if failures:
            self._answer_lost = True
            raise failures[0]
        return [f"{write.uid}: {text}" for write in writes for text in write.refused or ()]

    def runs(self, sweep_uid: str, *, whole_store: bool = True) -> list[StoredRun]:
        """As `RunReader.runs`; a server is never asked for runs that name no sweep."""
        found = self._experiment()
        if found is None:
            return []
        runs = {run.run_id: run for run in self._search([found.experiment_id], f"tags.sweep_uid = '{sweep_uid}'")}
        for parent in [run for run in runs.values() if run.tags.get("kind") == "sweep"]:
            below = self._search([found.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
            runs |= {run.run_id: run for run in below}
        return list(runs.values())

    def experiment(self) -> StoredExperiment | None:
        found = self._experiment()
        if found is None:
            return None
        return StoredExperiment(
            str(found.experiment_id),
            found.name,
            found.artifact_location,
            found.lifecycle_stage,
            found.creation_time,
            found.last_update_time,
            found.tags,
        )

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        found: dict[str, list[Metric]] = {run.run_id: [] for run in runs}
        if self.uri.startswith(("http://", "https://")):
            histories = self._histories_at_once(runs)
        else:
            histories = self._histories((run.run_id, latest.key) for run in runs for latest in run.latest)
        for run_id, metric in histories:
            found[run_id].append(metric)
        return {run_id: sorted(rows) for run_id, rows in found.items()}

    def integrity(self) -> list[str] | None:
        return None

    def foreign_parts(self) -> list[str]:
        return []

    def changed(self) -> bool | None:
        return None

    def delete(self, run_ids: Sequence[str]) -> None:
        """Marks runs as deleted, which MLflow shows no more but keeps.

        Raises:
            UnavailableError, RefusedError: not all of them are.
        """

        def delete_one(run_id: str) -> None:
            with self._calls(refusals=True) as client:
                client.delete_run(run_id)

        list(self._pool.map(delete_one, run_ids))

    def close(self) -> None:
        self._pool.shutdown()

    def _experiment(self) -> Any:
        with self._calls() as client:
            return client.get_experiment_by_name(self._name)

    def _search(self, experiment_ids: Sequence[str | None], condition: str) -> Iterator[StoredRun]:
        """Every run of the experiments, deleted ones too, that meets an MLflow filter."""
        token = None
        while True:
            with self._calls() as client:
                from mlflow.entities import ViewType

                page = client.search_runs(
                    [*experiment_ids], condition, run_view_type=ViewType.ALL, max_results=RUNS_A_PAGE, page_token=token
                )
            yield from map(_run, page)
            token = page.token
            if not token:
                return

    def _histories(self, which: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Metric]]:
        """(run id, number) of whole histories, each of one metric of one run."""

        def history(one: tuple[str, str]) -> list[tuple[str, Metric]]:
            with self._calls() as client:
                return [(one[0], _metric(entity)) for entity in client.get_metric_history(*one)]

        for found in self._pool.map(history, which):
            yield from found

    def _histories_at_once(self, runs: Sequence[StoredRun]) -> Iterator[tuple[str, Metric]]:
        """The same of a server, which answers for a hundred runs at once what MLflow's client asks run by run."""
        for key in sorted({metric.key for run in runs for metric in run.latest}):
            steps = {run.run_id: metric.step for run in runs for metric in run.latest if metric.key == key}
            # Twice what is expected, so that a doubled history is not cut off.
            at_once = max(1, min(RUNS_A_HISTORY_CALL, ROWS_A_CALL // (2 * max(steps.values()) + 2)))
            for part in chunks(list(steps), at_once):
                question = {"run_id": part, "metric_key": key, "max_results": ROWS_A_CALL}
                with self._calls():
                    from mlflow.utils import credentials, rest_utils

                    server: Any = credentials.get_default_host_creds(self.uri)  # type: ignore[no-untyped-call]
                    answer: Any = rest_utils.http_request_safe(server, BULK_HISTORIES, "GET", params=question)  # type: ignore[no-untyped-call]
                    rows = answer.json()["metrics"]
                if len(rows) < ROWS_A_CALL:
                    yield from ((m["run_id"], Metric(key, m["step"], m["timestamp"], m["value"])) for m in rows)
                else:
                    yield from self._histories((run_id, key) for run_id in part)

    def _write_run(self, write: RunWrite) -> list[str]:
        """Writes what is accepted, and returns what was refused."""
        try:
            run = self._runs.get(write.uid) or (self._create(write) if write.create else None)
            if run is None or run.deleted:
                raise RefusedError("its run was deleted in MLflow")
        except RefusedError as error:
            return [str(error)]
        steps: list[Callable[[], None]] = []
        if write.name and run.name != write.name:
            steps.append(partial(self._rename, write.uid, write.name))
        if write.dataset and write.dataset not in run.datasets:
            steps.append(partial(self._log_dataset, write.uid, write.dataset))
        for metrics, params, tags in _batches(write):
            try:
                self._log(run.run_id, metrics, params, tags)
            except RefusedError:  # for one value: the others are taken without it
                parts: list[Batch] = [(metrics, {}, {}), ((), params, {}), ((), {}, tags)]
                steps += [partial(self._log, run.run_id, *part) for part in parts]
        steps += [partial(self._upload, run.run_id, artifact) for artifact in write.artifacts]
        if write.status is not None:
            steps.append(partial(self._set_status, run.run_id, write.status, write.end_ms))
        refused: list[str] = []
        for step in steps:
            try:
                step()
            except RefusedError as error:
                refused.append(str(error))
        return refused

    def _create(self, write: RunWrite) -> StoredRun:
        tags = {"mlflow.user": self._user, **write.tags}
        if "/" in write.uid:
            parent = self._runs.get(write.uid.partition("/")[0])
            if parent is None:
                raise RefusedError("its sweep has no run in MLflow")
            tags["mlflow.parentRunId"] = parent.run_id
        failpoint("server.create.before")
        with self._calls(refusals=True) as client:
            run = client.create_run(self._experiment_id, write.start_ms, tags, write.name)
        failpoint("server.create.after")
        self._runs[write.uid] = _run(run)
        return self._runs[write.uid]

    def _log(self, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow import entities

        failpoint("server.batch.before")
        with self._calls(refusals=True) as client:
            client.log_batch(
                run_id,
                [entities.Metric(m.key, m.value, m.time_ms, m.step) for m in metrics],
                [entities.Param(key, value) for key, value in params.items()],
                [entities.RunTag(key, value) for key, value in tags.items()],
            )
        failpoint("server.batch.after")

    def _rename(self, uid: str, name: str) -> None:
        run = self._runs[uid]
        with self._calls(refusals=True) as client:
            client.update_run(run.run_id, name=name)
        self._runs[uid] = replace(run, name=name)

    def _log_dataset(self, uid: str, dataset: Dataset) -> None:
        from mlflow import entities

        run = self._runs[uid]
        fields = (dataset.name, dataset.digest, dataset.source_type, dataset.source, dataset.schema, dataset.profile)
        given = entities.DatasetInput(entities.Dataset(*fields), [entities.InputTag(CONTEXT_TAG, dataset.context)])
        with self._calls(refusals=True) as client:
            client.log_inputs(run.run_id, [given])
        self._runs[uid] = replace(run, datasets=(*run.datasets, dataset))

    def _upload(self, run_id: str, artifact: Artifact) -> None:
        """Uploads a file under the name of the artifact; one that is gone and replaced is passed over."""
        if artifact.is_gone and artifact.is_replaced():
            return
        if artifact.is_gone:
            raise RefusedError(f"{artifact.name}: {artifact.path} is gone")
        with self._calls(refusals=True) as client:
            if artifact.path is None:
                client.log_text(run_id, artifact.text or "", artifact.name)
                return
            above, _, name = artifact.name.rpartition("/")
            if artifact.path.name == name:
                client.log_artifact(run_id, str(artifact.path), above or None)
                return
            with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:  # MLflow takes the name of the file
                link = Path(folder, name)
                link.symlink_to(artifact.path.absolute())
                client.log_artifact(run_id, str(link), above or None)

    def _set_status(self, run_id: str, status: str, end_ms: int | None) -> None:
        failpoint("server.status.before")
        with self._calls(refusals=True) as client:
            if end_ms is None:
                client.update_run(run_id, status=status)
            else:
                client.set_terminated(run_id, status=status, end_time=end_ms)
        failpoint("server.status.after")

    @contextlib.contextmanager
    def _calls(self, *, refusals: bool = False) -> Iterator[Any]:
        """MLflow's client, any failure of which is an `UnavailableError`: drivers and clouds raise exceptions of their own.

        Args:
            refusals: what MLflow will never take is a `RefusedError`.
        """
        try:
            yield self._client
        except Exception as error:
            text = redact(" ".join(f"{type(error).__name__}: {error}".split()))
            # What the libraries below say of a failed connection: the cause stands last, after what was asked for.
            text = text.rpartition(" (Caused by ")[2][:500]
            if refusals and getattr(error, "error_code", None) in REFUSALS:
                raise RefusedError(text) from error
            raise UnavailableError(f"MLflow at {redact(self.uri)}: {text}") from error


def _batches(write: RunWrite) -> Iterator[Batch]:
    """As few batches as MLflow's limits allow; params and tags go with the first metrics."""
    metrics = list(chunks(write.metrics, MAX_METRICS_A_CALL))
    params = list(chunks(list(write.params.items()), MAX_PARAMS_A_CALL))
    tags = list(chunks(list(write.tags.items()), MAX_TAGS_A_CALL))
    for some_metrics, some_params, some_tags in zip_longest(metrics, params, tags, fillvalue=()):
        yield some_metrics, dict(some_params), dict(some_tags)


def _run(run: Any) -> StoredRun:
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
        latest=tuple(sorted(map(_metric, run.data._metric_objs))),
        user=run.info.user_id or "",
        experiment_id=str(run.info.experiment_id),
        datasets=tuple(sorted(map(_dataset, run.inputs.dataset_inputs if run.inputs else ()), key=repr)),
    )


def _dataset(given: Any) -> Dataset:
    one, tags = given.dataset, {tag.key: tag.value for tag in given.tags}
    context = tags.get(CONTEXT_TAG, "")
    return Dataset(one.name, one.digest, one.source_type, one.source, one.schema or "", one.profile or "", context)


def _metric(entity: Any) -> Metric:
    return Metric(entity.key, entity.step, entity.timestamp, entity.value)
