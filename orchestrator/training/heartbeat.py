"""A trial's heartbeat: a file that it touches while it computes, so that one that hangs can be told from one that is slow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.layout import HEARTBEAT
from orchestrator.base.regular import open_own

EVERY_S = 1.0


class Heartbeat:
    """To be called after every step; touches the file at most once a second, so that short trials touch it never.

    Args:
        folder: the trial's; None touches nothing.
    """

    def __init__(self, folder: Path | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = folder and folder / HEARTBEAT
        self._monotonic = monotonic
        self._next = monotonic() + EVERY_S

    def __call__(self) -> None:
        now = self._monotonic()
        if now >= self._next and self._path:
            self._next = now + EVERY_S
            with contextlib.suppress(OSError):  # a full disk is told by what has to be written
                descriptor = open_own(self._path, os.O_WRONLY | os.O_CREAT)
                os.utime(descriptor)
                os.close(descriptor)
