"""Checks before a sweep starts that what is to track it works. MLflow is imported for a server alone, and by a child."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import MLFLOW_ARTIFACTS
from orchestrator.base.processes import python
from orchestrator.base.secrets import redact
from orchestrator.config.settings import LocalTracking, NoTracking, ServerTracking
from orchestrator.journal.place import SQLITE
from orchestrator.stores.client import ClientStore
from orchestrator.stores.opening import local_store
from orchestrator.stores.runs import UnavailableError, deleted_experiment
from orchestrator.stores.schema import connect, fits, other_version, revision

LIMIT_S = 120.0
"""How long the check of a server may take; MLflow is imported within that."""

REQUEST_TIMEOUT_S = 4
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
        return _check_local(settings, runs_dir.resolve(), experiment)
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
    uri = settings.uri or local_store(runs_dir)["uri"]
    path = Path(uri.removeprefix(SQLITE))
    artifacts = Path(settings.artifacts or path.parent / MLFLOW_ARTIFACTS)
    _check_database(path, experiment)
    for folder in (path.parent, artifacts):
        _check_writable(folder)
    rest = {"artifacts": str(artifacts), "experiment": settings.experiment, "required": True}
    return {"kind": "local", "uri": uri, **rest}


def _check_database(path: Path, experiment: str | None) -> None:
    """An existing file must be a store whose tables we know, or one that the installed MLflow can open."""
    try:
        if revision(path) is None:
            return
        if not fits(path) and (problem := other_version(path)):
            raise NotReadyError(problem)
        with contextlib.closing(connect(path)) as db:
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
    rest = {"artifacts": None, "experiment": settings.experiment, "required": settings.required}
    resolved = {"kind": "server", "uri": uri, **rest}
    problem = _problem_of_server(uri, experiment)
    if problem and settings.required:
        raise NotReadyError(problem)
    return {**resolved, "unreachable": problem} if problem else resolved


def _problem_of_server(uri: str, experiment: str | None) -> str:
    """Why the server cannot be used, or nothing; asked by a process that gives back what MLflow takes, and can be cut off."""
    try:
        child = subprocess.run(
            python("-W", "ignore", "-m", __name__),
            input=json.dumps([uri, experiment or "Default"]),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
            env={"MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_S), **os.environ},
        )
    except subprocess.TimeoutExpired:
        return _not_there(uri, f"no answer within {LIMIT_S:g} s")
    if child.returncode:
        why = (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1]
        return redact(f"{uri} cannot be checked ({why})")
    return child.stdout.strip()


def _not_there(uri: str, why: str) -> str:
    parts = urlsplit(uri)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return (
        f"no MLflow server at {redact(uri)} ({why}); start one on that machine with "
        f"`mlflow server --host 0.0.0.0 --port {port}`, use tracking=local, or let the sweep run without it "
        "(tracking.required=false, then `orchestrator sync NAME`)"
    )


def main() -> None:
    """The child's side: reads address and experiment, and says what is wrong with them, if anything is."""
    uri, experiment = json.load(sys.stdin)
    problem = _without_credentials(uri, experiment)
    if problem is None:
        with contextlib.closing(ClientStore(uri, experiment)) as store:
            try:
                store.experiment_id()
            except UnavailableError as error:
                problem = str(error)
    print(problem or "")


def _without_credentials(uri: str, experiment: str) -> str | None:
    """What a plain request shows, long before MLflow is imported; None where only MLflow's client can tell.

    That is where the server wants credentials, or certificates that Python does not know.
    """
    parts = urlsplit(uri)
    address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    question = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment, safe='')}"
    try:
        with urllib.request.urlopen(question, timeout=REQUEST_TIMEOUT_S) as answer:
            found = json.load(answer)["experiment"]
            return (
                deleted_experiment(experiment, found["experiment_id"]) if found["lifecycle_stage"] == "deleted" else ""
            )
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                return None
            if b"RESOURCE_DOES_NOT_EXIST" in error.read():
                return ""
            return _not_there(uri, f"what answers there is no MLflow server: its API gives {error.code}")
    except (ValueError, KeyError, TypeError):
        return _not_there(uri, "what answers there is no MLflow server")
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", error)
        return None if isinstance(why, ssl.SSLError) else _not_there(uri, f"no answer: {why}")


if __name__ == "__main__":
    main()
