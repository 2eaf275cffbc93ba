"""Keeps a runs folder and its MLflow store one: gives both an identity, and follows the folder where it was moved.

MLflow stores absolute addresses of artifacts. The first command that writes after a move rewrites those that lie below the old
place, in one transaction; until then readers map them (`address_now`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from orchestrator.base import removal
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import MLFLOW_ARTIFACTS, MLFLOW_DATABASE, STORE_MARK
from orchestrator.base.locks import folder_locked
from orchestrator.journal.marking import write_mark
from orchestrator.journal.place import (
    CopyError,
    Identity,
    Place,
    Situation,
    Standing,
    adopt_command,
    as_if_from,
    check_sweep,
    look,
    own_addresses,
    read_sweep_mark,
    refuse_copy,
)
from orchestrator.stores.runs import STORE_ID_TAG, UnavailableError, local_folder
from orchestrator.stores.schema import connect, revision, unavailable_if_it_fails
from orchestrator.stores.sqlite import transaction

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""(table, column) of every address of artifacts that MLflow stores."""


def settle(runs_dir: Path) -> Identity:
    """The identity of a runs folder that is about to be written to; brought up to date where the folder was moved.

    Raises:
        CopyError: it is a copy, or its MLflow store belongs to another folder.
        NotReadyError: the folder or its store cannot be written, or its identity is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:  # two drivers that begin at once in a new folder agree on one identity
            stack.enter_context(folder_locked(runs_dir))
        except OSError as error:
            raise NotReadyError(f"{runs_dir} cannot be opened ({error.strerror})") from error
        path = runs_dir.resolve() / MLFLOW_DATABASE
        situation = refuse_copy(runs_dir)
        store_id = _id_of_store(runs_dir)
        if situation.identity is None and store_id is not None:
            situation = _with_homes_of_store(runs_dir, situation, store_id)
        assert situation.here is not None
        identity = situation.identity or Identity(store_id or secrets.token_hex(16), situation.here)
        if store_id not in (None, identity.id):
            raise CopyError(
                f"the MLflow store {path} belongs to another runs folder (its id is {store_id}, that of this one {identity.id});"
                f" put the right one in its place, or give the folder an identity of its own:  {adopt_command(runs_dir)}"
            )
        if situation.standing is not Standing.HOME:
            if situation.homes:
                rewrite_addresses(runs_dir, situation.homes)
            write_identity(runs_dir, _updated(identity, situation))
    return identity


def settle_sweep(folder: Path) -> Identity:
    """The identity of the runs folder of a sweep that is about to be written to; see `settle`.

    Raises:
        CopyError: also where the sweep's folder is not this runs folder's own.
        NotReadyError: as `settle`.
    """
    identity = settle(folder.parent)
    check_sweep(folder, identity.id)
    if not read_sweep_mark(folder).get("store") and os.access(folder, os.W_OK):
        with removal.opened_below(folder) as opened:
            write_mark(opened, folder.name, identity.id)
    return identity


def write_identity(runs_dir: Path, identity: Identity) -> None:
    """Writes `store.json`, whole or not at all.

    Raises:
        NotReadyError: it cannot be written.
    """
    try:
        with removal.opened(runs_dir) as folder:
            folder.write(STORE_MARK, identity.to_json())
    except OSError as error:
        raise NotReadyError(f"{runs_dir / STORE_MARK} cannot be written ({error.strerror or error})") from error


def rewrite_addresses(runs_dir: Path, homes: tuple[str, ...]) -> int:
    """Points the artifacts that lay below earlier homes of the folder to where they lie now; how many addresses that were.

    Raises:
        NotReadyError: the store cannot be written.
    """
    path = runs_dir / MLFLOW_DATABASE
    count = 0
    try:
        if revision(path) is None:
            return 0
        with (
            unavailable_if_it_fails(f"the MLflow store {path} cannot be written"),
            contextlib.closing(connect(path, write=True)) as db,
            transaction(db),
        ):
            for table, column in _there(db):
                for before, now in own_addresses(homes, runs_dir.resolve()):
                    count += db.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                        f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    ).rowcount
    except UnavailableError as error:
        raise NotReadyError(str(error)) from error
    return count


def earlier_homes(runs_dir: Path) -> tuple[str, ...]:
    """Where a folder lay before, as far as it can be told."""
    try:
        return look(runs_dir).homes
    except NotReadyError:
        return ()


def address_now(address: str, homes: tuple[str, ...], runs_dir: Path) -> str:
    """An address of the store as it will be once the folder is settled; for readers."""
    for before, now in own_addresses(homes, runs_dir.resolve()):
        if address == before or address.startswith(f"{before}/"):
            return now + address.removeprefix(before)
    return address


def _updated(identity: Identity, situation: Situation) -> Identity:
    assert situation.here is not None
    if situation.identity is None:
        lay = tuple(Place(0, 0, home) for home in situation.homes)
        return Identity(identity.id, situation.here, lay)
    return identity.moved_to(situation.here)


def _id_of_store(runs_dir: Path) -> str | None:
    """The id with which the folder's own MLflow store is tagged; None where there is no store, or no tag.

    Raises:
        CopyError: experiments of several folders are in it.
        NotReadyError: it cannot be read.
    """
    path = runs_dir / MLFLOW_DATABASE
    try:
        if revision(path) is None:
            return None
        with (
            unavailable_if_it_fails(f"the MLflow store {path} cannot be read"),
            contextlib.closing(connect(path)) as db,
        ):
            rows = db.execute("SELECT DISTINCT value FROM experiment_tags WHERE key = ?", (STORE_ID_TAG,)).fetchall()
    except UnavailableError as error:
        raise NotReadyError(f"{error}; move the file away or set tracking.uri") from error
    if len(rows) > 1:
        raise CopyError(
            f"the MLflow store {path} has experiments of several runs folders ({', '.join(str(row[0]) for row in rows)}); give"
            f" this one an identity of its own:  {adopt_command(runs_dir)}"
        )
    return str(rows[0][0]) if rows else None


def _with_homes_of_store(runs_dir: Path, situation: Situation, store_id: str) -> Situation:
    """The situation of a folder whose `store.json` was lost: the store's addresses say where it lay.

    Raises:
        CopyError: a folder of this id lies there.
    """
    assert situation.here is not None
    path = runs_dir / MLFLOW_DATABASE
    query = (
        "SELECT experiment_id, artifact_location FROM experiments JOIN experiment_tags t USING (experiment_id)"
        " WHERE t.key = ?"
    )
    with contextlib.closing(connect(path)) as db:
        rows = db.execute(query, (STORE_ID_TAG,)).fetchall()
    homes = list(situation.homes)
    for experiment, address in rows:
        home = str(local_folder(address or "") or "").removesuffix(f"/{MLFLOW_ARTIFACTS}/{experiment}")
        if os.path.isabs(home) and home not in (situation.here.path, *homes):
            homes.append(home)
            refuse_copy(runs_dir, as_if_from(situation, home, store_id))
    return replace(situation, homes=tuple(homes))


def _there(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Those of `ADDRESSES` that a store of this version of MLflow has."""
    for table, column in ADDRESSES:
        if any(row[1] == column for row in db.execute(f'PRAGMA table_info("{table}")').fetchall()):
            yield table, column
