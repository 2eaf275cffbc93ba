"""A trial's heartbeat: a file that it touches while it computes, so that one that hangs can be told from one that is slow.

It says in passing how far the epoch is: `3 12800 50000`, the epoch and the images of it that were trained, of how many.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.base.layout import HEARTBEAT
from orchestrator.base.regular import open_own

EVERY_S = 1.0
WIDTH = 48
"""Characters of what it says: each time as many, so that nothing is left of what it said before."""


class Heartbeat:
    """To be called after every step; touches the file at most once a second, so that short trials touch it never.

    Args:
        folder: the trial's; None touches nothing.
    """

    def __init__(self, folder: Path | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = folder and folder / HEARTBEAT
        self._monotonic = monotonic
        self._next = monotonic() + EVERY_S
        self._epoch, self._step, self._sizes = 0, 0, [0]

    def begin(self, epoch: int, sizes: Sequence[int]) -> None:
        """An epoch begins, whose batches have these sizes; every call that follows is one of them, or comes after the last."""
        self._epoch, self._step, self._sizes = epoch, 0, list(sizes)

    @property
    def at(self) -> tuple[int, int, int]:
        """The epoch, its images that were trained, and how many it has; zeros before the first."""
        return self._epoch, sum(self._sizes[: self._step]), sum(self._sizes)

    def __call__(self) -> None:
        self._step += 1
        now = self._monotonic()
        if now >= self._next and self._path:
            self._next = now + EVERY_S
            with contextlib.suppress(OSError):  # a full disk is told by what has to be written
                descriptor = open_own(self._path, os.O_WRONLY | os.O_CREAT)
                try:
                    os.utime(descriptor)
                    os.pwrite(descriptor, "{} {} {}\n".format(*self.at).rjust(WIDTH).encode(), 0)
                finally:
                    os.close(descriptor)


def read_heartbeat(path: Path) -> tuple[int, int, int] | None:
    """What a heartbeat says (`Heartbeat.at`); None where there is none, or it says nothing that makes sense."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
        try:
            words = os.read(descriptor, 2 * WIDTH).split()
        finally:
            os.close(descriptor)
        epoch, images, of = (int(word) for word in words)
    except (OSError, ValueError):
        return None
    return (epoch, images, of) if epoch > 0 and 0 <= images <= of else None
