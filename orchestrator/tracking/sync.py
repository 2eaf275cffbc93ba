"""Ships what still waits of a sweep that has ended: `orchestrator sync NAME`. Light until a store is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.journal.file import Reader
from orchestrator.tracking.shipper import Shipper, make_store, store_settings
from orchestrator.tracking.status import require_journal, ship_lock
from orchestrator.tracking.store import UnavailableError, without_credentials


def sync(sweep_folder: Path, *, log: Callable[[str], None] = print) -> str:
    """Ships what waits in a sweep's journal, now, and returns what was shipped, in words.

    For a sweep that no driver works on: runs that are still open are marked interrupted. One that was launched with
    tracking=none goes to the local store of its runs folder.

    Raises:
        NotReadyError: there is no sweep, it is not tracked, or the store does not take it.
        RunningElsewhereError: a shipper is at work on it.
    """
    path = require_journal(sweep_folder)
    with contextlib.closing(Reader(path)) as reader:
        opened = next(iter(reader.events(limit=1)), None)
    if opened is None:
        raise NotReadyError(f"the journal of {sweep_folder.name} is empty; nothing can be shipped")
    where = without_credentials(str(store_settings(opened.data, sweep_folder)["uri"]))
    with ship_lock(sweep_folder), contextlib.closing(Shipper(sweep_folder, make_store=make_store, log=log)) as shipper:
        try:
            shipped = shipper.ship_everything()
            shipper.end()
        except UnavailableError as error:
            shipper.note(error)
            raise NotReadyError(
                f"{error}; nothing is lost, run `orchestrator sync {sweep_folder.name}` again"
            ) from error
        refused = shipper.status.refused
    text = (
        f"{shipped} events of {sweep_folder.name} shipped to {where}" if shipped else f"{where} had everything already"
    )
    return text + (f"; {refused} writes were refused (tracking/shipper.log)" if refused else "")
