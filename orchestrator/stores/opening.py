"""From a sweep's `tracking` settings to its store, to be written, read or looked up in."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.layout import MLFLOW_ARTIFACTS, MLFLOW_DATABASE
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.place import SQLITE, located_tracking, read_identity
from orchestrator.stores.client import ClientStore
from orchestrator.stores.runs import STORE_ID_TAG, RunReader, Store
from orchestrator.stores.schema import connect, create, fits
from orchestrator.stores.sqlite import SqliteStore
from orchestrator.stores.sqlite_read import SqliteReader


def store_settings(opened: SweepOpened | None, sweep_folder: Path) -> Mapping[str, Any]:
    """The `tracking` settings of a sweep, with the store where it lies now; the local store of its runs folder where it was
    launched with tracking=none, or where its journal cannot be read."""
    settings: Mapping[str, Any] = located_tracking(opened, sweep_folder) if opened else {}
    if settings.get("uri"):
        return settings
    return {**settings, **local_store(sweep_folder.absolute().parent)}


def local_store(runs_dir: Path) -> dict[str, str]:
    """Address and artifacts of the store of a runs folder."""
    return {"uri": f"{SQLITE}{runs_dir / MLFLOW_DATABASE}", "artifacts": str(runs_dir / MLFLOW_ARTIFACTS)}


def open_store(settings: Mapping[str, Any], experiment: str) -> Store:
    """The fastest way to write to the store that the settings name; a local one is made where it is missing.

    Raises:
        UnavailableError: it cannot be made, or is not MLflow's.
    """
    uri = str(settings["uri"])
    if not uri.startswith(SQLITE):
        return ClientStore(uri, experiment)
    path = Path(uri.removeprefix(SQLITE))
    artifact_root = Path(settings.get("artifacts") or path.parent / MLFLOW_ARTIFACTS)
    create(path, artifact_root)
    identity = read_identity(path.parent)
    tags = {STORE_ID_TAG: identity.id} if identity else {}
    if fits(path):
        return SqliteStore(path, experiment, artifact_root, tags)
    return ClientStore(uri, experiment, artifact_root, tags)


def open_client(settings: Mapping[str, Any], experiment: str, uid_tags: tuple[str, str]) -> ClientStore:
    """The same through MLflow's own client, for runs of other kinds than a sweep's.

    Args:
        uid_tags: as of `ClientStore`.

    Raises:
        UnavailableError: as for `open_store`.
    """
    uri = str(settings["uri"])
    if not uri.startswith(SQLITE):
        return ClientStore(uri, experiment, uid_tags=uid_tags)
    path = Path(uri.removeprefix(SQLITE))
    artifact_root = Path(settings.get("artifacts") or path.parent / MLFLOW_ARTIFACTS)
    create(path, artifact_root)
    identity = read_identity(path.parent)
    tags = {STORE_ID_TAG: identity.id} if identity else {}
    return ClientStore(uri, experiment, artifact_root, tags, uid_tags)


def open_reader(settings: Mapping[str, Any], experiment: str) -> RunReader:
    """A reader of the runs in one experiment of the store that the settings name.

    Raises:
        UnavailableError: it is not MLflow's.
    """
    uri = str(settings["uri"])
    path = local_path(settings)
    if uri.startswith(SQLITE) and (path is None or fits(path)):
        return SqliteReader(Path(uri.removeprefix(SQLITE)), experiment)
    return ClientStore(uri, experiment)


def local_path(settings: Mapping[str, Any]) -> Path | None:
    """The database that the settings name where it is a file that is not empty, else None."""
    uri = str(settings.get("uri") or "")
    path = Path(uri.removeprefix(SQLITE))
    return path if uri.startswith(SQLITE) and path.is_file() and path.stat().st_size else None


def local_run(settings: Mapping[str, Any], trial_uid: str) -> str | None:
    """The id of a trial's run; None where there is none, or it cannot be looked up on this machine now."""
    path = local_path(settings)
    if path is None:
        return None
    query = "SELECT run_uuid FROM tags WHERE key = 'trial_uid' AND value = ?"
    try:
        with contextlib.closing(connect(path, timeout_s=2.0)) as db:
            row = db.execute(query, (trial_uid,)).fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
