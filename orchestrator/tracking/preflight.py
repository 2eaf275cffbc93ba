"""Checks before a sweep starts that what is to track it works, within 10 s and without importing MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.config.settings import LocalTracking, NoTracking, ServerTracking
from orchestrator.stores.runs import UnavailableError, deleted_experiment, without_credentials
from orchestrator.stores.schema import connect_to_read, fits, other_version, revision

LIMIT_S = 9.0
REQUEST_TIMEOUT_S = 4.0
_KINDS = {choice.__name__: choice for choice in (LocalTracking, ServerTracking, NoTracking)}


def check_tracking(spec: Mapping[str, Any], runs_dir: Path, *, name: str | None = None) -> dict[str, Any]:
    """The tracking settings with everything filled in: `kind`, `uri`, `artifacts`, `experiment`, `required`.

    Nothing is created. A server that is not needed (`required: false`) may be away; `unreachable` says so then.

    Args:
        spec: the `tracking` choice, with the `_target_` or the `kind` of its class.
        name: of the sweep, which is the name of its experiment where the spec gives none.

    Raises:
        ConfigError: the address is none that can be used.
        NotReadyError: no MLflow answers there, MLflow cannot use the store, or the experiment is deleted.
    """
    settings = _settings(spec)
    experiment = spec.get("experiment") or name
    if isinstance(settings, LocalTracking):
        return _check_local(settings, runs_dir.absolute(), experiment)
    if isinstance(settings, ServerTracking):
        return _check_server(settings, experiment)
    return {"kind": "none"}


def _settings(spec: Mapping[str, Any]) -> LocalTracking | ServerTracking | NoTracking:
    kind = spec.get("kind") or str(spec.get("_target_", "")).rpartition(".")[2]
    chosen = next((choice for name, choice in _KINDS.items() if kind in (name, choice.kind)), None)
    if chosen is None:
        raise ConfigError(Problem("tracking", "must be local, server or none", kind))
    try:
        return chosen(**{key: value for key, value in spec.items() if key not in ("kind", "_target_")})
    except ValueError as error:
        argument, _, why = str(error).partition(" ")  # "uri must ..."
        raise ConfigError(Problem(f"tracking.{argument}", why)) from error


def _check_local(settings: LocalTracking, runs_dir: Path, experiment: str | None) -> dict[str, Any]:
    uri = settings.uri or f"sqlite:///{runs_dir}/mlflow.db"
    path = Path(uri.removeprefix("sqlite:///"))
    artifacts = Path(settings.artifacts or path.parent / "artifacts")
    _check_database(path, experiment)
    for folder in (path.parent, artifacts):
        _check_writable(folder)
    return {
        "kind": "local",
        "uri": uri,
        "artifacts": str(artifacts),
        "experiment": settings.experiment,
        "required": True,
    }


def _check_database(path: Path, experiment: str | None) -> None:
    """An existing file must be a store whose tables we know, or one that the installed MLflow can open."""
    try:
        if revision(path) is None:
            return
        if not fits(path) and (told := other_version(path)):
            raise NotReadyError(told)
        with contextlib.closing(connect_to_read(path, timeout_s=5.0)) as db:
            row = db.execute(
                "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'", (experiment,)
            ).fetchone()
    except (UnavailableError, sqlite3.Error, OSError) as error:
        raise NotReadyError(f"{error}; move the file away or set tracking.uri") from error
    if experiment and row:
        raise NotReadyError(deleted_experiment(experiment, row[0]))


def _check_writable(folder: Path) -> None:
    """The folder, or the nearest one above that exists, must be a folder that can be written."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise NotReadyError(
            f"{folder} cannot be written ({there} is not a folder of yours); set runs_dir or tracking.uri"
        )


def _check_server(settings: ServerTracking, experiment: str | None) -> dict[str, Any]:
    uri = settings.uri.rstrip("/")
    resolved = {
        "kind": "server",
        "uri": uri,
        "artifacts": None,
        "experiment": settings.experiment,
        "required": settings.required,
    }
    try:
        _within_limit(uri, experiment)
    except NotReadyError as error:
        if settings.required:
            raise
        resolved["unreachable"] = str(error)
    return resolved


def _within_limit(uri: str, experiment: str | None) -> None:
    """Asks the server in a thread: looking up a name has no time-out of its own, and a slow sender resets a socket's."""
    found: list[NotReadyError | None] = []

    def ask() -> None:
        try:
            _ask(uri, experiment)
            found.append(None)
        except UnavailableError as error:
            found.append(_not_there(uri, str(error)))
        except NotReadyError as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if not found:
        raise _not_there(uri, f"no answer within {LIMIT_S:g} s")
    if found[0] is not None:
        raise found[0]


def _ask(uri: str, experiment: str | None) -> None:
    from orchestrator.stores.rest import Connection

    with contextlib.closing(Connection(uri)) as server:
        status, health = server.request("GET", "/health", timeout_s=REQUEST_TIMEOUT_S)
        if status in (401, 403):
            raise NotReadyError(
                f"{without_credentials(uri)} refuses us ({status}); set MLFLOW_TRACKING_USERNAME and"
                " MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        if status != 200 or health.strip() != b"OK":
            raise _not_there(uri, f"what answers there is no MLflow server: /health gives {status}")
        name = quote(experiment or "Default", safe="")
        path = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
        status, answer = server.request("GET", path, timeout_s=REQUEST_TIMEOUT_S)
    try:
        data = json.loads(answer)
        if status == 404 and data["error_code"] == "RESOURCE_DOES_NOT_EXIST":
            return
        found = data["experiment"]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_there(uri, f"what answers there is no MLflow server: its API gives {status}") from error
    if experiment and found.get("lifecycle_stage") == "deleted":
        raise NotReadyError(deleted_experiment(experiment, found["experiment_id"]))


def _not_there(uri: str, why: str) -> NotReadyError:
    parts = urlsplit(uri)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return NotReadyError(
        f"no MLflow server at {without_credentials(uri)} ({why}); start one on that machine with "
        f"`mlflow server --host 0.0.0.0 --port {port}`, use tracking=local, or let the sweep run without it "
        "(tracking.required=false, then `orchestrator sync NAME`)"
    )
