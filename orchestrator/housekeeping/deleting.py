"""Removes a sweep with all that it left: `orchestrator delete NAME`."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.base import layout, locks
from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.layout import JOURNAL, JOURNAL_COMPANIONS
from orchestrator.housekeeping.disk import disk_use
from orchestrator.journal.cursor import ship_lock
from orchestrator.journal.events import Suggested, SweepOpened
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.record import read_events
from orchestrator.stores.delete import TrackedRuns, tracked_runs

SHIPPER_WAIT_S = 30.0
"""A shipper without a driver ends by itself once it has shipped what it can."""


def delete(folder: Path, *, agree: Callable[[list[str]], bool], say: Callable[[str], None]) -> bool:
    """Removes the sweep's runs in MLflow, then its files, its journal last; cut off anywhere, the same again finishes.

    Args:
        agree: is shown what will go, and says whether it may.

    Returns:
        Whether it was agreed to.

    Raises:
        RunningElsewhereError: a driver or a shipper is at work on it.
        NotReadyError: MLflow cannot be reached, or a file cannot be removed; the journal is there still.
    """
    with _alone(folder):
        opened, trials = _contents(folder)
        with tracked_runs(opened, folder) as runs:
            if not agree(_what_goes(folder, trials, runs, readable=opened is not None)):
                return False
            runs.delete()
        try:
            _remove(folder)
        except OSError as error:
            raise NotReadyError(
                f"{folder} cannot be removed ({error}); run `orchestrator delete` again then"
            ) from error
    say(f"deleted {folder.name}")
    if runs.count and not runs.for_good:
        say(f"its {runs.count} runs in {runs.where} are marked as deleted; `mlflow gc` on the server frees them")
    return True


def finish_removal(folder: Path) -> bool:
    """Removes what a removal leaves that was cut off behind the journal, its last file but the lock; whether that was so."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - {layout.LOCK}:
        return False
    (folder / layout.LOCK).unlink(missing_ok=True)
    folder.rmdir()
    return True


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No driver and no shipper works on the sweep meanwhile."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(folder / layout.LOCK, f"deletes sweep {folder.name}"))
            if not (folder / JOURNAL).is_file():
                finish_removal(folder)
                raise NotReadyError(f"{folder.name} was deleted a moment ago")
            held.enter_context(ship_lock(folder, wait_s=SHIPPER_WAIT_S))
        except RunningElsewhereError as error:
            stop = f"orchestrator stop {folder.name}{runs_dir_option(folder)}"
            raise RunningElsewhereError(f"{error}; nothing was deleted. End it first:  {stop}") from error
        yield


def _contents(folder: Path) -> tuple[SweepOpened | None, int]:
    """What the sweep began with, and the number of its trials; nothing of a damaged journal, which may be deleted, too."""
    opened, trials = None, 0
    with contextlib.suppress(NotReadyError, sqlite3.Error):
        for entry in read_events(folder):
            opened = entry.event if isinstance(entry.event, SweepOpened) else opened
            trials += isinstance(entry.event, Suggested)
    return opened, trials


def _what_goes(folder: Path, trials: int, runs: TrackedRuns, *, readable: bool) -> list[str]:
    how = "for good" if runs.for_good else "marked as deleted"
    lines = [
        f"sweep       {folder.name}",
        f"trials      {trials}",
        f"disk        {disk_use(folder)}",
        f"folder      {folder}",
        f"MLflow      {runs.count} runs in {runs.where}, {how}"
        if runs.count
        else f"MLflow      no runs in {runs.where}",
    ]
    if not readable:
        lines.append("its journal is damaged: runs that it has in another MLflow store are not found")
    return lines


def _remove(folder: Path) -> None:
    """Removes everything, the journal last: until then the sweep is found, and what is left can be deleted again."""
    journal = folder / JOURNAL
    for path in sorted(folder.iterdir()):
        if path.name in (JOURNAL, *JOURNAL_COMPANIONS, layout.LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    # Events that are in the write-ahead file alone go into the journal, so that it can still be read without that file.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    for name in JOURNAL_COMPANIONS:
        (folder / name).unlink(missing_ok=True)
    journal.unlink(missing_ok=True)
    (folder / layout.LOCK).unlink(missing_ok=True)
    folder.rmdir()
