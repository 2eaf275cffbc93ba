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
from orchestrator.stores.holding import check_holder
from orchestrator.stores.opening import local_store
from orchestrator.stores.runs import HOLDER_TAG, UnavailableError, deleted_experiment
from orchestrator.stores.schema import connect, fits, other_version, revision

LIMIT_S = 120.0
"""How long the check of a server may take; MLflow is imported within that."""

ADVICE = "; start one on that machine with "
"""Where the advice for a sweep begins in what is told of a server."""

REQUEST_TIMEOUT_S = 4
_KINDS = {choice.__name__: choice for choice in (LocalTracking, ServerTracking, NoTracking)}


def check_tracking(
    spec: Mapping[str, Any], runs_dir: Path, *, name: str | None = None, sweep: str | None = None
) -> dict[str, Any]:
    """The tracking settings with everything filled in: `kind`, `uri`, `artifacts`, `experiment`, `required`.

    Nothing is created. A server that is not needed (`required: false`) may be away; `unreachable` says so then.

    Args:
        spec: the `tracking` choice, with the `_target_` or the `kind` of its class.
        name: of the sweep, which is the name of its experiment where the spec gives none.
        sweep: its uid where it is to go on; a store elsewhere knows which folder ships it.

    Raises:
        ConfigError: the address is none that can be used.
        CopyError: another folder ships the sweep to this store.
        NotReadyError: no MLflow answers there, MLflow cannot use the store, or the experiment is deleted.
    """
    settings = _settings(spec)
    experiment = spec.get("experiment") or name
    if isinstance(settings, LocalTracking):
        return _check_local(settings, runs_dir.resolve(), experiment, sweep)
    if isinstance(settings, ServerTracking):
        return _check_server(settings, runs_dir, experiment, sweep)
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


def _check_local(settings: LocalTracking, runs_dir: Path, experiment: str | None, sweep: str | None) -> dict[str, Any]:
    uri = settings.uri or local_store(runs_dir)["uri"]
    path = Path(uri.removeprefix(SQLITE))
    artifacts = Path(settings.artifacts or path.parent / MLFLOW_ARTIFACTS)
    holder = _check_database(path, experiment, sweep)
    if sweep is not None and uri != local_store(runs_dir)["uri"]:
        check_holder(holder, runs_dir, sweep)
    for folder in (path.parent, artifacts):
        _check_writable(folder)
    rest = {"artifacts": str(artifacts), "experiment": settings.experiment, "required": True}
    return {"kind": "local", "uri": uri, **rest}


def _check_database(path: Path, experiment: str | None, sweep: str | None) -> str | None:
    """An existing file must be a store whose tables we know, or one that the installed MLflow can open; who ships the sweep."""
    try:
        if revision(path) is None:
            return None
        if not fits(path) and (problem := other_version(path)):
            raise NotReadyError(problem)
        with contextlib.closing(connect(path)) as db:
            row = db.execute(
                "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'", (experiment,)
            ).fetchone()
            holder = db.execute(
                "SELECT h.value FROM tags s JOIN tags h USING (run_uuid)"
                " WHERE s.key = 'sweep_uid' AND s.value = ? AND h.key = ?",
                (sweep, HOLDER_TAG),
            ).fetchone()
    except (UnavailableError, sqlite3.Error, OSError) as error:
        raise NotReadyError(f"{error}; move the file away or set tracking.uri") from error
    if experiment and row:
        raise NotReadyError(deleted_experiment(experiment, row[0]))
    return str(holder[0]) if holder else None


