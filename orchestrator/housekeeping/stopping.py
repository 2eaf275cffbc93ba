"""Asks a sweep's driver, in whichever terminal, to end it in good order: `orchestrator stop NAME`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from orchestrator.base import layout, locks, removal
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import STOP
from orchestrator.base.records import State
from orchestrator.base.removal import Folder
from orchestrator.housekeeping.overview import INTERRUPTED, state_of
from orchestrator.housekeeping.reading import read_outline
from orchestrator.journal.finding import runs_dir_option

POLL_S = 0.1


def stop(folder: Path, timeout_s: float) -> str:
    """Asks for the end of the sweep and waits for it; what became of the sweep, in words.

    Raises:
        NotReadyError: the driver is still at work when the time is up; the request stays.
    """
    with removal.opened_below(folder) as sweep:
        return _stop(folder, sweep, timeout_s)


def _stop(folder: Path, sweep: Folder, timeout_s: float) -> str:
    driver = locks.holder(folder / layout.LOCK)
    if driver is None:
        sweep.remove_file(STOP)  # of a driver that died before it saw it; a resume is not to stop at once
        return f"{folder.name} is not running ({_became(folder)}); there is nothing to stop"
    deadline = time.monotonic() + timeout_s
    while locks.holder(folder / layout.LOCK) == driver:
        sweep.touch(STOP)  # a driver that is just starting removes what an earlier one has left
        if time.monotonic() >= deadline:
            raise NotReadyError(
                f"{folder.name} has not ended within {timeout_s:g} s; it is held by {driver}, which will stop when it sees the"
                f" request. Wait longer with --timeout, or end that process (kill {driver.pid} on {driver.host})"
            )
        time.sleep(POLL_S)
    sweep.remove_file(STOP)
    return f"{folder.name}: {_became(folder)}"


def _became(folder: Path) -> str:
    """State and counts of a sweep that nobody works on."""
    record = read_outline(folder).record
    state = state_of(record, None)
    totals = Counter(trial.state for trial in record.trials.values() if trial.ended)
    counts = ", ".join(f"{totals[state]} {state}" for state in State if totals[state]) or "no trial ended"
    if state == INTERRUPTED:
        return f"interrupted, {counts}; go on with `orchestrator resume {folder.name}{runs_dir_option(folder)}`"
    return f"{state}, {counts}"
