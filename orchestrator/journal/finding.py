"""Which folder a sweep's name means."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem, nearest
from orchestrator.base.layout import COMPARISON, COMPARISON_PAGE, COMPARISONS, JOURNAL, SWEEP_MARK
from orchestrator.base.names import in_ascii
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.file import Reader
from orchestrator.journal.place import located_tracking

SHOWN = 8


def find_sweep(runs_dir: Path, name: str) -> Path:
    """The folder of the sweep with the identity `name`, of the newest one of that name, or of the only one whose identity begins
    so. For commands that destroy nothing; others take `find_exactly`.

    Raises:
        ConfigError: none is, or several begin so; lists them.
    """
    folders = sweeps_in(runs_dir)
    forms = {form for form in (name, in_ascii(name)) if form}
    exact = [path for path in folders if path.name == name]
    named = [path for path in folders if path.name.rsplit("-", 1)[0] in forms or name_of(path) == name]
    if found := exact or named:
        return found[0]
    begun = [path for path in folders if forms and path.name.startswith(tuple(forms))]
    if len(begun) == 1:
        return begun[0]
    if begun:
        why = f"is the beginning of several sweeps; say which: {_listed(begun)}"
        raise ConfigError(Problem("NAME", why, name))
    raise _not_found(runs_dir, name, folders)


def named_or_newest(runs_dir: Path, name: str | None) -> Path:
    """The folder of the sweep of this name, or of the one that was launched last.

    Raises:
        ConfigError: there is no such sweep, or none at all.
    """
    there = sweeps_in(runs_dir)
    if not there:
        why = f"there is no sweep in {runs_dir}; `orchestrator launch` makes one, --runs-dir names another folder"
        raise ConfigError(Problem("NAME", why, name))
    return there[0] if name is None else find_sweep(runs_dir, name)


def find_exactly(runs_dir: Path, name: str) -> Path:
    """The folder of the sweep with the identity `name`, or of the only one whose name is exactly that.

    Raises:
        ConfigError: none is, or several have that name; lists them.
    """
    folders = [*sweeps_in(runs_dir), *_begun_in(runs_dir)]
    for path in folders:
        if path.name == name:
            return path
    named = [path for path in folders if name_of(path) == name]
    if len(named) == 1:
        return named[0]
    if named:
        why = f"is the name of {len(named)} sweeps; say which, with its id: {_listed(named)}"
        raise ConfigError(Problem("NAME", why, name))
    raise _not_found(runs_dir, name, folders)


def opening_of(folder: Path) -> SweepOpened | None:
    """What a sweep was opened with; None where its journal does not say."""
    with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder / JOURNAL)) as reader:
        return reader.opened()
    return None


def name_of(folder: Path) -> str | None:
    """The name that a sweep was given, or made from the time; None where its journal does not say."""
    opened = opening_of(folder)
    return opened.name if opened else None


def sweeps_in(runs_dir: Path) -> list[Path]:
    """The folders of all sweeps there, the newest first."""
    folders = [path for path in runs_dir.glob("*") if (path / JOURNAL).is_file()] if runs_dir.is_dir() else []
    return sorted(folders, key=_opened_ms, reverse=True)


def newest_tracked(runs_dir: Path) -> Path:
    """The folder of the newest sweep there that MLflow is told of.

    Raises:
        NotReadyError: there is none; says what makes one.
    """
    folders = sweeps_in(runs_dir)
    for folder in folders:
        opened = opening_of(folder)
        if opened is not None and opened.tracking.get("kind") != "none":
            return folder
    if folders:
        raise NotReadyError(
            f"no sweep in {runs_dir} is tracked; `orchestrator sync {folders[0].name}` ships the newest"
        )
    where = f"there is no sweep in {runs_dir}" if runs_dir.is_dir() else f"there is no folder {runs_dir}"
    raise NotReadyError(f"{where}; `orchestrator launch` makes one, --runs-dir names another folder of sweeps")


def tracking_of(folder: Path) -> Mapping[str, Any]:
    """The tracking settings of a sweep, with the store where it lies now."""
    opened = opening_of(folder)
    return located_tracking(opened, folder.resolve()) if opened else {}


def runs_dir_option(folder: Path) -> str:
    """` --runs-dir ...` where the sweep does not lie where commands look by themselves."""
    runs_dir = folder.resolve().parent
    return "" if runs_dir == Path("runs").resolve() else f" --runs-dir {shlex.quote(str(runs_dir))}"


def _begun_in(runs_dir: Path) -> list[Path]:
    """The folders of sweeps that have no journal: killed before it was made, or while the sweep was deleted."""
    marked = runs_dir.glob(f"*/{SWEEP_MARK}") if runs_dir.is_dir() else ()
    return sorted(path.parent for path in marked if not (path.parent / JOURNAL).is_file())


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(path.name for path in folders[:SHOWN]) + (", ..." if len(folders) > SHOWN else "")


def _not_found(runs_dir: Path, name: str, folders: Sequence[Path]) -> ConfigError:
    if (page := _page_of_comparison(runs_dir, name)) is not None:
        return ConfigError(Problem("NAME", f"is a comparison, and a sweep is wanted; its page is {page}", name))
    there = f"newest there: {_listed(folders)}" if folders else "there is none; name another folder with --runs-dir"
    names = [path.name for path in folders]
    near = nearest(name, [*names, *(one.rsplit("-", 1)[0] for one in names)])
    return ConfigError(Problem("NAME", f"no sweep of that name in {runs_dir}; {there}", name, nearest=near))


def _page_of_comparison(runs_dir: Path, name: str) -> Path | None:
    """The page of the newest comparison of this name or identity; None where there is none."""
    folders = (path for path in (runs_dir / COMPARISONS).glob("*") if (path / COMPARISON).is_file())
    named = [path for path in folders if name in (path.name, path.name.rpartition("-")[0])]
    return max(named, key=lambda path: (path / COMPARISON).stat().st_mtime_ns) / COMPARISON_PAGE if named else None


def _opened_ms(folder: Path) -> float:
    """When the sweep began; where its journal does not say, when the file was written last."""
    with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder / JOURNAL)) as reader:
        for entry in reader.events(limit=1):
            return entry.time_ms
    return (folder / JOURNAL).stat().st_mtime * 1000
