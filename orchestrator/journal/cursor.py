"""How far a sweep's journal has been shipped to MLflow, and by whom: written by the tracker, read by anybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from orchestrator.base.decode import COUNT, check, check_fields, read_json
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import CURSOR, TRACKER_LOCK, TRACKING
from orchestrator.base.locks import hold, holder
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import opened_below

CURSOR_FORMAT = 1


@dataclass(frozen=True)
class ShipStatus:
    """How far a sweep's journal has been shipped.

    Args:
        shipped: number of the last event that is in MLflow.
        error: why shipping makes no progress at the moment, in one sentence; None where it does.
        refused: writes that MLflow has refused, each named in tracking/shipper.log; `orchestrator sync` looks into them.
        ended: nothing is left to do: the sweep is closed, or its open runs are marked interrupted.
    """

    shipped: Annotated[int, COUNT] = 0
    error: str | None = None
    refused: Annotated[int, COUNT] = 0
    ended: bool = False


def read_status(sweep_folder: Path) -> ShipStatus:
    """How far the sweep's journal has been shipped; the beginning where the cursor is missing or unreadable."""
    try:
        data = read_json(read_regular(sweep_folder / TRACKING / CURSOR))
        check(data, Mapping[str, Any], "the cursor")
        if data.pop("format", None) != CURSOR_FORMAT:
            return ShipStatus()
        status = ShipStatus(**{name: value for name, value in data.items() if name in ShipStatus.__dataclass_fields__})
        check_fields(status)
    except (OSError, ValueError):
        return ShipStatus()
    return status


def write_status(sweep_folder: Path, status: ShipStatus) -> None:
    """Replaces the cursor. It is not fsynced: an older one only means that some events are shipped once more.

    Raises:
        RefusedRemovalError: `tracking/` is a link.
        OSError: it cannot be written.
    """
    with opened_below(sweep_folder) as sweep, sweep.inside(TRACKING) as folder:
        aside = folder.write_aside(CURSOR, json.dumps({"format": CURSOR_FORMAT, **asdict(status)}))
        failpoint("cursor.before")
        folder.rename(aside, CURSOR, durable=False)
        failpoint("cursor.after")


def ship_lock(sweep_folder: Path, wait_s: float = 2.0) -> AbstractContextManager[None]:
    """Holds the right to ship this sweep; it goes with the process that holds it.

    Raises:
        RunningElsewhereError: another process ships it.
    """
    return hold(_lock(sweep_folder), f"ships {sweep_folder.name}", wait_s)


def is_shipping(sweep_folder: Path) -> bool:
    """Whether some process ships this sweep now."""
    return holder(_lock(sweep_folder)) is not None


def _lock(sweep_folder: Path) -> Path:
    return sweep_folder / TRACKING / TRACKER_LOCK
