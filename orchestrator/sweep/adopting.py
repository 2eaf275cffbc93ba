"""Gives a copy of sweeps an identity of its own: `orchestrator adopt FOLDER`. The original is not touched.

What each sweep will be called is written down first (`adopting.json`); every step after that may be done again, so that the
same command finishes what was cut off. The runs in the copy's own MLflow store are shipped anew from the journals, under the new
names, and those under the old ones go; tags that people added to them come along.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.base import removal
from orchestrator.base.decode import read_json
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import (
    ADOPTING,
    CURSOR,
    JOURNAL,
    JOURNAL_COMPANIONS,
    LOCK,
    MLFLOW_DATABASE,
    STORE_MARK,
    TEMPORARY,
    TRACKER_LOCK,
    TRACKING,
    UID,
)
from orchestrator.base.locks import hold
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import Folder
from orchestrator.journal.cursor import ship_lock
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.file import Reader, checksum
from orchestrator.journal.finding import sweeps_in
from orchestrator.journal.marking import write_mark
from orchestrator.journal.place import (
    HERE,
    SQLITE,
    STORE_ID,
    CopyError,
    Identity,
    Standing,
    adopt_command,
    check_sweep,
    located_file,
    located_tracking,
    look,
    place_of,
    read_identity,
    written_path,
    written_tracking,
)
from orchestrator.stores.delete import forget_sweep
from orchestrator.stores.runs import HOLDER_TAG, STORE_ID_TAG, UnavailableError
from orchestrator.stores.schema import connect, fits
from orchestrator.stores.settling import rewrite_addresses, settle, write_identity
from orchestrator.stores.sqlite import transaction
from orchestrator.tracking.shipper import Shipper

DEFAULT_TRACKING = "orchestrator.config.settings.LocalTracking"
FORMAT = 1


@dataclass(frozen=True)
class _Renamed:
    """One sweep: the folder in which it was found, the identity by its journal, and the new one."""

    folder: str
    uid: str
    new: str


@dataclass(frozen=True)
class _Plan:
    """What is being done.

    Args:
        store: the id of the runs folder from now on.
        homes: where the folder, or what it is a copy of, lay before; addresses below these are rewritten. None of a single sweep.
        sweeps: each that gets a new identity.
    """

    store: str
    homes: tuple[str, ...] | None
    sweeps: tuple[_Renamed, ...]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"


def adopt(folder: Path, *, anyway: bool = False, say: Callable[[str], None] = print) -> None:
    """Gives a copied runs folder, or one copied sweep in a runs folder, an identity of its own.

    Args:
        anyway: also where the folder does not look like a copy.

    Raises:
        ConfigError: there is nothing to adopt.
        RunningElsewhereError: a driver or a tracker works on one of the sweeps.
        NotReadyError: a file cannot be read or written; the same command goes on from there.
    """
    folder = folder.resolve()
    single = folder if (folder / JOURNAL).is_file() else None
    runs_dir = folder.parent if single else folder
    try:
        with removal.opened(runs_dir) as opened:
            plan = _read_plan(runs_dir) or _make_plan(runs_dir, single, anyway=anyway)
            for name in (MLFLOW_DATABASE, f"{MLFLOW_DATABASE}-wal", f"{MLFLOW_DATABASE}-shm") if not single else ():
                opened.make_own(name)
            opened.write(ADOPTING, plan.to_json())
            for sweep in plan.sweeps:
                _rename_sweep(opened, sweep, plan)
            if plan.homes is not None:
                _settle_store(runs_dir, plan)
            for sweep in plan.sweeps:
                _ship_anew(runs_dir / sweep.new, sweep)
                say(f"{sweep.uid} is now {sweep.new}")
            opened.remove_file(ADOPTING)
    except (OSError, sqlite3.Error, UnavailableError) as error:
        again = f"run `{adopt_command(folder)}` again"
        raise NotReadyError(f"{folder} could not be adopted to the end ({error}); {again}") from error
    count = len(plan.sweeps)
    say(f"{runs_dir} has {count} sweep{'s' if count != 1 else ''} of its own")


def _read_plan(runs_dir: Path) -> _Plan | None:
    """What an earlier call had begun; None where there is none."""
    path = runs_dir / ADOPTING
    try:
        data = read_json(read_regular(path))
        sweeps = tuple(_Renamed(one["folder"], one["uid"], one["new"]) for one in data["sweeps"])
        store, homes = data["store"], data["homes"]
        whole = STORE_ID.fullmatch(store) and (homes is None or isinstance(homes, list))
        whole = whole and all(os.path.isabs(home) for home in homes or ())
        whole = (
            whole
            and all(UID.fullmatch(one.new) and "/" not in one.folder for one in sweeps)
            and data["format"] == FORMAT
        )
        if not whole:
            raise ValueError("its names are none")
        return _Plan(store, None if homes is None else tuple(homes), sweeps)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NotReadyError(
            f"{path} is damaged ({error}); remove the folder and make the copy again, then adopt it"
        ) from error


def _make_plan(runs_dir: Path, single: Path | None, *, anyway: bool) -> _Plan:
    if single is not None:
        identity = settle(runs_dir)
        if not anyway and _is_own(single, identity):
            raise _no_copy(single)
        return _Plan(identity.id, None, tuple(_renamed([single])))
    sweeps = sweeps_in(runs_dir)
    if not sweeps and not (runs_dir / STORE_MARK).exists():
        raise ConfigError(Problem("FOLDER", "holds no sweep; name a copied runs folder, or a copied sweep", runs_dir))
    situation = look(runs_dir)
    if not anyway and situation.standing is not Standing.COPY and _has_own_store(runs_dir):
        raise _no_copy(runs_dir)
    homes = tuple(dict.fromkeys(filter(None, (situation.original, *situation.homes))))
    return _Plan(secrets.token_hex(16), homes, tuple(_renamed(sweeps)))


def _no_copy(folder: Path) -> ConfigError:
    why = "is no copy, as far as can be told here; --yes gives it a new identity all the same"
    return ConfigError(Problem("FOLDER", why, folder))


def _is_own(sweep: Path, identity: Identity) -> bool:
    try:
        check_sweep(sweep, identity.id)
    except CopyError:
        return False
    return True


def _has_own_store(runs_dir: Path) -> bool:
    try:
        settle(runs_dir)
    except CopyError:
        return False
    return True


def _renamed(folders: Sequence[Path]) -> Iterator[_Renamed]:
    for folder in folders:
        opening = _opening(folder)
        yield _Renamed(folder.name, opening.uid, f"{opening.uid.rsplit('-', 1)[0]}-{secrets.token_hex(4)}")


def _opening(folder: Path) -> SweepOpened:
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        opening = reader.opened()
    if opening is None:
        raise NotReadyError(f"the journal of {folder} is empty; remove that folder from the copy")
    return opening


# a sweep's folder ---------------------------------------------------------------------------------------------------


def _rename_sweep(runs_dir: Folder, sweep: _Renamed, plan: _Plan) -> None:
    """Its journal names the new identity, its cursor begins anew, its folder has the new name."""
    if sweep.new in runs_dir.names():
        return
    with runs_dir.inside(sweep.folder) as folder:
        for name in (JOURNAL, *JOURNAL_COMPANIONS, LOCK):
            folder.make_own(name)
        with contextlib.suppress(FileNotFoundError), folder.inside(TRACKING) as tracking:
            for name in (CURSOR, TRACKER_LOCK):
                tracking.make_own(name)
        with hold(folder.path / LOCK, f"adopts sweep {sweep.folder}"), ship_lock(folder.path):
            if _opening(folder.path).uid != sweep.new:
                _rewrite_journal(folder, sweep)
            with contextlib.suppress(FileNotFoundError), folder.inside(TRACKING) as tracking:
                tracking.remove_file(CURSOR)
            write_mark(folder, sweep.new, plan.store)
            runs_dir.rename(sweep.folder, sweep.new)


def _rewrite_journal(folder: Folder, sweep: _Renamed) -> None:
    """Puts a journal with the new identity in the place of the one there."""
    path, aside = folder.path / JOURNAL, f"{JOURNAL}{TEMPORARY}"
    folder.remove_file(aside)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")  # what waits in the write-ahead file must not meet the new journal
        opening = _opening(folder.path)
        with contextlib.closing(sqlite3.connect(folder.path / aside)) as new:
            db.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")
            rows = new.execute("SELECT seq, time_ms, kind, trial, attempt, data FROM events").fetchall()
            for seq, time_ms, kind, trial, attempt, text in rows:
                data = _with_identity(kind, json.loads(text), opening, folder.path, sweep)
                text = json.dumps(data, separators=(",", ":"), allow_nan=False)
                crc = checksum(seq, time_ms, kind, trial, attempt, text)
                new.execute("UPDATE events SET data = ?, crc = ? WHERE seq = ?", (text, crc, seq))
            new.commit()
    with open(folder.path / aside, "rb") as file:
        os.fsync(file.fileno())
    for name in JOURNAL_COMPANIONS:
        folder.remove_file(name)
    folder.rename(aside, JOURNAL)


def _with_identity(
    kind: str, data: dict[str, Any], opening: SweepOpened, folder: Path, sweep: _Renamed
) -> dict[str, Any]:
    """The data of an event with the new identity: paths relative, and the runs folder's own store for any other."""
    if kind == "sweep_opened":
        data |= {"uid": sweep.new, "first_uid": opening.uid_in_files, "folder": HERE}
        data["tracking"] = _own_tracking(opening, folder)
    if kind in ("sweep_opened", "sweep_resumed") and _is_elsewhere(opening, folder):
        if data.get("plan"):
            spec = {"_target_": DEFAULT_TRACKING, "uri": None, "artifacts": None, "experiment": None}
            data["plan"] = json.dumps({**json.loads(data["plan"]), "tracking": spec})
        if request := data.get("request"):
            kept = [text for text in request.get("overrides") or () if text.split("=")[0].split(".")[0] != "tracking"]
            data["request"] = {**request, "overrides": kept}
    if kind == "published":
        run, slash, index = str(data["run"]).partition("/")
        data["run"] = f"{sweep.new if run == opening.uid else run}{slash}{index}"
    for key in ("artifacts", "weights"):
        if kind in ("terminal", "sweep_closed") and data.get(key):
            data[key] = [
                {**one, "path": written_path(located_file(one["path"], folder, opening), folder)} for one in data[key]
            ]
    return data


