"""Which runs folder this is: its identity, and whether it is the original, was moved, or is a copy. Nothing is written here.

A runs folder carries a random id in `store.json`, with the device, inode and path at which it lay when it was last written to;
its MLflow store and its sweeps carry the id, too. Paths in journals are relative to the sweep's folder. Journals of earlier
versions hold absolute ones, which say where their sweep lay then.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.base.decode import read_json
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import (
    ADOPTING,
    JOURNAL,
    MLFLOW_ARTIFACTS,
    MLFLOW_DATABASE,
    STORE_MARK,
    SWEEP_MARK,
)
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import opened
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.file import Reader

FORMAT = 1
SQLITE = "sqlite:///"
HERE = "."
"""What `SweepOpened.folder` is where the paths of a journal are relative."""

STORE_ID = re.compile(r"[0-9a-f]{32}")
"""The identity of a runs folder and its store."""

PLACES_KEPT = 8
"""So many earlier places of a folder are remembered."""


@dataclass(frozen=True)
class Place:
    """Where a folder lies: device and inode, and the path without links."""

    device: int
    inode: int
    path: str

    def is_same(self, other: Place) -> bool:
        """Whether both are one folder. A network file system has a device number of its own on each host."""
        return self.inode == other.inode and (self.device == other.device or self.path == other.path)


@dataclass(frozen=True)
class Identity:
    """What `store.json` says.

    Args:
        id: 32 hexadecimal digits.
        place: where the folder lay when it was written.
        before: where it lay earlier, the newest first.
    """

    id: str
    place: Place
    before: tuple[Place, ...] = ()

    def moved_to(self, place: Place) -> Identity:
        """The same identity at another place."""
        before = [one for one in (self.place, *self.before) if one.path != place.path]
        return Identity(self.id, place, tuple(before[:PLACES_KEPT]))

    def to_json(self) -> str:
        data = {"format": FORMAT, "id": self.id, **asdict(self.place), "before": [asdict(one) for one in self.before]}
        return json.dumps(data, indent=1) + "\n"


class Standing(Enum):
    """How a runs folder stands to what its identity says."""

    NEW = "has no identity yet"
    HOME = "lies where it lay"
    MOVED = "lies elsewhere, and nothing of it where it lay"
    COPY = "the original lies elsewhere"


@dataclass(frozen=True)
class Situation:
    """A runs folder as it is found.

    Args:
        here: where it lies; None where there is no folder yet.
        original: of a copy, where the other one lies.
        homes: where it lay before, by every record; addresses below these are its own.
    """

    standing: Standing
    here: Place | None
    identity: Identity | None = None
    original: str = ""
    homes: tuple[str, ...] = field(default=())


class CopyError(NotReadyError):
    """A runs folder, or a sweep in it, is a copy of another: what is written would be doubled or confused."""


def place_of(folder: Path) -> Place | None:
    """Where a folder lies now; None where there is none."""
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Place(found.st_dev, found.st_ino, str(folder.resolve()))


def read_identity(runs_dir: Path) -> Identity | None:
    """The identity of a runs folder; None where it has none yet.

    Raises:
        NotReadyError: `store.json` is damaged, or of a newer version.
    """
    path = runs_dir / STORE_MARK
    try:
        with opened(runs_dir) as folder:
            text = folder.read(STORE_MARK)
            there = STORE_MARK in folder.names()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not there:
        return None
    try:
        data = json.loads(text or b"")
        if data["format"] != FORMAT:
            raise NotReadyError(f"{path} has format {data['format']!r}; this version reads {FORMAT}")
        if not STORE_ID.fullmatch(data["id"]):
            raise ValueError("its id is none")
        return Identity(data["id"], _place_from(data), tuple(_place_from(one) for one in data.get("before", ())))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotReadyError(
            f"{path} is damaged ({type(error).__name__}: {error}); put a copy of it in its place, or remove it: the folder then"
            " takes the id of its MLflow store, or a new one"
        ) from error


def _place_from(data: Mapping[str, Any]) -> Place:
    place = Place(data["device"], data["inode"], data["path"])
    if type(place.device) is not int or type(place.inode) is not int or not os.path.isabs(place.path):
        raise ValueError("its place is none")
    return place


def look(runs_dir: Path) -> Situation:
    """How a runs folder stands: at home, moved, a copy, or without an identity; only reads.

    Raises:
        NotReadyError: its identity is damaged, or it is just being given one of its own.
    """
    here = place_of(runs_dir)
    if here is None:
        return Situation(Standing.NEW, None)
    if (runs_dir / ADOPTING).exists():
        raise NotReadyError(f"`{adopt_command(runs_dir)}` was cut off; run it again")
    identity = read_identity(runs_dir)
    if identity is None:
        return _look_at_older(runs_dir, here)
    homes = _others(here, [identity.place.path, *(one.path for one in identity.before)])
    known = identity.place
    if known.is_same(here):
        if known.path == here.path or place_of(Path(known.path)) == Place(here.device, here.inode, known.path):
            return Situation(Standing.HOME, here, identity, homes=homes)  # or reached by another path
        return Situation(Standing.MOVED, here, identity, homes=homes)
    twin = _twin(Path(here.path), known) if known.path == here.path else _same_id(Path(known.path), identity.id)
    standing = Standing.COPY if twin else Standing.MOVED
    return Situation(standing, here, identity, twin or "", homes)


def as_if_from(situation: Situation, home: str, store_id: str) -> Situation:
    """The situation of a folder that, as its store says, lay at `home`: a copy where a folder of this id lies there still."""
    twin = _same_id(Path(home), store_id)
    return replace(situation, standing=Standing.COPY, original=twin) if twin else situation


def _same_id(folder: Path, store_id: str) -> str | None:
    """The path of a folder where it exists with this id, or cannot be looked at."""
    try:
        found = read_identity(folder)
    except (OSError, NotReadyError):  # of another user, or damaged: it may be the original
        return str(folder)
    return str(folder) if found is not None and found.id == store_id else None


def _twin(here: Path, known: Place) -> str | None:
    """The original beside a copy that has taken its path (`mv runs old; cp -a old runs`)."""
    with contextlib.suppress(OSError):
        for other in os.scandir(here.parent):
            if other.inode() == known.inode and other.is_dir(follow_symlinks=False):
                found = place_of(Path(other.path))
                if found is not None and found.device == known.device and (Path(other.path) / STORE_MARK).is_file():
                    return other.path
    return None


def _look_at_older(runs_dir: Path, here: Place) -> Situation:
    """A folder that has no identity yet: its journals say where its sweeps lay."""
    homes: list[str] = []
    for folder in runs_dir.glob("*"):
        opening = _opening(folder)
        then = Path(opening.folder) if opening else Path()
        if opening is None or not then.is_absolute() or then.parent == Path(here.path):
            continue
        homes.append(str(then.parent))
        if _is_copy_of(folder, then, opening.uid):
            return Situation(Standing.COPY, here, None, str(then.parent), _others(here, homes))
    return Situation(Standing.NEW, here, None, homes=_others(here, homes))


def _is_copy_of(folder: Path, then: Path, uid: str) -> bool:
    """Whether a journal of the same sweep lies where the sweep began, and is another file."""
    try:
        if os.path.samefile(folder / JOURNAL, then / JOURNAL):
            return False
    except PermissionError:
        return True
    except OSError:
        return False
    other = _opening(then)
    return other is not None and other.uid == uid


def _others(here: Place, paths: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for path in paths if path != here.path))


def _opening(folder: Path) -> SweepOpened | None:
    if not (folder / JOURNAL).is_file():
        return None
    with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder / JOURNAL)) as reader:
        return reader.opened()
    return None


def adopt_command(folder: Path) -> str:
    """What gives a folder an identity of its own, as it is typed."""
    return f"orchestrator adopt {shlex.quote(str(folder))}"


def refuse_copy(runs_dir: Path, situation: Situation | None = None) -> Situation:
    """The situation of a folder that is no copy.

    Raises:
        CopyError: it is one; names both places and the way out.
        NotReadyError: as `look`.
    """
    situation = situation or look(runs_dir)
    if situation.standing is Standing.COPY:
        raise CopyError(
            f"{runs_dir.resolve()} is a copy of {situation.original}: both carry the same identity, and what is written would be"
            f" taken for the other's. Work there, or give the copy an identity of its own:  {adopt_command(runs_dir)}"
        )
    return situation


def note(runs_dir: Path) -> str | None:
    """What a command that only reads says of a folder that is a copy."""
    try:
        situation = look(runs_dir)
    except NotReadyError as error:
        return f"note: {error}"
    if situation.standing is not Standing.COPY:
        return None
    return (
        f"note: {runs_dir} is a copy of {situation.original}; before it is written to, give it an identity of its own:"
        f"  {adopt_command(runs_dir)}"
    )


def check_sweep(folder: Path, store_id: str | None) -> None:
    """Refuses a sweep that is not this folder's own.

    Args:
        store_id: of the runs folder in which it lies.

    Raises:
        CopyError: its folder was renamed or copied, or comes from another runs folder.
    """
    adopt = f"give it an identity of its own:  {adopt_command(folder)}"
    opening, mark = _opening(folder), read_sweep_mark(folder)
    uid = opening.uid if opening else mark.get("uid", folder.name)
    if uid != folder.name:
        raise CopyError(f"{folder} holds the sweep {uid}, renamed or copied; rename it back, or {adopt}")
    if mark.get("store") not in (None, store_id):
        raise CopyError(
            f"{folder} belongs to another runs folder (id {mark['store']}, this one has {store_id}); move it back, or {adopt}"
        )
    then = Path(opening.folder) if opening else Path()
    if not mark and opening and then.is_absolute() and then != folder.resolve() and _is_copy_of(folder, then, uid):
        raise CopyError(f"{folder} is a copy of {then}; work there, or {adopt}")


def read_sweep_mark(folder: Path) -> dict[str, Any]:
    """What `sweep.json` says; empty where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        data = read_json(read_regular(folder / SWEEP_MARK))
        if isinstance(data, dict):
            return data
    return {}


