"""Finds a sweep's runs in a local store, without opening it for writing. Light: SQLite alone."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote


def local_path(settings: Mapping[str, Any]) -> Path | None:
    """The database that the tracking settings name where it is a file that is there, else None."""
    uri = str(settings.get("uri") or "")
    path = Path(uri.removeprefix("sqlite:///"))
    return path if uri.startswith("sqlite:///") and path.is_file() else None


def local_run(settings: Mapping[str, Any], trial_uid: str) -> str | None:
    """The id of a trial's run; None where there is none, or it cannot be looked up on this machine now."""
    path = local_path(settings)
    if path is None:
        return None
    query = "SELECT run_uuid FROM tags WHERE key = 'trial_uid' AND value = ?"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=2.0)) as db:
            row = db.execute(query, (trial_uid,)).fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