def _own_tracking(opening: SweepOpened, folder: Path) -> Mapping[str, Any]:
    if not _is_elsewhere(opening, folder):
        return written_tracking(located_tracking(opening, folder), folder.parent)
    return {"kind": "local", "experiment": opening.tracking.get("experiment"), "required": True}


def _is_elsewhere(opening: SweepOpened, folder: Path) -> bool:
    """Whether the sweep was shipped to a store outside of its runs folder, which stays the original's."""
    settings = located_tracking(opening, folder)
    uri = str(settings.get("uri") or "")
    return settings.get("kind") != "none" and uri != f"{SQLITE}{folder.parent / MLFLOW_DATABASE}"


# the store ----------------------------------------------------------------------------------------------------------


def _settle_store(runs_dir: Path, plan: _Plan) -> None:
    """The store's addresses lead here, and it and the folder carry the new id."""
    path = runs_dir / MLFLOW_DATABASE
    if path.exists() and not fits(path):
        raise NotReadyError(
            f"{path} is an MLflow store of another version; move it and artifacts/ away, then adopt again"
        )
    if path.exists():
        rewrite_addresses(runs_dir, plan.homes or ())
        with contextlib.closing(connect(path, write=True)) as db, transaction(db):
            db.execute("UPDATE experiment_tags SET value = ? WHERE key = ?", (plan.store, STORE_ID_TAG))
    here = place_of(runs_dir)
    assert here is not None
    if (known := read_identity(runs_dir)) is None or known.id != plan.store:
        write_identity(runs_dir, Identity(plan.store, here))


