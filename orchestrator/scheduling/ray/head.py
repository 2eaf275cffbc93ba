"""Sees that the head of a cluster is gone, before Ray does: that takes a minute, and then ends the process."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

from orchestrator.base.errors import EXIT_RESUMABLE, NotReadyError
from orchestrator.base.text import say

KNOCK_TIMEOUT_S = 5.0
KNOCK_EVERY_S = 1.0
GRACE_S = 15.0
"""A head that is away for less, such as one that restarts with its state kept, is waited for."""
LEAVE_S = 20.0
"""How long the driver has to close everything after that; Ray can hang in calls to a head that is gone."""


def knock(address: str) -> None:
    """Raise OSError unless something listens at `[ray://]host:port`; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_TIMEOUT_S).close()


class Head:
    """Watches the head at `host:port` from a thread of its own.

    Args:
        grace_s: how long it may be away.
        leave_s: if the driver has not left so long after that, the process ends.

    Attributes:
        last_words: what to tell the user then.
    """

    def __init__(self, address: str, *, grace_s: float = GRACE_S, leave_s: float = LEAVE_S) -> None:
        self._address, self._grace_s, self._leave_s = address, grace_s, leave_s
        self._left = threading.Event()
        self._why = ""
        self.last_words = ""

    def check(self) -> None:
        """Raise NotReadyError if the head has been away for too long."""
        if self._why:
            raise NotReadyError(f"{self._why}; start the cluster again")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watches for as long as the block lasts."""
        threading.Thread(target=self._watch, daemon=True, name="head").start()
        try:
            yield
        finally:
            self._left.set()

    def _watch(self) -> None:
        seen = time.monotonic()
        while not self._left.wait(KNOCK_EVERY_S):
            try:
                knock(self._address)
                seen = time.monotonic()
            except OSError as error:
                if time.monotonic() - seen > self._grace_s:
                    self._why = f"the head of the Ray cluster at {self._address} is gone ({error})"
                    break
        if self._why and not self._left.wait(self._leave_s):
            say(f"{self._why}; start the cluster again{self.last_words}", sys.stderr)
            os._exit(EXIT_RESUMABLE)