def _check_writable(folder: Path) -> None:
    """The folder, or the nearest one above that exists, must be a folder that can be written."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise NotReadyError(
            f"{folder} cannot be written ({there} is not a folder of yours); set runs_dir or tracking.uri"
        )


def _check_server(
    settings: ServerTracking, runs_dir: Path, experiment: str | None, sweep: str | None
) -> dict[str, Any]:
    uri = settings.uri.rstrip("/")
    rest = {"artifacts": None, "experiment": settings.experiment, "required": settings.required}
    resolved = {"kind": "server", "uri": uri, **rest}
    problem, holder = _ask_server(uri, experiment, sweep)
    if problem and settings.required:
        raise NotReadyError(problem)
    if sweep is not None:
        check_holder(holder, runs_dir, sweep)
    return {**resolved, "unreachable": problem} if problem else resolved


def _ask_server(uri: str, experiment: str | None, sweep: str | None) -> tuple[str, str | None]:
    """(why the server cannot be used, or nothing; who ships the sweep to it).

    Asked by a process that gives back what MLflow takes, and can be cut off.
    """
    try:
        child = subprocess.run(
            python("-W", "ignore", "-m", __name__),
            input=json.dumps([uri, experiment or "Default", sweep]),
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
            env={"MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_S), **os.environ},
        )
    except subprocess.TimeoutExpired:
        return _not_there(uri, f"no answer within {LIMIT_S:g} s"), None
    try:
        child.check_returncode()
        problem, holder = json.loads(child.stdout.strip().splitlines()[-1])
    except (subprocess.CalledProcessError, ValueError, TypeError, IndexError):
        why = (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1]
        return redact(f"{uri} cannot be checked ({why})"), None
    return str(problem), holder


def _not_there(uri: str, why: str) -> str:
    parts = urlsplit(uri)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return (
        f"no MLflow server at {redact(uri)} ({why}){ADVICE}"
        f"`mlflow server --host 0.0.0.0 --port {port}`, use tracking=local, or let the sweep run without it "
        "(tracking.required=false, then `orchestrator sync NAME`)"
    )


def main() -> None:
    """The child's side: reads address, experiment and sweep; says what is wrong, if anything, and who ships the sweep."""
    uri, experiment, sweep = json.load(sys.stdin)
    problem, holder = "", None
    try:
        holder = _without_credentials(uri, experiment, sweep)
    except _NotUsableError as error:
        problem = str(error)
    except _NeedsClientError:
        try:
            holder = _by_client(uri, experiment, sweep)
        except UnavailableError as error:
            problem = str(error)
    print(json.dumps([problem, holder]))


class _NotUsableError(Exception):
    """Why a server cannot be used."""


class _NeedsClientError(Exception):
    """Only MLflow's client can tell: the server wants credentials, or has certificates that Python does not know."""


def _without_credentials(uri: str, experiment: str, sweep: str | None) -> str | None:
    """What plain requests show, long before MLflow is imported: the folder that ships the sweep.

    Raises:
        _NotUsableError, _NeedsClientError: see there.
    """
    name = quote(experiment, safe="")
    try:
        found = _asked(uri, f"experiments/get-by-name?experiment_name={name}")["experiment"]
        if found["lifecycle_stage"] == "deleted":
            raise _NotUsableError(deleted_experiment(experiment, found["experiment_id"]))
        if sweep is None:
            return None
        wanted = f"tags.sweep_uid = '{sweep}' AND tags.kind = 'sweep'"
        question = {"experiment_ids": [found["experiment_id"]], "filter": wanted, "max_results": 1}
        runs = _asked(uri, "runs/search", question).get("runs") or []
        tags = {tag["key"]: tag["value"] for run in runs for tag in run["data"].get("tags") or []}
        return tags.get(HOLDER_TAG)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (401, 403):
                raise _NeedsClientError from error
            if b"RESOURCE_DOES_NOT_EXIST" in error.read():
                return None
            why = f"what answers there is no MLflow server: its API gives {error.code}"
            raise _NotUsableError(_not_there(uri, why)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _NotUsableError(_not_there(uri, "what answers there is no MLflow server")) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            raise _NeedsClientError from error
        raise _NotUsableError(_not_there(uri, f"no answer: {reason}")) from error


def _by_client(uri: str, experiment: str, sweep: str | None) -> str | None:
    """The same asked by MLflow's client.

    Raises:
        UnavailableError: the server cannot be used.
    """
    with contextlib.closing(ClientStore(uri, experiment)) as store:
        if store.experiment_id() is None or sweep is None:
            return None
        tags = [run.tags for run in store.runs(sweep, whole_store=False) if run.uid == sweep]
        return tags[0].get(HOLDER_TAG) if tags else None


def _asked(uri: str, what: str, question: Mapping[str, Any] | None = None) -> Any:
    """The answer of MLflow's REST API; a question is posted."""
    parts = urlsplit(uri)
    address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{what}", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