def _ship_anew(folder: Path, sweep: _Renamed) -> None:
    """The sweep's runs under the new name, with what people added to the old ones, which go."""
    opening, path = _opening(folder), folder.parent / MLFLOW_DATABASE
    if opening.tracking.get("kind") == "none" and not path.exists():
        return
    with ship_lock(folder), contextlib.closing(Shipper(folder, log=lambda line: None)) as shipper:
        shipper.ship_everything()
        shipper.end()
    with contextlib.closing(connect(path, write=True)) as db, transaction(db):
        db.execute(_TAGS_OF_PEOPLE, {"old": sweep.uid, "new": sweep.new, "holder": HOLDER_TAG})
    if not any(_is_of(other, sweep.uid) for other in sweeps_in(folder.parent)):
        forget_sweep(path, sweep.uid)  # else they are the runs of the sweep beside, of which this one is a copy


def _is_of(folder: Path, uid: str) -> bool:
    """Whether a folder holds the sweep of this uid, or may hold it: a damaged journal does not say."""
    try:
        return _opening(folder).uid == uid
    except NotReadyError:
        return folder.name == uid


_TAGS_OF_PEOPLE = """
INSERT OR IGNORE INTO tags (key, value, run_uuid)
SELECT theirs.key, theirs.value, new.run_uuid
FROM tags old_name JOIN tags new_name ON new_name.key = old_name.key
    AND new_name.value = :new || substr(old_name.value, length(:old) + 1)
JOIN runs new ON new.run_uuid = new_name.run_uuid
JOIN tags theirs ON theirs.run_uuid = old_name.run_uuid
WHERE theirs.key <> :holder AND (
    old_name.key = 'trial_uid' AND substr(old_name.value, 1, length(:old) + 1) = :old || '/'
    OR old_name.key = 'sweep_uid' AND old_name.value = :old
    AND NOT EXISTS (SELECT 1 FROM tags WHERE run_uuid = old_name.run_uuid AND key = 'trial_uid')
    AND NOT EXISTS (SELECT 1 FROM tags WHERE run_uuid = new_name.run_uuid AND key = 'trial_uid')
)
"""
"""Tags of a run under the old name that its run under the new one has not."""
