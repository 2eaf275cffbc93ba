"""The tables of a local MLflow store: whether we can write them, which version they are of, and how a new store is made."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from orchestrator.base import removal
from orchestrator.base.layout import MLFLOW_DATABASE
from orchestrator.base.locks import folder_locked
from orchestrator.base.processes import python
from orchestrator.journal.file import on_network_file_system
from orchestrator.stores.runs import UnavailableError

CREATE_TIMEOUT_S = 300.0
BUSY_TIMEOUT_S = 20.0
"""How long a connection waits for another one's transaction."""

COLUMNS = {
    "experiments": "experiment_id* INTEGER, name VARCHAR, artifact_location VARCHAR, lifecycle_stage VARCHAR,"
    " creation_time BIGINT, last_update_time BIGINT",
    "experiment_tags": "key* VARCHAR, value TEXT, experiment_id* INTEGER",
    "runs": "run_uuid* VARCHAR, name VARCHAR, source_type VARCHAR, source_name VARCHAR, entry_point_name VARCHAR,"
    " user_id VARCHAR, status VARCHAR, start_time BIGINT, end_time BIGINT, source_version VARCHAR,"
    " lifecycle_stage VARCHAR, artifact_uri VARCHAR, experiment_id INTEGER",
    "tags": "key* VARCHAR, value VARCHAR, run_uuid* VARCHAR",
    "params": "key* VARCHAR, value VARCHAR, run_uuid* VARCHAR",
    "metrics": "key* VARCHAR, value* FLOAT, timestamp* BIGINT, run_uuid* VARCHAR, step* BIGINT, is_nan* BOOLEAN",
    "latest_metrics": "key* VARCHAR, value FLOAT, timestamp BIGINT, step BIGINT, is_nan BOOLEAN, run_uuid* VARCHAR",
    "datasets": "dataset_uuid VARCHAR, experiment_id* INTEGER, name* VARCHAR, digest* VARCHAR, dataset_source_type VARCHAR,"
    " dataset_source TEXT, dataset_schema TEXT, dataset_profile TEXT",
    "inputs": "input_uuid VARCHAR, source_type* VARCHAR, source_id* VARCHAR, destination_type* VARCHAR,"
    " destination_id* VARCHAR, step BIGINT",
    "input_tags": "input_uuid* VARCHAR, name* VARCHAR, value VARCHAR",
}
"""The columns that our SQL names; `*` marks those of the primary key, on which `ON CONFLICT` and `OR IGNORE` rely."""

WRITTEN = {*COLUMNS, "logged_models", "model_versions"}
"""The tables that we write to; a deletion also reaches those that refer to them."""

SCHEMA = Path(__file__).with_name("mlflow_schema.sql")
"""MLflow's tables as its own migrations leave them, written by `python -m orchestrator.stores.copy_schema`; see `_fill`."""

