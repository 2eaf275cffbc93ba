"""Deletes a sweep's runs: for good from a local store, through its API from any other."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.journal.events import SweepOpened
from orchestrator.stores.opening import local_path, open_api, store_settings
from orchestrator.stores.remote import CONNECTIONS, Api
from orchestrator.stores.runs import RefusedError, UnavailableError, chunks, local_folder, without_credentials
from orchestrator.stores.schema import fits
from orchestrator.stores.sqlite import connect, transaction

IDS_A_STATEMENT = 500
DEFAULT_EXPERIMENT = 0
WORTH_SHRINKING_BYTES = 1_000_000


class TrackedRuns:
    """The runs of one sweep in MLflow; this one has none.

    Args:
        where: the store, for people.
        count: how many runs there are.
        for_good: whether deleting them frees what they hold.
    """

    def __init__(self, where: str, count: int = 0, *, for_good: bool = True) -> None:
        self.where, self.count, self.for_good = where, count, for_good

    def delete(self) -> None:
        """Deletes all of them; call it again where it was cut off.

        Raises:
            UnavailableError, RefusedError, sqlite3.Error, OSError: the store does not take it.
        """


@contextlib.contextmanager
def tracked_runs(opened: SweepOpened | None, sweep_folder: Path) -> Iterator[TrackedRuns]:
    """The runs that a sweep has in MLflow; nothing is changed before `delete`.

    Args:
        opened: what the sweep began with; None where the journal cannot be read, which means the runs folder's local store.

    Raises:
        NotReadyError: the store cannot be reached, read or changed; what is left can be deleted later.
    """
    settings = store_settings(opened, sweep_folder)
    uid = opened.uid if opened else sweep_folder.name
    experiment = settings.get("experiment") or (opened.name if opened else None)
    uri = str(settings["uri"])
    where = without_credentials(uri)
    try:
        path = local_path(settings)
        if uri.startswith("sqlite:///") and path is None:
            yield TrackedRuns(where)
        elif path is not None and fits(path):
            with contextlib.closing(connect(path)) as db:
                yield _LocalRuns(db, where, uid)
        else:
            with contextlib.closing(open_api(uri)) as api:
                yield _RemoteRuns(api, where, uid, str(experiment))
    except (UnavailableError, RefusedError, sqlite3.Error, OSError) as error:
        raise NotReadyError(f"the MLflow runs in {where} cannot be deleted now: {error}") from error


class _RemoteRuns(TrackedRuns):
    """Runs behind an API, which marks them as deleted."""

    def __init__(self, api: Api, where: str, sweep_uid: str, experiment: str) -> None:
        self._api = api
        found = api.get_experiment(experiment)
        runs = api.search(found[0], f"tags.sweep_uid = '{sweep_uid}'") if found else []
        self._run_ids = [run.run_id for run in runs if not run.deleted]
        super().__init__(where, len(self._run_ids), for_good=False)

    def delete(self) -> None:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self._api.delete_run, self._run_ids))


class _LocalRuns(TrackedRuns):
    """Runs in a store of this machine that `schema.fits`."""

    def __init__(self, db: sqlite3.Connection, where: str, sweep_uid: str) -> None:
        self._db = db
        self._runs = db.execute(
            "SELECT r.run_uuid, r.artifact_uri, r.experiment_id FROM runs r JOIN tags t USING (run_uuid)"
            " WHERE t.key = 'sweep_uid' AND t.value = ?",
            (sweep_uid,),
        ).fetchall()
        super().__init__(where, len(self._runs))

    def delete(self) -> None:
        # Files first: a run whose rows are gone is not found again, and its files would stay for ever.
        for run_id, artifact_uri, _ in self._runs:
            _remove_files(run_id, artifact_uri)
        experiments = {experiment for _, _, experiment in self._runs}
        with transaction(self._db):
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
        given = f"inputs WHERE source_id IN ({marks}) OR destination_id IN ({marks})"
        self._db.execute(f"DELETE FROM input_tags WHERE input_uuid IN (SELECT input_uuid FROM {given})", [*ids, *ids])
        self._db.execute(f"DELETE FROM {given}", [*ids, *ids])
        self._db.execute(f"DELETE FROM runs WHERE run_uuid IN ({marks})", ids)

    def _delete_if_empty(self, experiment: int) -> str | None:
        """Deletes the experiment where nothing is left in it; returns the address of its artifacts then."""
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
        """(table, column) of every foreign key to a table, except those that may point nowhere."""
        return self._db.execute(
            'SELECT m.name, k."from" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
            " WHERE m.type = 'table' AND k.\"table\" = ? AND k.on_delete <> 'SET NULL'",
            (target,),
        ).fetchall()

    def _shrink(self) -> None:
        """Gives the space back to the file system, where it is much and nobody else uses the store."""
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
    """Removes the folder of a run, which has its name; artifacts anywhere else are not ours to remove."""
    folder = local_folder(artifact_uri or "")
    if folder is None or not folder.is_absolute() or folder.parent.name != run_id:
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder.parent)
