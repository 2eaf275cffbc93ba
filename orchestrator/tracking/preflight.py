"""Checks before a sweep starts that what is to track it is there, within 10 s. Plain requests, no MLflow."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from orchestrator.base.errors import ConfigError, NotReadyError, Problem, nearest
from orchestrator.tracking.rest import headers_of, tls_context
from orchestrator.tracking.sqlite import SCHEMA_REVISION, is_ours, schema_revision
from orchestrator.tracking.store import UnavailableError, deleted_experiment, without_credentials

LIMIT_S = 9.0
REQUEST_TIMEOUT_S = 4.0
DATABASES = ("postgresql", "mysql", "mssql")
_KINDS = {"LocalTracking": "local", "ServerTracking": "server", "NoTracking": "none"}
_SCHEMES = ("http", "https", "sqlite", "file", *DATABASES)
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_tracking(spec: Mapping[str, Any], runs_dir: Path, *, name: str | None = None) -> dict[str, Any]:
    """The tracking settings with everything filled in: `kind`, `uri`, `artifacts`, `experiment`, `required`.

    Nothing is created. A server that is not needed (`required: false`) may be away; it is then told in `unreachable`.

    Args:
        spec: the `tracking` choice, with `kind` or the `_target_` that says it.
        name: of the sweep, which is the name of its experiment where the spec gives none.

    Raises:
        ConfigError: the address is none that can be used.
        NotReadyError: no MLflow answers there, the store is of another version, or the experiment is deleted.
    """
    kind = spec.get("kind") or _KINDS.get(str(spec.get("_target_", "")).rpartition(".")[2])
    experiment = spec.get("experiment") or name
    if kind == "none":
        return {"kind": "none"}
    if kind == "local":
        return _check_local(spec, runs_dir.absolute(), experiment)
    if kind == "server":
        return _check_server(spec, experiment)
    raise ConfigError(Problem("tracking", "must be local, server or none", kind))


def _check_local(spec: Mapping[str, Any], runs_dir: Path, experiment: str | None) -> dict[str, Any]:
    uri = spec.get("uri") or f"sqlite:///{runs_dir}/mlflow.db"
    scheme = _scheme_of(uri)
    if scheme != "sqlite":
        why = "is a server's; use tracking=server tracking.uri=..." if scheme != "file" else _NO_FILE_STORE
        raise ConfigError(Problem("tracking.uri", why, without_credentials(uri)))
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:////") or path.name == "":
        example = f"sqlite:///{Path.cwd() / (path.name or 'mlflow.db')}"
        raise ConfigError(Problem("tracking.uri", f"must be an absolute path, with four slashes: {example}", uri))
    artifacts = Path(spec.get("artifacts") or path.parent / "artifacts")
    if not artifacts.is_absolute():
        raise ConfigError(Problem("tracking.artifacts", "must be an absolute folder", str(artifacts)))
    _check_database(path, experiment)
    for folder in (path.parent, artifacts):
        _check_writable(folder)
    return {
        "kind": "local",
        "uri": uri,
        "artifacts": str(artifacts),
        "experiment": spec.get("experiment"),
        "required": True,
    }


def _check_database(path: Path, experiment: str | None) -> None:
    """The store of an existing file must be readable and of the revision that the installed MLflow works with."""
    try:
        revision = schema_revision(path)
        if revision is None:
            return
        if not is_ours(path):
            raise NotReadyError(
                f"{path} is an MLflow store of another version (schema {revision}, this MLflow has {SCHEMA_REVISION}); "
                f"make a copy, then run: mlflow db upgrade sqlite:///{path}"
            )
        if experiment is None:
            return
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5.0)) as db:
            row = db.execute(
                "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'", (experiment,)
            ).fetchone()
    except (UnavailableError, sqlite3.Error, OSError) as error:
        raise NotReadyError(f"{error}; move the file away or set tracking.uri") from error
    if row:
        raise NotReadyError(deleted_experiment(experiment, row[0]))


def _check_writable(folder: Path) -> None:
    """The folder, or the nearest one above that exists, must be a folder that can be written."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise NotReadyError(
            f"{folder} cannot be written ({there} is not a folder of yours); set runs_dir or tracking.uri"
        )


