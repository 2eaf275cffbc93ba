"""The same requests through MLflow's own client: PostgreSQL and other databases, and local stores with other tables.

The one file that imports MLflow, and only when it is used: that takes seconds and 220 MB.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.stores import artifacts
from orchestrator.stores.remote import RUNS_A_PAGE
from orchestrator.stores.runs import (
    EXPERIMENT_TAGS,
    REFUSALS,
    Artifact,
    Metric,
    RefusedError,
    StoredRun,
    UnavailableError,
    local_folder,
    without_credentials,
)


class ClientApi:
    """The requests of `Api`, by `MlflowClient`.

    Args:
        uri: any tracking address that MLflow knows.
        artifact_root: where new experiments keep their artifacts; None leaves it to the server.
    """

    def __init__(self, uri: str, artifact_root: Path | None = None) -> None:
        # Its own retries would hide an outage for minutes; the shipper has its own.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self.uri = uri
        self._artifact_root = artifact_root
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        if self._opened is None:
            import mlflow

            self._opened = mlflow.MlflowClient(self.uri)
        return self._opened

    def get_experiment(self, name: str) -> tuple[str, bool] | None:
        with _translated():
            found = self._client.get_experiment_by_name(name)
        return None if found is None else (found.experiment_id, found.lifecycle_stage == "deleted")

    def create_experiment(self, name: str) -> None:
        location = None if self._artifact_root is None else str(self._artifact_root / name)
        with _translated():
            self._client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)

    def search(self, experiment_id: str, condition: str) -> Iterator[StoredRun]:
        from mlflow.entities import ViewType

        token = None
        while True:
            with _translated():
                page = self._client.search_runs(
                    [experiment_id], condition, run_view_type=ViewType.ALL, max_results=RUNS_A_PAGE, page_token=token
                )
            yield from map(_run, page)
            token = page.token
            if not token:
                return

    def histories(self, runs: Sequence[StoredRun]) -> Iterator[tuple[str, Metric]]:
        for run in runs:
            for latest in run.latest:
                with _translated():
                    history = self._client.get_metric_history(run.run_id, latest.key)
                yield from ((run.run_id, _metric(entity)) for entity in history)

    def create_run(self, experiment_id: str, name: str, user: str, start_ms: int, tags: Mapping[str, str]) -> StoredRun:
        with _translated():
            return _run(self._client.create_run(experiment_id, start_time=start_ms, tags=dict(tags), run_name=name))

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        from mlflow import entities

        with _translated():
            self._client.log_batch(
                run_id,
                [entities.Metric(m.key, m.value, m.time_ms, m.step) for m in metrics],
                [entities.Param(key, value) for key, value in params.items()],
                [entities.RunTag(key, value) for key, value in tags.items()],
            )

    def update_run(self, run_id: str, status: str, end_ms: int | None) -> None:
        with _translated():
            if end_ms is None:
                self._client.update_run(run_id, status=status)
            else:
                self._client.set_terminated(run_id, status=status, end_time=end_ms)

    def delete_run(self, run_id: str) -> None:
        with _translated():
            self._client.delete_run(run_id)

    def upload(self, run: StoredRun, artifact: Artifact) -> None:
        folder = local_folder(run.artifact_uri)
        if folder is not None:
            artifacts.put(artifact, folder)
            return
        with tempfile.TemporaryDirectory() as temporary:
            artifacts.put(artifact, Path(temporary))
            with _translated():
                self._client.log_artifact(run.run_id, str(Path(temporary) / artifact.name))

    def close(self) -> None:
        self._opened = None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Any failure as `RefusedError` or `UnavailableError`: drivers and clouds raise exceptions of their own."""
    try:
        yield
    except Exception as error:
        text = without_credentials(" ".join(f"{type(error).__name__}: {error}".split()))[:500]
        if getattr(error, "error_code", None) in REFUSALS:
            raise RefusedError(text) from error
        raise UnavailableError(text) from error


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
    )


def _metric(entity: Any) -> Metric:
    return Metric(entity.key, entity.step, entity.timestamp, entity.value)