_UNFINISHED = ".mlflow-new-"
_CREATE = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("sqlite:///" + sys.argv[1], sys.argv[2]).engine.dispose()
"""


def fits(path: Path) -> bool:
    """Whether our SQL fits the tables of this store, whatever version of MLflow made it.

    Each column that we name is there with its type and place in the key, and any other has a default or may be null.

    Raises:
        UnavailableError: the file is not an MLflow store.
    """
    if revision(path) is None:
        return False
    with unavailable_if_it_fails(f"{path} is not an MLflow store"), contextlib.closing(connect(path)) as db:
        return all(_table_fits(db, table, columns) for table, columns in COLUMNS.items())


def _table_fits(db: sqlite3.Connection, table: str, columns: str) -> bool:
    wanted = dict(column.split() for column in columns.split(", "))
    found, ours = {}, {name.rstrip("*") for name in wanted}
    for _, name, kind, not_null, default, key in db.execute(f'PRAGMA table_info("{table}")'):
        if name in ours:
            found[f"{name}*" if key else name] = kind.partition("(")[0]
        elif key or (not_null and default is None):
            return False
    return found == wanted


def revision(path: Path) -> str | None:
    """The schema revision of a store; None where there is no file, or an empty one.

    Raises:
        UnavailableError: the file is not an MLflow store.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    with unavailable_if_it_fails(f"{path} is not an MLflow store"), contextlib.closing(connect(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            return None
        row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise UnavailableError(f"{path} is not an MLflow store (no schema version)")
    return str(row[0])


def other_version(path: Path) -> str | None:
    """What to do where the installed MLflow cannot open this store; None where it can, or there is none yet."""
    found, head = revision(path), head_revision()
    if found in (None, head):
        return None
    return (
        f"{path} is an MLflow store of another version (schema {found}, MLflow {importlib.metadata.version('mlflow')} has"
        f" {head}); make a copy, then run: mlflow db upgrade sqlite:///{path}"
    )


def head_revision() -> str:
    """The schema revision of the installed MLflow, read from its migrations, since importing it takes seconds."""
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    texts = [path.read_text() for path in Path(spec.origin).parent.glob("store/db_migrations/versions/*.py")]
    named = [set(re.findall(rf'^{name} *= *"(\w+)"', "\n".join(texts), re.M)) for name in ("revision", "down_revision")]
    (head,) = named[0] - named[1]
    return str(head)


def create(path: Path, artifact_root: Path) -> None:
    """Makes the store where there is none, whole or not at all; several processes may do so at once.

    Raises:
        UnavailableError: the folder cannot be written, or MLflow fails.
    """
    if revision(path) is not None:
        return
    with unavailable_if_it_fails(f"the MLflow store {path} cannot be created"), folder_locked(path.parent):
        removal.remove_abandoned(path.parent, _UNFINISHED)  # this process holds the lock
        if revision(path) is not None:
            return
        with removal.temporary_folder(path.parent, _UNFINISHED) as folder:
            new = folder / MLFLOW_DATABASE
            _fill(new)
            _adapt(new, artifact_root, write_ahead=not on_network_file_system(path))
            _place(new, path)


def _fill(new: Path) -> None:
    """Makes the tables: from our copy of them, or by MLflow where another version than the copy's is installed."""
    schema = SCHEMA.read_text()
    if schema.startswith(heading()):
        with contextlib.closing(sqlite3.connect(new)) as db:
            db.executescript(schema)
    else:
        let_mlflow_create(new)


def heading() -> str:
    """The first line of a copy that is of the installed MLflow."""
    return f"-- The empty SQLite store of MLflow {importlib.metadata.version('mlflow')}, schema {head_revision()}.\n"


def let_mlflow_create(new: Path) -> None:
    """MLflow makes its database in a process of its own, which gives back the 220 MB that MLflow takes; it costs 10 s of CPU.

    Raises:
        OSError: MLflow fails.
    """
    result = subprocess.run(
        python("-W", "ignore", "-c", _CREATE, str(new), str(new.parent / "artifacts")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=CREATE_TIMEOUT_S,
        check=False,
    )
    if result.returncode != 0:
        raise OSError(f"MLflow fails: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")


def _adapt(new: Path, artifact_root: Path, *, write_ahead: bool) -> None:
    """Gives MLflow's own experiment its folder, and lets readers and the writer go on without waiting for each other."""
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        now_ms = int(time.time() * 1000)
        db.execute(
            "UPDATE experiments SET artifact_location = ?, creation_time = ?, last_update_time = ?",
            (str(artifact_root / "0"), now_ms, now_ms),
        )
        db.execute(f"PRAGMA journal_mode = {'WAL' if write_ahead else 'DELETE'}")


def _place(new: Path, path: Path) -> None:
    """Moves the store to where it belongs, unless some program that knows no lock of ours has made one there."""
    try:
        os.link(new, path)
    except FileExistsError:
        if path.stat().st_size == 0:
            os.replace(new, path)
    except OSError:  # a file system without links
        os.replace(new, path)


def connect(path: Path, *, write: bool = False, timeout_s: float | None = None) -> sqlite3.Connection:
    """A connection to an existing store, to read it unless `write` is asked for.

    Args:
        timeout_s: how long to wait for another connection's transaction; `BUSY_TIMEOUT_S` where absent.

    Raises:
        sqlite3.Error: it cannot be opened; or it is to be written, and has triggers.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode={'rw' if write else 'ro'}"
    timeout_s = BUSY_TIMEOUT_S if timeout_s is None else timeout_s
    db = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)
    try:
        db.execute("PRAGMA foreign_keys = ON")
        if write and (triggers := triggers_in_reach(db)):
            raise sqlite3.DatabaseError(
                f"it has a trigger, {triggers[0]!r:.80}, that MLflow never makes and that would act on what is written; drop it"
            )
    except BaseException:
        db.close()
        raise
    return db


def triggers_in_reach(db: sqlite3.Connection) -> list[str]:
    """The triggers on tables that we write to, or that refer to those; MLflow has none there."""
    found = []
    for name, table in db.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        above = {row[0] for row in db.execute('SELECT "table" FROM pragma_foreign_key_list(?)', (table,))}
        if table in WRITTEN or above & WRITTEN:
            found.append(str(name))
    return found


@contextlib.contextmanager
def unavailable_if_it_fails(what: str) -> Iterator[None]:
    """Turns what SQLite and the file system raise into an `UnavailableError` that begins with `what`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UnavailableError(f"{what} ({error})") from error
