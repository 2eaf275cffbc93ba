"""Finds trials that hang. Time is measured here, by a clock that never jumps; of a worker only that it did something is seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.base.layout import HEARTBEAT
from orchestrator.base.records import Trial

CHECKS_A_TIMEOUT = 8
LONGEST_PAUSE_S = 5.0


class Watchdog:
    """Knows since when each trial has shown no sign of life: no new attempt, no new heartbeat.

    Args:
        timeout_s: a trial that shows none for so long is silent.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(self, timeout_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._monotonic = timeout_s, monotonic
        self._pause_s = min(timeout_s / CHECKS_A_TIMEOUT, LONGEST_PAUSE_S)
        self._last_check = monotonic()
        self._seen: dict[int, tuple[tuple[int, int], float]] = {}

    def silent(self, trials: Sequence[Trial]) -> list[int]:
        """The indices of those of the trials in training that have been silent for too long; each is told once."""
        now = self._monotonic()
        away = now - self._last_check
        if away < self._pause_s:
            return []
        self._last_check = now
        found = []
        # Where this process itself was stopped or busy, a worker may have waited for it: its time begins anew.
        before = {} if away > self._timeout_s / 2 else self._seen
        self._seen = {}
        for trial in trials:
            sign = (trial.fence, _heartbeat(trial.folder))
            known, since = before.get(trial.index, (None, now))
            if known != sign:
                since = now
            if now - since >= self._timeout_s:
                found.append(trial.index)
                since = now
            self._seen[trial.index] = (sign, since)
        return found


def _heartbeat(folder: str) -> int:
    try:
        return Path(folder, HEARTBEAT).stat().st_mtime_ns
    except OSError:
        return 0
