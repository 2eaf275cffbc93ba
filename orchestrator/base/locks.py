"""One holder at a time: a lock file that goes with the process that holds it, however that dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NotRequired, TypedDict

from orchestrator.base.decode import check, read_json
from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.regular import open_own, open_regular, read_regular

DRIVING = "works on sweep"
"""What the driver says that it is doing."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    host: str
    pid: int
    doing: str = ""

    @property
    def here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class _Told(TypedDict):
    host: str
    pid: int
    doing: NotRequired[str]


@contextlib.contextmanager
def hold(path: Path, doing: str, wait_s: float = 1.0) -> Iterator[None]:
    """Holds the lock file at `path`, which is made where it is missing.

    Waits a moment, as `holder` holds the file too, for microseconds.

    Args:
        doing: completes "process 17 on lab3 <doing> already" for whoever comes second and finds this process holding it.

    Raises:
        RunningElsewhereError: another process holds it.
        NotReadyError: the file cannot be opened: its folder is gone, or it is a link.
    """
    deadline = time.monotonic() + wait_s
    with _opened(path) as file:
        while not _try(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                other = holder(path)
                raise RunningElsewhereError(
                    f"{_named(path) or 'another process'} {(other and other.doing) or doing} already"
                )
            time.sleep(0.02)
        file.truncate(0)
        file.write(json.dumps(asdict(Holder(socket.gethostname(), os.getpid(), doing))))
        file.flush()
        yield


@contextlib.contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """One process at a time makes what belongs into a folder; the others wait.

    Raises:
        OSError: there is no such folder, or it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no folder
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lock at `path` now; None where nobody does. A dead process holds nothing, whatever the file says."""
    try:
        descriptor = open_regular(path)
    except PermissionError:
        raise
    except OSError:  # not there, or nothing that a process of ours has made
        return None
    try:
        return None if _try(descriptor, fcntl.LOCK_SH) else _named(path) or Holder("unknown", 0)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> IO[str]:
    """The lock file; of the folders above it only the last is made, so that none is made where a sweep's is gone."""
    try:
        path.parent.mkdir(exist_ok=True)
        return open(path, "a+", opener=open_own)  # a link would have what it leads to emptied
    except OSError as error:
        raise NotReadyError(f"the lock {path} cannot be opened ({error.strerror or error})") from error


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _named(path: Path) -> Holder | None:
    try:
        told = read_json(read_regular(path))
        check(told, _Told, "the lock")
        return Holder(told["host"], told["pid"], told.get("doing", ""))
    except (OSError, ValueError):  # its holder is just writing it
        return None
