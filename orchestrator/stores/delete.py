"""Deletes a sweep's runs: for good from a local store, through its API from any other."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.base import removal
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import ARTIFACTS, MLFLOW_ARTIFACTS
from orchestrator.base.removal import Folder
from orchestrator.base.secrets import redact
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.place import SQLITE
from orchestrator.stores.client import ClientStore
from orchestrator.stores.holding import check_holder
from orchestrator.stores.opening import local_path, store_settings
from orchestrator.stores.runs import HOLDER_TAG, RefusedError, UnavailableError, local_folder
from orchestrator.stores.schema import connect, fits
from orchestrator.stores.sqlite import transaction

DEFAULT_EXPERIMENT = 0
WORTH_SHRINKING_BYTES = 1_000_000
RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class TrackedRuns:
    """The runs of one sweep in MLflow.

    Args:
        where: the store, for people.
        count: how many runs there are.
        delete: deletes all of them; to be called again where it was cut off.
        for_good: whether deleting them frees what they hold; a server only marks them.
        elsewhere: addresses of artifacts that lie outside the store's own folder, and stay.
    """

    where: str
    count: int = 0
    delete: Callable[[], None] = lambda: None
    for_good: bool = True
    elsewhere: Sequence[str] = ()


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
                root = path.parent / MLFLOW_ARTIFACTS
                elsewhere = [uri for run_id, uri, experiment in runs if not _is_at_home(root, experiment, run_id, uri)]
                yield TrackedRuns(where, len(runs), partial(_delete_local, db, runs, root), elsewhere=elsewhere)
        else:
            with contextlib.closing(ClientStore(uri, str(experiment))) as store:
                found = [run for run in store.runs(uid) if not run.deleted]
                for run in found:
                    if run.tags.get("kind") == "sweep":
                        check_holder(run.tags.get(HOLDER_TAG), sweep_folder.parent, uid)
                ids = [run.run_id for run in found]
                yield TrackedRuns(where, len(ids), partial(store.delete, ids), for_good=False)
    except (UnavailableError, RefusedError, sqlite3.Error, OSError, removal.RefusedRemovalError) as error:
        raise NotReadyError(f"the MLflow runs in {where} cannot be deleted now: {error}") from error


def forget_sweep(path: Path, uid: str) -> None:
    """Deletes the runs of a sweep from a local store, with their files in the store's own folder."""
    with contextlib.closing(connect(path, write=True)) as db:
        _delete_local(db, db.execute(_SELECT_RUNS, (uid,)).fetchall(), path.parent / MLFLOW_ARTIFACTS)


_SELECT_RUNS = (
    "SELECT r.run_uuid, r.artifact_uri, r.experiment_id FROM runs r JOIN tags t USING (run_uuid)"
    " WHERE t.key = 'sweep_uid' AND t.value = ?"
)


def _delete_local(db: sqlite3.Connection, runs: Sequence[tuple[str, str, int]], root: Path) -> None:
    """Deletes runs by SQL; `mlflow gc` takes 42 s for a thousand.

    Args:
        runs: id, address of the artifacts and experiment of each.
        root: the store's own folder of artifacts. No address in the database says what is removed.
    """
    with contextlib.ExitStack() as stack:
        artifacts = stack.enter_context(removal.opened_below(root)) if root.is_dir() else None
        # Files first: a run whose rows are gone is not found again, and its files would stay for ever.
        for run_id, _, experiment in runs:
            if artifacts is not None:
                _remove_files(artifacts, experiment, run_id)
        with transaction(db):
            _delete_rows(db, [run_id for run_id, _, _ in runs])
            emptied = [one for one in {experiment for _, _, experiment in runs} if _delete_if_empty(db, one)]
        for experiment in emptied:
            if artifacts is not None:
                artifacts.remove_empty(str(int(experiment)))
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


def _delete_if_empty(db: sqlite3.Connection, experiment: int) -> bool:
    """Deletes the experiment where nothing is left in it; whether it did."""
    held = any(
        db.execute(f'SELECT 1 FROM "{table}" WHERE "{column}" = ? LIMIT 1', (experiment,)).fetchone()
        for table, column in _pointing_at(db, "experiments")
        if table != "experiment_tags"
    )
    if held or experiment == DEFAULT_EXPERIMENT:
        return False
    db.execute("DELETE FROM experiment_tags WHERE experiment_id = ?", (experiment,))
    return db.execute("DELETE FROM experiments WHERE experiment_id = ?", (experiment,)).rowcount > 0


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


def _remove_files(artifacts: Folder, experiment: int, run_id: str) -> None:
    """Removes the folder of a run, which the store's own folder, the experiment's number and the run's id name."""
    if not RUN_ID.fullmatch(run_id):
        return
    with contextlib.suppress(FileNotFoundError), artifacts.inside(str(int(experiment))) as of_experiment:
        of_experiment.remove_tree(run_id, _is_of_a_run)


def _is_of_a_run(folder: Folder) -> bool:
    """Whether a folder is one of a run as MLflow lays it out: it holds nothing beside the artifacts."""
    return set(folder.names()) <= {ARTIFACTS}


def _is_at_home(root: Path, experiment: int, run_id: str, artifact_uri: str | None) -> bool:
    """Whether a run keeps its artifacts in the store's own folder, or has none."""
    folder = local_folder(artifact_uri or "")
    return not artifact_uri or folder == Path(root, str(experiment), run_id, ARTIFACTS)
