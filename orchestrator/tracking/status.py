"""What others see of a sweep's shipper: how far it is, its last error, and how it is started. Light: no MLflow."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import CURSOR, JOURNAL, TRACKER_LOG, TRACKING
from orchestrator.journal.file import Reader

CURSOR_FORMAT = 1


@dataclass(frozen=True)
class ShipStatus:
    """How far a sweep's journal has been shipped.

    Args:
        shipped: number of the last event that is in MLflow.
        error: why shipping stands still at the moment, in one sentence; None where it does not.
        refused: writes that MLflow will never take (a run deleted there); named in tracking/shipper.log.
        ended: nothing is left to do: the sweep is closed, or its open runs are marked interrupted.
    """

    shipped: int = 0
    error: str | None = None
    refused: int = 0
    ended: bool = False


def tracking_folder(sweep_folder: Path) -> Path:
    return sweep_folder / TRACKING


def read_status(sweep_folder: Path) -> ShipStatus:
    """How far the sweep's journal has been shipped; the beginning where the cursor is missing or unreadable."""
    try:
        data = json.loads((tracking_folder(sweep_folder) / CURSOR).read_text())
        if data.pop("format") == CURSOR_FORMAT:
            return ShipStatus(**data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return ShipStatus()


def write_status(sweep_folder: Path, status: ShipStatus) -> None:
    """Replaces the cursor. It is not fsynced: an older one only means that some events are shipped once more."""
    path = tracking_folder(sweep_folder) / CURSOR
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"format": CURSOR_FORMAT, **asdict(status)}))
    failpoint("cursor.before")
    os.replace(temporary, path)
    failpoint("cursor.after")


@contextlib.contextmanager
def ship_lock(sweep_folder: Path, wait_s: float = 2.0) -> Iterator[None]:
    """Holds the right to ship this sweep; it goes with the process that holds it.

    Waits a moment: `is_shipping` holds the file too, for microseconds.

    Raises:
        RunningElsewhereError: another process ships it.
    """
    folder = tracking_folder(sweep_folder)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (folder / "lock").open("a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read().strip()
                    raise RunningElsewhereError(f"process {holder} ships {sweep_folder.name} already") from error
            time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_shipping(sweep_folder: Path) -> bool:
    """Whether some process ships this sweep now."""
    with contextlib.suppress(FileNotFoundError), (tracking_folder(sweep_folder) / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start_shipper(sweep_folder: Path) -> subprocess.Popen[bytes]:
    """Starts the process that ships this sweep for as long as the calling one lives, and then until it is done.

    It has a session of its own, so that Ctrl-C reaches the driver alone; `terminate()` tells it to ship what is committed,
    mark what is open as interrupted, and end. On a resume, append `sweep_resumed` before starting it.
    """
    folder = tracking_folder(sweep_folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TRACKER_LOG).open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "orchestrator.tracking.shipper",
                str(sweep_folder),
                "--parent-pid",
                str(os.getpid()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_shipped(sweep_folder: Path, timeout_s: float) -> ShipStatus:
    """Waits until everything committed to the journal is in MLflow, and returns how far it is when time is up.

    Returns early where no process ships the sweep any more.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.closing(Reader(sweep_folder / JOURNAL)) as reader:
        while True:
            shipping = is_shipping(sweep_folder)
            status = read_status(sweep_folder)
            if status.shipped >= reader.last_seq() or time.monotonic() >= deadline:
                return status
            if not shipping and time.monotonic() > deadline - timeout_s + 5.0:
                return status
            time.sleep(0.05)


def require_journal(sweep_folder: Path) -> Path:
    """The sweep's journal file.

    Raises:
        NotReadyError: there is none.
    """
    path = sweep_folder / JOURNAL
    if not path.is_file():
        raise NotReadyError(f"{sweep_folder} holds no sweep (no {JOURNAL})")
    return path
