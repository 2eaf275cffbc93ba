"""From a sweep's `tracking` settings to its store, to be written, read or looked up in."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.journal.events import SweepOpened
from orchestrator.stores.remote import Api, RemoteReader, RemoteStore
from orchestrator.stores.runs import RunReader, Store
from orchestrator.stores.schema import connect_to_read, create, fits
from orchestrator.stores.sqlite import SqliteStore
from orchestrator.stores.sqlite_read import SqliteReader


def store_settings(opened: SweepOpened | None, sweep_folder: Path) -> Mapping[str, Any]:
    """The `tracking` settings of a sweep; the local store of its runs folder where it was launched with tracking=none, or where
    its journal cannot be read."""
    settings: Mapping[str, Any] = opened.tracking if opened else {}
    if settings.get("uri"):
        return settings
    runs_dir = sweep_folder.absolute().parent
    return {**settings, "uri": f"sqlite:///{runs_dir}/mlflow.db", "artifacts": str(runs_dir / "artifacts")}


def open_store(settings: Mapping[str, Any]) -> Store:
    """The fastest way to write to the store that the settings name; a local one is made where it is missing.

    Raises:
        UnavailableError: it cannot be made, or is not MLflow's.
    """
    uri = str(settings["uri"])
    if not uri.startswith("sqlite:///"):
        return RemoteStore(open_api(uri))
    path = Path(uri[10:])
    artifact_root = Path(settings.get("artifacts") or path.parent / "artifacts")
    create(path, artifact_root)
    return SqliteStore(path, artifact_root) if fits(path) else RemoteStore(open_api(uri, artifact_root))


def open_reader(settings: Mapping[str, Any], experiment: str) -> RunReader:
    """A reader of the runs in one experiment of the store that the settings name.

    Raises:
        UnavailableError: it is not MLflow's.
    """
    uri = str(settings["uri"])
    path = local_path(settings)
    if uri.startswith("sqlite:///") and (path is None or fits(path)):
        return SqliteReader(Path(uri[10:]), experiment)
    return RemoteReader(open_api(uri), experiment)


def open_api(uri: str, artifact_root: Path | None = None) -> Api:
    """Plain requests for a server; for any other address MLflow's own client, whose import takes seconds and 220 MB."""
    if uri.startswith(("http://", "https://")):
        from orchestrator.stores.rest import RestApi

        return RestApi(uri)
    from orchestrator.stores.client import ClientApi

    return ClientApi(uri, artifact_root)


def local_path(settings: Mapping[str, Any]) -> Path | None:
    """The database that the settings name where it is a file that is not empty, else None."""
    uri = str(settings.get("uri") or "")
    path = Path(uri.removeprefix("sqlite:///"))
    return path if uri.startswith("sqlite:///") and path.is_file() and path.stat().st_size else None


def local_run(settings: Mapping[str, Any], trial_uid: str) -> str | None:
    """The id of a trial's run; None where there is none, or it cannot be looked up on this machine now."""
    path = local_path(settings)
    if path is None:
        return None
    query = "SELECT run_uuid FROM tags WHERE key = 'trial_uid' AND value = ?"
    try:
        with contextlib.closing(connect_to_read(path, timeout_s=2.0)) as db:
            row = db.execute(query, (trial_uid,)).fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