# paths in journals -------------------------------------------------------------------------------------------------


def written_path(path: str | Path, sweep_folder: Path) -> str:
    """How a journal names a file of its sweep: relative to the sweep's folder."""
    return str(Path(path).relative_to(sweep_folder))


def located_file(path: str, sweep_folder: Path, opening: SweepOpened) -> Path:
    """Where a file that the journal names lies now.

    An absolute path, of an earlier version, counts from the sweep's own folder, wherever that lay then.

    Raises:
        NotReadyError: it names a file elsewhere.
    """
    inside = _below_sweep(PurePosixPath(path), opening)
    if inside is None or ".." in inside.parts or "\0" in path:
        raise NotReadyError(
            f"the journal of {sweep_folder} names the file {path!r}, which does not lie in the sweep's folder; it is left alone"
        )
    return sweep_folder / inside


def _below_sweep(path: PurePosixPath, opening: SweepOpened) -> PurePosixPath | None:
    if not path.is_absolute():
        return path
    if os.path.isabs(opening.folder) and path.is_relative_to(opening.folder):
        return path.relative_to(opening.folder)
    homes = [parent for parent in path.parents if parent.name == opening.uid]
    return path.relative_to(homes[0]) if homes else None


def written_tracking(settings: Mapping[str, Any], runs_dir: Path) -> dict[str, Any]:
    """How a journal names a store: what lies in the runs folder is relative to it, and its own store goes without saying."""
    written = dict(settings)
    root = runs_dir.resolve()
    if (uri := str(settings.get("uri") or "")).startswith(SQLITE):
        uri = SQLITE + _relative(Path(uri.removeprefix(SQLITE)), root)
        written["uri"] = uri
        if uri == f"{SQLITE}{MLFLOW_DATABASE}":
            del written["uri"]
    if settings.get("artifacts") and settings.get("kind") == "local":
        written["artifacts"] = _relative(Path(settings["artifacts"]), root)
        if written["artifacts"] == MLFLOW_ARTIFACTS and "uri" not in written:
            del written["artifacts"]
    return written


