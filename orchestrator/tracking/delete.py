"""Deletes a sweep's runs from MLflow: for good from a local store, through its API from a server."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from orchestrator.base.errors import NotReadyError
from orchestrator.tracking.lookup import local_path
from orchestrator.tracking.remote import CONNECTIONS, Calls
from orchestrator.tracking.shipper import store_settings
from orchestrator.tracking.sqlite import BUSY_TIMEOUT_S, is_ours
from orchestrator.tracking.store import RefusedError, UnavailableError, chunks, local_folder, without_credentials

IDS_A_STATEMENT = 500
DEFAULT_EXPERIMENT = 0
WORTH_SHRINKING_BYTES = 1_000_000


class TrackedRuns(Protocol):
    """The runs of one sweep in MLflow.

    Attributes:
        count: how many are there.
        where: the store, for people.
        for_good: whether deleting frees what they hold.
    """

    count: int
    where: str
    for_good: bool

    def delete(self) -> None:
        """Deletes all of them; may be called again where it was cut off.

        Raises:
            NotReadyError: the store does not take it; what is left can be deleted later.
        """


@contextlib.contextmanager
def tracked_runs(opened: Mapping[str, Any], sweep_folder: Path) -> Iterator[TrackedRuns]:
    """The runs that a sweep has in MLflow; nothing is changed before `delete`.

    Args:
        opened: data of `sweep_opened`; empty where the journal cannot be read: the local store of the runs folder is
            looked at then.

    Raises:
        NotReadyError: the store cannot be reached or read.
    """
    settings = store_settings(opened, sweep_folder)
    uid, experiment = opened.get("uid", sweep_folder.name), settings.get("experiment") or opened.get("name")
    uri = str(settings["uri"])
    with _ready(without_credentials(uri)):
        if uri.startswith("sqlite:///"):
            path = local_path(settings)
            if path is None or path.stat().st_size == 0:
                yield _NoRuns(uri)
                return
            if is_ours(path):
                with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
                    db.execute("PRAGMA foreign_keys = ON")
                    yield _LocalRuns(db, uri, uid)
                return
        with contextlib.closing(_calls(uri)) as calls:
            yield _RemoteRuns(calls, without_credentials(uri), uid, str(experiment))


def _calls(uri: str) -> Calls:
    from orchestrator.tracking.rest import RestCalls, reachable_directly

    if uri.startswith(("http://", "https://")) and reachable_directly(uri):
        return RestCalls(uri)
    from orchestrator.tracking.library import LibraryCalls

    return LibraryCalls(uri)


@contextlib.contextmanager
def _ready(where: str) -> Iterator[None]:
    """Whatever stands between us and the store, as an error that says what to do."""
    try:
        yield
    except (UnavailableError, RefusedError, sqlite3.Error, OSError) as error:
        raise NotReadyError(f"the MLflow runs in {where} cannot be deleted now: {error}") from error


class _NoRuns:
    """There is no store."""

    def __init__(self, where: str) -> None:
        self.count, self.where, self.for_good = 0, where, True

    def delete(self) -> None:
        """None."""


class _LocalRuns:
    """Runs in a store of this machine whose tables we know."""

    def __init__(self, db: sqlite3.Connection, where: str, sweep_uid: str) -> None:
        self._db = db
        self.where, self.for_good = where, True
        self._runs = db.execute(
            "SELECT r.run_uuid, r.artifact_uri, r.experiment_id FROM runs r JOIN tags t USING (run_uuid)"
            " WHERE t.key = 'sweep_uid' AND t.value = ?",
            (sweep_uid,),
        ).fetchall()
        self.count = len(self._runs)

    def delete(self) -> None:
        # Files first: a run whose rows are gone is not found again, and its files would stay for ever.
        for run_id, artifact_uri, _ in self._runs:
            _remove_files(run_id, artifact_uri)
        experiments = {experiment for _, _, experiment in self._runs}
        with self._transaction():
            for ids in chunks([run_id for run_id, _, _ in self._runs], IDS_A_STATEMENT):
                self._delete_rows(ids)
            emptied = [self._delete_if_empty(experiment) for experiment in experiments]
        for location in emptied:
            folder = local_folder(location) if location else None
            if folder is not None:
                with contextlib.suppress(OSError):  # something else lies there
                    folder.rmdir()
        self._shrink()

    def _delete_rows(self, ids: Sequence[str]) -> None:
        marks = ", ".join("?" * len(ids))
        for table, column in self._pointing_at("runs"):
            self._db.execute(f'DELETE FROM "{table}" WHERE "{column}" IN ({marks})', ids)
        # Tables without a foreign key: the data sets that a run was given.
        self._db.execute(
            "DELETE FROM input_tags WHERE input_uuid IN"
            f" (SELECT input_uuid FROM inputs WHERE source_id IN ({marks}) OR destination_id IN ({marks}))",
            [*ids, *ids],
        )
        self._db.execute(
            f"DELETE FROM inputs WHERE source_id IN ({marks}) OR destination_id IN ({marks})", [*ids, *ids]
        )
        self._db.execute(f"DELETE FROM runs WHERE run_uuid IN ({marks})", ids)

    def _delete_if_empty(self, experiment: int) -> str | None:
        """Deletes the experiment where nothing is left in it; the address of its artifacts then."""
        held = [
            (table, column)
            for table, column in self._pointing_at("experiments")
            if table != "experiment_tags"
            and self._db.execute(f'SELECT 1 FROM "{table}" WHERE "{column}" = ? LIMIT 1', (experiment,)).fetchone()
        ]
        if held or experiment == DEFAULT_EXPERIMENT:
            return None
        row = self._db.execute(
            "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (experiment,)
        ).fetchone()
        self._db.execute("DELETE FROM experiment_tags WHERE experiment_id = ?", (experiment,))
        self._db.execute("DELETE FROM experiments WHERE experiment_id = ?", (experiment,))
        return str(row[0]) if row and row[0] else None

    def _pointing_at(self, target: str) -> list[tuple[str, str]]:
        """(table, column) of every foreign key to a table, but for those that may point nowhere."""
        return self._db.execute(
            'SELECT m.name, k."from" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
            " WHERE m.type = 'table' AND k.\"table\" = ? AND k.on_delete <> 'SET NULL'",
            (target,),
        ).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _shrink(self) -> None:
        """Gives the room back to the file system, where it is much and nobody else is at the store."""
        free, pages, page_size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count", "page_size")
        )
        if free * page_size < WORTH_SHRINKING_BYTES or free < pages / 4:
            return
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA busy_timeout = 1000")
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove_files(run_id: str, artifact_uri: str) -> None:
    """Removes the folder of a run, which is called after it; artifacts anywhere else are not ours to remove."""
    folder = local_folder(artifact_uri or "")
    if folder is None or not folder.is_absolute() or folder.parent.name != run_id:
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder.parent)


class _RemoteRuns:
    """Runs behind an API, which marks them as deleted."""

    def __init__(self, calls: Calls, where: str, sweep_uid: str, experiment: str) -> None:
        self._calls = calls
        self.where, self.for_good = where, False
        found = calls.get_experiment(experiment)
        runs = calls.search(found[0], f"tags.sweep_uid = '{sweep_uid}'") if found else []
        self._run_ids = [run.run_id for run in runs if not run.deleted]
        self.count = len(self._run_ids)

    def delete(self) -> None:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self._calls.delete_run, self._run_ids))
