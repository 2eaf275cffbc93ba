"""Removes a sweep with all that it left: `orchestrator delete NAME`."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.base import layout, locks, removal
from orchestrator.base.errors import NewerFormatError, NotReadyError, RunningElsewhereError
from orchestrator.base.layout import JOURNAL, JOURNAL_COMPANIONS, SWEEP_MARK
from orchestrator.base.removal import Folder
from orchestrator.housekeeping.disk import disk_use
from orchestrator.journal.cursor import ship_lock
from orchestrator.journal.events import Suggested, SweepOpened
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.marking import is_sweep
from orchestrator.journal.record import read_events
from orchestrator.stores.delete import TrackedRuns, tracked_runs
from orchestrator.stores.settling import settle_sweep

SHIPPER_WAIT_S = 30.0
"""A shipper without a driver ends by itself once it has shipped what it can."""


def delete(folder: Path, *, agree: Callable[[list[str]], bool], say: Callable[[str], None]) -> bool:
    """Removes the sweep's runs in MLflow, then its files, its journal last; cut off anywhere, the same again finishes.

    The folder is opened first, and only what lies below that open folder goes.

    Args:
        agree: is shown what will go, and says whether it may.

    Returns:
        Whether it was agreed to.

    Raises:
        RunningElsewhereError: a driver or a shipper is at work on it.
        RefusedRemovalError: the folder is a link, or nothing in it says that it is this sweep's; nothing was deleted.
        CopyError: it is a copy of another sweep, whose runs would go with it.
        NotReadyError: MLflow cannot be reached, or a file cannot be removed; the journal is there still.
    """
    with removal.opened(folder.parent) as runs_dir, runs_dir.inside(folder.name) as sweep:
        if not is_sweep(sweep):
            raise removal.RefusedRemovalError(
                f"{folder} does not say that it is the folder of the sweep {folder.name}, so it is not deleted; if it is a"
                " renamed or copied one, remove it yourself"
            )
        with _alone(folder):
            settle_sweep(folder)
            opened, trials = _contents(folder)
            with tracked_runs(opened, folder) as runs:
                if not agree(_what_goes(folder, trials, runs, readable=opened is not None)):
                    return False
                runs.delete()
            try:
                _remove(sweep, runs_dir)
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
    if not layout.UID.fullmatch(folder.name):
        return False
    with contextlib.suppress(OSError, removal.RefusedRemovalError), removal.opened(folder.parent) as runs_dir:
        if runs_dir.remove_empty(folder.name):
            return True
        with runs_dir.inside(folder.name) as sweep:
            if set(sweep.names()) - {layout.LOCK, SWEEP_MARK} or not (is_sweep(sweep) or _was_being_deleted(sweep)):
                return False
            _remove_last(sweep, runs_dir)
        return True
    return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No driver and no shipper works on the sweep meanwhile."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locks.hold(folder / layout.LOCK, _deletes(folder.name)))
            if not (folder / JOURNAL).is_file() and (finish_removal(folder) or not folder.is_dir()):
                raise NotReadyError(f"{folder.name} was deleted a moment ago")
            held.enter_context(ship_lock(folder, wait_s=SHIPPER_WAIT_S))
        except RunningElsewhereError as error:
            stop = f"orchestrator stop {folder.name}{runs_dir_option(folder)}"
            raise RunningElsewhereError(f"{error}; nothing was deleted. End it first:  {stop}") from error
        yield


def _contents(folder: Path) -> tuple[SweepOpened | None, int]:
    """What the sweep began with, and the number of its trials; nothing of a damaged journal, which may be deleted, too.

    Raises:
        NewerFormatError: a newer version wrote it.
    """
    opened, trials = None, 0
    try:
        for entry in read_events(folder):
            opened = entry.event if isinstance(entry.event, SweepOpened) else opened
            trials += isinstance(entry.event, Suggested)
    except NewerFormatError:
        raise
    except (NotReadyError, sqlite3.Error):
        pass
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
    if runs.elsewhere:
        more = f" and {len(runs.elsewhere) - 1} more" if len(runs.elsewhere) > 1 else ""
        lines.append(f"what lies outside the store's own folder stays: {runs.elsewhere[0]}{more}")
    if not readable:
        lines.append("its journal is damaged: runs that it has in another MLflow store are not found")
    return lines


def _remove(sweep: Folder, runs_dir: Folder) -> None:
    """Removes everything, the journal last: until then the sweep is found, and what is left can be deleted again."""
    sweep.empty(is_sweep, keep=(JOURNAL, *JOURNAL_COMPANIONS, layout.LOCK, SWEEP_MARK))
    # Events that are in the write-ahead file alone go into the journal, so that it can still be read without that file.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(sweep.by_descriptor / JOURNAL)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    for name in (*JOURNAL_COMPANIONS, JOURNAL):
        sweep.remove_file(name)
    _remove_last(sweep, runs_dir)


def _remove_last(sweep: Folder, runs_dir: Folder) -> None:
    for name in (SWEEP_MARK, layout.LOCK):
        sweep.remove_file(name)
    runs_dir.remove_empty(sweep.path.name)


def _was_being_deleted(sweep: Folder) -> bool:
    """Whether its lock is that of a `delete`: a sweep of an earlier version has no mark once its journal is gone."""
    return _deletes(sweep.path.name).encode() in (sweep.read(layout.LOCK) or b"")


def _deletes(name: str) -> str:
    return f"deletes sweep {name}"
