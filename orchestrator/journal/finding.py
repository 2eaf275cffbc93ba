"""Which folder a sweep's name means."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import JOURNAL
from orchestrator.base.names import slug
from orchestrator.journal.file import Reader

SHOWN = 8


def find_sweep(runs_dir: Path, name: str) -> Path:
    """The folder of the sweep with the identity `name`, of the newest one of that name, or of the only one whose identity begins
    so.

    Raises:
        ConfigError: none is, or several begin so; lists them.
    """
    folders = sweeps_in(runs_dir)
    exact = [path for path in folders if path.name == name]
    named = [path for path in folders if path.name.rsplit("-", 1)[0] in (name, slug(name))]
    if found := exact or named:
        return found[0]
    begun = [path for path in folders if name and path.name.startswith((name, slug(name)))]
    if len(begun) == 1:
        return begun[0]
    listed = ", ".join(path.name for path in (begun or folders)[:SHOWN])
    if begun:
        raise ConfigError(Problem("NAME", f"is the beginning of several sweeps; say which: {listed}", name))
    there = f"newest there: {listed}" if folders else "there is none; name another folder with --runs-dir"
    raise ConfigError(Problem("NAME", f"no sweep of that name in {runs_dir}; {there}", name))


def sweeps_in(runs_dir: Path) -> list[Path]:
    """The folders of all sweeps there, the newest first."""
    folders = [path for path in runs_dir.glob("*") if (path / JOURNAL).is_file()] if runs_dir.is_dir() else []
    return sorted(folders, key=_opened_ms, reverse=True)


def tracked_in(runs_dir: Path) -> Mapping[str, Any]:
    """The tracking settings of the newest sweep there; empty where there is none."""
    for folder in sweeps_in(runs_dir):
        with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder / JOURNAL)) as reader:
            opened = reader.opened()
            if opened is not None and opened.tracking.get("uri"):
                return opened.tracking
    return {}


def runs_dir_option(folder: Path) -> str:
    """` --runs-dir ...` where the sweep does not lie where commands look by themselves."""
    runs_dir = folder.resolve().parent
    return "" if runs_dir == Path("runs").resolve() else f" --runs-dir {shlex.quote(str(runs_dir))}"


def _opened_ms(folder: Path) -> float:
    """When the sweep began; where its journal does not say, when the file was written last."""
    with contextlib.suppress(NotReadyError), contextlib.closing(Reader(folder / JOURNAL)) as reader:
        for entry in reader.events(limit=1):
            return entry.time_ms
    return (folder / JOURNAL).stat().st_mtime * 1000
