"""Ships what still waits of a sweep that nobody works on: `orchestrator sync NAME`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.journal.cursor import ship_lock
from orchestrator.stores.opening import open_reader, open_store
from orchestrator.stores.runs import Metric, RunReader, RunWrite, StoredRun, UnavailableError, chunks, local_folder
from orchestrator.tracking.shipper import Shipper, require_journal

RUNS_AT_ONCE = 100


def sync(sweep_folder: Path, *, log: Callable[[str], None] = print) -> str:
    """Ships what waits in a sweep's journal, now, and returns what was shipped, in words.

    Runs that are still open are marked interrupted. Where MLflow ever refused a write, all rows of the journal are compared
    with those of the store, and what is missing is shipped. A sweep that was launched with tracking=none goes to the local
    store of its runs folder.

    Raises:
        NotReadyError: there is no sweep, it is not tracked, or the store does not take it.
        RunningElsewhereError: a shipper is at work on it.
    """
    require_journal(sweep_folder)
    with (
        ship_lock(sweep_folder),
        contextlib.closing(Shipper(sweep_folder, make_store=open_store, log=log)) as shipper,
    ):
        try:
            shipped = shipper.ship_everything()
            shipper.end()
            found = _compare(shipper) if shipper.status.refused else ""
        except UnavailableError as error:
            shipper.note(error)
            raise NotReadyError(
                f"{error}; nothing is lost, run `orchestrator sync {sweep_folder.name}` again"
            ) from error
        if not shipper.opened:
            raise NotReadyError(f"the journal of {sweep_folder.name} is empty; nothing can be shipped")
        refused = shipper.status.refused
    told = f"{shipped} events of {sweep_folder.name} shipped to {shipper.where}" if shipped else ""
    told = told or ("" if found else f"{shipper.where} had everything already")
    again = f"{refused} writes were refused (tracking/shipper.log)" if refused else ""
    return "; ".join(filter(None, (told, found, again)))


def _compare(shipper: Shipper) -> str:
    """Ships what the store lacks of the whole journal, and says what that was."""
    writes = shipper.whole_sweep()
    with contextlib.closing(open_reader(shipper.settings, shipper.experiment)) as reader:
        runs = {run.uid: run for run in reader.runs(shipper.opened.uid if shipper.opened else "")}
        missing: list[RunWrite] = []
        for part in chunks(writes, RUNS_AT_ONCE):
            missing += _missing(part, runs, reader)
    deleted = sum(run.deleted for run in runs.values())
    shipper.repair(missing)
    new_runs, rows = sum(write.create for write in missing), sum(len(write.metrics) for write in missing)
    where = f"compared {len(writes)} runs with {shipper.where}"
    found = f"{len(missing)} were incomplete ({new_runs} missing, {rows} metric rows), now shipped" if missing else ""
    gone = f"{deleted} were deleted in MLflow and stay so" if deleted else ""
    return f"{where}: " + (", ".join(filter(None, (found, gone))) or "nothing is missing")


def _missing(writes: Sequence[RunWrite], runs: dict[str | None, StoredRun], reader: RunReader) -> list[RunWrite]:
    """Of each write the part that its run lacks; nothing of runs that are complete or were deleted."""
    histories = reader.rows([run for write in writes if (run := runs.get(write.uid)) and not run.deleted])
    found = []
    for write in writes:
        run = runs.get(write.uid)
        if run is None:
            found.append(write)
        elif not run.deleted:
            lacking = _part_not_in(run, set(histories[run.run_id]), write)
            if lacking:
                found.append(lacking)
    return found


def _part_not_in(run: StoredRun, rows: set[Metric], write: RunWrite) -> RunWrite | None:
    folder = local_folder(run.artifact_uri)
    part = replace(
        write,
        create=False,
        tags={key: value for key, value in write.tags.items() if run.tags.get(key) != value},
        params={key: value for key, value in write.params.items() if key not in run.params},
        metrics=[metric for metric in write.metrics if metric not in rows],
        artifacts=[one for one in write.artifacts if folder is not None and not (folder / one.name).exists()],
    )
    if part.tags or part.params or part.metrics or part.artifacts or run.status != (write.status or "RUNNING"):
        # What a server holds of the files is not asked: an incomplete run gets all of them again.
        return replace(part, artifacts=part.artifacts if folder else write.artifacts)
    return None
