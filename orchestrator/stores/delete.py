"""Deletes a sweep's runs: for good from a local store, through its API from any other."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from orchestrator.base import removal
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import ARTIFACTS, MLFLOW_ARTIFACTS, MLFLOW_DATABASE
from orchestrator.base.removal import Folder
from orchestrator.base.secrets import redact
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.place import SQLITE
from orchestrator.stores.client import ClientStore
from orchestrator.stores.holding import check_holder
from orchestrator.stores.opening import local_path, store_settings
from orchestrator.stores.runs import HOLDER_TAG, VIEW_TAG, RefusedError, UnavailableError, local_folder
from orchestrator.stores.schema import connect, fits
from orchestrator.stores.sqlite import derived_run_id, transaction

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
                own = _is_own(path, sweep_folder)
                if not own:
                    check_holder(_holder(db, uid), sweep_folder.parent, uid)
                runs, root = _runs(db, uid), path.parent / MLFLOW_ARTIFACTS
                elsewhere = [run.artifact_uri for run in runs if not _is_at_home(root, run, own=own)]
                delete = partial(_delete_local, db, runs, root, uid=uid, own=own)
                yield TrackedRuns(where, len(runs), delete, elsewhere=elsewhere)
        else:
            with contextlib.closing(ClientStore(uri, str(experiment))) as store:
                found = [run for run in store.runs(uid) if not run.deleted]
                for run in found:
                    if run.tags.get("kind") == "sweep":
                        check_holder(run.tags.get(HOLDER_TAG), sweep_folder.parent, uid)
                ids = [run.run_id for run in found]
                delete = partial(_delete_elsewhere, store, ids, uid)
                yield TrackedRuns(where, len(ids), delete, for_good=False)
    except (UnavailableError, RefusedError, sqlite3.Error, OSError, removal.RefusedRemovalError) as error:
        raise NotReadyError(f"the MLflow runs in {where} cannot be deleted now: {error}") from error


def forget_sweep(path: Path, uid: str) -> None:
    """Deletes the runs of a sweep from a local store, with their files in the store's own folder."""
    with contextlib.closing(connect(path, write=True)) as db:
        _delete_local(db, _runs(db, uid), path.parent / MLFLOW_ARTIFACTS, uid=uid, own=True)


def _delete_elsewhere(store: ClientStore, run_ids: Sequence[str], uid: str) -> None:
    store.delete(run_ids)
    store.untag_experiment(VIEW_TAG + uid)


class _Run(NamedTuple):
    """A run in a local store; `uid` is the trial's, or the sweep's."""

    run_id: str
    artifact_uri: str
    experiment: int
    uid: str


def _runs(db: sqlite3.Connection, sweep_uid: str) -> list[_Run]:
    return [_Run(*row) for row in db.execute(_SELECT_RUNS, (sweep_uid,)).fetchall()]


def _holder(db: sqlite3.Connection, sweep_uid: str) -> str | None:
    query = (
        "SELECT h.value FROM tags h JOIN tags s ON s.run_uuid = h.run_uuid AND s.key = 'sweep_uid' AND s.value = ?"
        " WHERE h.key = ?"
    )
    row = db.execute(query, (sweep_uid, HOLDER_TAG)).fetchone()
    return row and str(row[0])


def _is_own(path: Path, sweep_folder: Path) -> bool:
    """Whether a database is that of the sweep's own runs folder."""
    return path.resolve() == sweep_folder.resolve().parent / MLFLOW_DATABASE


_SELECT_RUNS = (
    "SELECT r.run_uuid, r.artifact_uri, r.experiment_id, coalesce(trial.value, t.value) FROM runs r JOIN tags t USING (run_uuid)"
    " LEFT JOIN tags trial ON trial.run_uuid = r.run_uuid AND trial.key = 'trial_uid'"
    " WHERE t.key = 'sweep_uid' AND t.value = ?"
)


def _delete_local(db: sqlite3.Connection, runs: Sequence[_Run], root: Path, *, uid: str, own: bool) -> None:
    """Deletes a sweep's runs and its view by SQL; `mlflow gc` takes 42 s for a thousand.

    Args:
        root: the store's own folder of artifacts. No address in the database says what is removed.
        own: it is the store of the sweep's runs folder. The journal alone names any other: there only the folders of runs go
            whose ids follow from the sweep's, so that no journal can name those of somebody else.
    """
    with contextlib.ExitStack() as stack:
        artifacts = stack.enter_context(removal.opened_below(root)) if root.is_dir() else None
        # Files first: a run whose rows are gone is not found again, and its files would stay for ever.
        for run in runs:
            if artifacts is not None and (own or _is_derived(run)):
                _remove_files(artifacts, run)
        with transaction(db):
            _delete_rows(db, [run.run_id for run in runs])
            db.execute("DELETE FROM experiment_tags WHERE key = ?", (VIEW_TAG + uid,))
            emptied = [one for one in {run.experiment for run in runs} if _delete_if_empty(db, one)]
        for experiment in emptied:
            if artifacts is not None:
                artifacts.remove_empty(str(experiment))
    _shrink(db)


def _delete_rows(db: sqlite3.Connection, run_ids: Sequence[str]) -> None:
    db.execute("CREATE TEMP TABLE gone (run_uuid PRIMARY KEY)")
    db.executemany("INSERT INTO gone VALUES (?)", [(run_id,) for run_id in run_ids])
    for table, column in _pointing_at(db, "runs"):
        db.execute(f'DELETE FROM "{table}" WHERE "{column}" IN gone')
    # Tables without a foreign key: the data sets that a run was given.
    given = "inputs WHERE source_id IN gone OR destination_id IN gone"
    of_data = f"dataset_uuid IN (SELECT source_id FROM {given})"
    touched = db.execute(f"SELECT dataset_uuid FROM datasets WHERE {of_data}").fetchall()
    db.execute(f"DELETE FROM input_tags WHERE input_uuid IN (SELECT input_uuid FROM {given})")
    db.execute(f"DELETE FROM {given}")
    unused = "dataset_uuid = ? AND NOT EXISTS (SELECT 1 FROM inputs WHERE source_id = dataset_uuid)"
    db.executemany(f"DELETE FROM datasets WHERE {unused}", touched)
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


def _remove_files(artifacts: Folder, run: _Run) -> None:
    """Removes the folder of a run, which the store's own folder, the experiment's number and the run's id name."""
    if not RUN_ID.fullmatch(str(run.run_id)) or not str(run.experiment).isdecimal():
        return
    with contextlib.suppress(FileNotFoundError), artifacts.inside(str(run.experiment)) as of_experiment:
        of_experiment.remove_tree(run.run_id, _is_of_a_run)


def _is_derived(run: _Run) -> bool:
    return run.run_id == derived_run_id(run.experiment, run.uid)


def _is_of_a_run(folder: Folder) -> bool:
    """Whether a folder is one of a run as MLflow lays it out: it holds nothing beside the artifacts."""
    return set(folder.names()) <= {ARTIFACTS}


def _is_at_home(root: Path, run: _Run, *, own: bool) -> bool:
    """Whether the artifacts of a run lie where they are removed, or it has none."""
    folder = local_folder(run.artifact_uri or "")
    home = Path(root, str(run.experiment), str(run.run_id), ARTIFACTS)
    return not run.artifact_uri or (folder == home and (own or _is_derived(run)))
