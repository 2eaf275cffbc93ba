"""Deletes a sweep's runs: for good from a local store, through its API from any other."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.secrets import redact
from orchestrator.journal.events import SweepOpened
from orchestrator.stores.client import ClientStore
from orchestrator.stores.opening import SQLITE, local_path, store_settings
from orchestrator.stores.runs import RefusedError, UnavailableError, local_folder
from orchestrator.stores.schema import connect, fits
from orchestrator.stores.sqlite import transaction

DEFAULT_EXPERIMENT = 0
WORTH_SHRINKING_BYTES = 1_000_000


@dataclass(frozen=True)
class TrackedRuns:
    """The runs of one sweep in MLflow.

    Args:
        where: the store, for people.
        count: how many runs there are.
        delete: deletes all of them; to be called again where it was cut off.
        for_good: whether deleting them frees what they hold; a server only marks them.
    """

    where: str
    count: int = 0
    delete: Callable[[], None] = lambda: None
    for_good: bool = True


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
    where = redact(uri)
    try:
        path = local_path(settings)
        if uri.startswith(SQLITE) and path is None:
            yield TrackedRuns(where)
        elif path is not None and fits(path):
            with contextlib.closing(connect(path, write=True)) as db:
                runs = db.execute(_SELECT_RUNS, (uid,)).fetchall()
                yield TrackedRuns(where, len(runs), partial(_delete_local, db, runs))
        else:
            with contextlib.closing(ClientStore(uri, str(experiment))) as store:
                ids = [run.run_id for run in store.runs(uid) if not run.deleted]
                yield TrackedRuns(where, len(ids), partial(store.delete, ids), for_good=False)
    except (UnavailableError, RefusedError, sqlite3.Error, OSError) as error:
        raise NotReadyError(f"the MLflow runs in {where} cannot be deleted now: {error}") from error


_SELECT_RUNS = (
    "SELECT r.run_uuid, r.artifact_uri, r.experiment_id FROM runs r JOIN tags t USING (run_uuid)"
    " WHERE t.key = 'sweep_uid' AND t.value = ?"
)


def _delete_local(db: sqlite3.Connection, runs: Sequence[tuple[str, str, int]]) -> None:
    """Deletes runs by SQL; `mlflow gc` takes 42 s for a thousand.

    Args:
        runs: id, address of the artifacts and experiment of each.
    """
    # Files first: a run whose rows are gone is not found again, and its files would stay for ever.
    for run_id, artifact_uri, _ in runs:
        _remove_files(run_id, artifact_uri)
    with transaction(db):
        _delete_rows(db, [run_id for run_id, _, _ in runs])
        emptied = [_delete_if_empty(db, experiment) for experiment in {experiment for _, _, experiment in runs}]
    for location in filter(None, emptied):
        folder = local_folder(location)
        if folder is not None:
            with contextlib.suppress(OSError):  # something else lies there
                folder.rmdir()
    _shrink(db)


def _delete_rows(db: sqlite3.Connection, run_ids: Sequence[str]) -> None:
    db.execute("CREATE TEMP TABLE gone (run_uuid PRIMARY KEY)")
    db.executemany("INSERT INTO gone VALUES (?)", [(run_id,) for run_id in run_ids])
    for table, column in _pointing_at(db, "runs"):
        db.execute(f'DELETE FROM "{table}" WHERE "{column}" IN gone')
    # Tables without a foreign key: the data sets that a run was given.
    given = "inputs WHERE source_id IN gone OR destination_id IN gone"
    db.execute(f"DELETE FROM input_tags WHERE input_uuid IN (SELECT input_uuid FROM {given})")
    db.execute(f"DELETE FROM {given}")
    db.execute("DELETE FROM runs WHERE run_uuid IN gone")
    db.execute("DROP TABLE gone")


def _delete_if_empty(db: sqlite3.Connection, experiment: int) -> str | None:
    """Deletes the experiment where nothing is left in it; returns the address of its artifacts then."""
    held = any(
        db.execute(f'SELECT 1 FROM "{table}" WHERE "{column}" = ? LIMIT 1', (experiment,)).fetchone()
        for table, column in _pointing_at(db, "experiments")
        if table != "experiment_tags"
    )
    if held or experiment == DEFAULT_EXPERIMENT:
        return None
    db.execute("DELETE FROM experiment_tags WHERE experiment_id = ?", (experiment,))
    row = db.execute(
        "DELETE FROM experiments WHERE experiment_id = ? RETURNING artifact_location", (experiment,)
    ).fetchone()
    return str(row[0]) if row and row[0] else None


def _pointing_at(db: sqlite3.Connection, target: str) -> list[tuple[str, str]]:
    """(table, column) of every foreign key to a table, except those that may point nowhere."""
    return db.execute(
        'SELECT m.name, k."from" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
        " WHERE m.type = 'table' AND k.\"table\" = ? AND k.on_delete <> 'SET NULL'",
        (target,),
    ).fetchall()


def _shrink(db: sqlite3.Connection) -> None:
    """Gives the space back to the file system, where it is much and nobody else uses the store."""
    free, pages, page_size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count", "page_size")
    )
    if free * page_size < WORTH_SHRINKING_BYTES or free < pages / 4:
        return
    with contextlib.suppress(sqlite3.OperationalError):
        db.execute("PRAGMA busy_timeout = 1000")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove_files(run_id: str, artifact_uri: str) -> None:
    """Removes the folder of a run, which has its name; artifacts anywhere else are not ours to remove."""
    folder = local_folder(artifact_uri or "")
    if folder is None or not folder.is_absolute() or folder.parent.name != run_id:
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder.parent)
