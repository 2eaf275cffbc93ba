"""Ships what still waits of a sweep that nobody works on: `orchestrator sync NAME`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import TRACKER_LOG, TRACKING
from orchestrator.journal.cursor import ship_lock
from orchestrator.stores.opening import open_reader
from orchestrator.stores.runs import RunReader, StoredRun, UnavailableError, chunks
from orchestrator.stores.settling import settle_sweep
from orchestrator.tracking.shipper import Shipper, require_journal

RUNS_AT_ONCE = 100


def sync(sweep_folder: Path, *, log: Callable[[str], None] = print) -> str:
    """Ships what waits in a sweep's journal, now, and returns what was shipped, in words.

    Runs that are still open are marked interrupted. Where MLflow ever refused a write, the whole sweep is shipped again, and
    the rows of the store before and after are compared. A sweep that was launched with tracking=none goes to the local store of
    its runs folder.

    Raises:
        CopyError: it is a copy of another sweep.
        NotReadyError: there is no sweep, it is not tracked, or the store does not take it.
        RunningElsewhereError: a tracker is at work on it.
    """
    require_journal(sweep_folder)
    settle_sweep(sweep_folder)
    with ship_lock(sweep_folder), contextlib.closing(Shipper(sweep_folder, log=log)) as shipper:
        try:
            shipped = shipper.ship_everything()
            shipper.end()
            found = _ship_again(shipper) if shipper.status.refused else ""
        except UnavailableError as error:
            shipper.note(error)
            raise NotReadyError(
                f"{error}; nothing is lost, run `orchestrator sync {sweep_folder.name}` again"
            ) from error
        if not shipper.opened:
            raise NotReadyError(f"the journal of {sweep_folder.name} is empty; nothing can be shipped")
        refused = shipper.status.refused
    new = f"{shipped} events of {sweep_folder.name} shipped to {shipper.where}" if shipped else ""
    new = new or ("" if found else f"{shipper.where} had everything already")
    again = f"{refused} writes were refused ({TRACKING}/{TRACKER_LOG})" if refused else ""
    return "; ".join(filter(None, (new, found, again)))


def _ship_again(shipper: Shipper) -> str:
    """Ships the whole sweep again, and says what the store had lacked."""
    uid = shipper.opened.uid if shipper.opened else ""
    with contextlib.closing(open_reader(shipper.settings, shipper.experiment)) as reader:
        before = _contents(reader, uid)
        shipper.start_over()
        shipper.ship_everything()
        shipper.end()
        after = _contents(reader, uid)
    incomplete = sum(before.get(run_id) != found for run_id, found in after.items())
    new_runs = len(after.keys() - before.keys())
    rows = sum(count for _, count in after.values()) - sum(count for _, count in before.values())
    deleted = sum(run.deleted for run, _ in after.values())
    found = f"{incomplete} were incomplete ({new_runs} missing, {rows} metric rows), now shipped" if incomplete else ""
    gone = f"{deleted} were deleted in MLflow and stay so" if deleted else ""
    differences = ", ".join(filter(None, (found, gone))) or "nothing is missing"
    return f"compared {len(after)} runs with {shipper.where}: {differences}"


def _contents(reader: RunReader, sweep_uid: str) -> dict[str, tuple[StoredRun, int]]:
    """Each of the sweep's runs, by id, with the number of its metric rows."""
    found: dict[str, tuple[StoredRun, int]] = {}
    for runs in chunks(reader.runs(sweep_uid), RUNS_AT_ONCE):
        rows = reader.rows(runs)
        found |= {run.run_id: (run, len(rows[run.run_id])) for run in runs}
    return found