_NO_FILE_STORE = "MLflow has given up its file store; use a database (tracking=local) or a server (tracking=server)"


def _check_server(spec: Mapping[str, Any], experiment: str | None) -> dict[str, Any]:
    uri = str(spec.get("uri") or "").rstrip("/")
    parts = _parts(uri)
    scheme = _scheme_of(uri)
    if scheme == "file":
        raise ConfigError(Problem("tracking.uri", _NO_FILE_STORE, uri))
    if scheme == "sqlite":
        raise ConfigError(Problem("tracking.uri", f"is a file; use tracking=local tracking.uri={uri}", uri))
    if not parts.hostname:
        raise ConfigError(Problem("tracking.uri", "names no host; it is like http://127.0.0.1:5000", uri))
    resolved = {
        "kind": "server",
        "uri": uri,
        "artifacts": None,
        "experiment": spec.get("experiment"),
        "required": spec.get("required", True),
    }
    try:
        _within_limit(uri, experiment)
    except NotReadyError as error:
        if resolved["required"]:
            raise
        resolved["unreachable"] = str(error)
    return resolved


def _parts(uri: str) -> Any:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(Problem("tracking.uri", f"cannot be read ({error})", without_credentials(uri))) from error
    return parts


def _scheme_of(uri: str) -> str:
    """The scheme without a database driver's name (`postgresql+psycopg2`)."""
    scheme = str(_parts(uri).scheme).partition("+")[0]
    if scheme not in _SCHEMES:
        raise ConfigError(
            Problem(
                "tracking.uri",
                "must start with http://, https:// or, for a local store, sqlite:///",
                without_credentials(uri) or "(nothing)",
                nearest=nearest(scheme, _SCHEMES),
            )
        )
    return scheme


def _within_limit(uri: str, experiment: str | None) -> None:
    """Asks the server in a thread: looking up a name has no time-out of its own, and a slow sender resets a socket's."""
    found: list[NotReadyError | None] = []

    def ask() -> None:
        try:
            _ask(uri, experiment)
            found.append(None)
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
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme in DATABASES:
        try:
            with socket.create_connection(
                (parts.hostname or "", parts.port or _DEFAULT_PORTS[scheme]), REQUEST_TIMEOUT_S
            ):
                return
        except OSError as error:
            raise NotReadyError(f"no database answers at {without_credentials(uri)} ({error})") from error
    status, health = _get(uri, "/health")
    if status in (401, 403):
        raise NotReadyError(
            f"{without_credentials(uri)} refuses us ({status}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or MLFLOW_TRACKING_TOKEN"
        )
    if status != 200 or health.strip() != b"OK":
        raise _not_there(uri, f"what answers there is no MLflow server: /health gives {status}")
    name = quote(experiment or "Default", safe="")
    status, answer = _get(uri, f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}")
    try:
        data = json.loads(answer)
        if status == 404 and data["error_code"] == "RESOURCE_DOES_NOT_EXIST":
            return
        found = data["experiment"]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_there(uri, f"what answers there is no MLflow server: its API gives {status}") from error
    if experiment and found.get("lifecycle_stage") == "deleted":
        raise NotReadyError(deleted_experiment(experiment, found["experiment_id"]))


def _get(uri: str, path: str) -> tuple[int, bytes]:
    parts = urlsplit(uri)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(plain + path, headers=headers_of(uri))
    context = tls_context() if parts.scheme == "https" else None
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S, context=context) as response:
            return response.status, response.read(1_000_000)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(1_000_000)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _not_there(uri, str(reason)) from error


def _not_there(uri: str, why: str) -> NotReadyError:
    parts = urlsplit(uri)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 5000)
    return NotReadyError(
        f"no MLflow server at {without_credentials(uri)} ({why}); start one on that machine with "
        f"`mlflow server --host 0.0.0.0 --port {port}`, use tracking=local, or let the sweep run without it "
        "(tracking.required=false, then `orchestrator sync NAME`)"
    )