def _relative(path: Path, root: Path) -> str:
    path = path.parent.resolve() / path.name
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def located_tracking(opening: SweepOpened, sweep_folder: Path) -> dict[str, Any]:
    """The `tracking` settings of a sweep, with `uri` and `artifacts` where they lie now.

    Of an earlier version: absolute ones below the folder in which the sweep began are those of the folder in which it lies.
    """
    runs_dir = sweep_folder.absolute().parent
    then = Path(opening.folder).parent if os.path.isabs(opening.folder) else None
    found = dict(opening.tracking)
    if found.get("kind") == "none":
        return found
    uri = str(found.get("uri") or "")
    if not uri or uri.startswith(SQLITE):
        found["uri"] = SQLITE + str(_located(uri.removeprefix(SQLITE) or MLFLOW_DATABASE, runs_dir, then))
        found["artifacts"] = str(
            _located(str(found["artifacts"]), runs_dir, then)
            if found.get("artifacts")
            else Path(found["uri"].removeprefix(SQLITE)).parent / MLFLOW_ARTIFACTS
        )
    return found


def _located(path: str, runs_dir: Path, then: Path | None) -> Path:
    given = Path(path)
    if then is not None and given.is_relative_to(then):
        given = given.relative_to(then)
    return runs_dir / given


def own_addresses(homes: tuple[str, ...], here: Path) -> Iterator[tuple[str, str]]:
    """(prefix of an address below an earlier home, its prefix now): as a path, and as MLflow's `file:` address."""
    for home in homes:
        yield home, str(here)
        yield Path(home).as_uri(), here.as_uri()
