"""Waiting for room on a disk that is full: a sweep pauses, says so, and goes on by itself."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Callable

from orchestrator.base.errors import NotReadyError
from orchestrator.base.text import duration, say

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of the operating system that end when somebody makes room, or makes the disk writable again."""

PAUSE_S = 1.0
"""Between two tries."""


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk is full, or not writable for now."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(error, OSError) and error.errno in NO_ROOM


class DiskWait:
    """How long a sweep has been waiting for room.

    Args:
        limit_s: after so many seconds without room the sweep ends.
        say: takes a line for people.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(
        self, limit_s: float = 0.0, say: Callable[[str], None] = say, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s, self._say, self._monotonic = limit_s, say, monotonic
        self._waiting: set[str] = set()
        self._since = 0.0
        self._lock = threading.Lock()

    def full(self, who: str, why: str) -> None:
        """`who` cannot write; to be called at each try.

        Raises:
            NotReadyError: there has been no room for `limit_s`.
        """
        with self._lock:
            if not self._waiting:
                self._since = self._monotonic()
                if self._limit_s:
                    self._say(f"{why}; the sweep waits up to {duration(self._limit_s)} for room (disk_wait_s)")
            self._waiting.add(who)
            if self._monotonic() - self._since >= self._limit_s:
                raise NotReadyError(
                    f"{why}, and there was no room for {duration(self._limit_s)} (disk_wait_s): make room"
                )

    def room(self, who: str) -> None:
        """`who` can write, or need not write any more."""
        if who not in self._waiting:
            return
        with self._lock:
            self._waiting.discard(who)
            if not self._waiting and self._limit_s:
                self._say("there is room again; the sweep goes on")
