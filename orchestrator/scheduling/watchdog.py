"""Finds trials that hang. Time is measured here, by a clock that never jumps; of a worker only changes are seen, not when."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.base.layout import HEARTBEAT
from orchestrator.base.records import Trial

CHECKS_A_TIMEOUT = 8
LONGEST_PAUSE_S = 5.0


class Watchdog:
    """Knows since when each trial has been silent: no new attempt, no new heartbeat, no report.

    Args:
        timeout_s: a trial that has been silent for this long hangs.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(self, timeout_s: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._monotonic = timeout_s, monotonic
        self._pause_s = min(timeout_s / CHECKS_A_TIMEOUT, LONGEST_PAUSE_S)
        self._last_check = monotonic()
        self._seen: dict[int, tuple[tuple[int, int, int], float]] = {}
        self._reports: Counter[int] = Counter()

    def reported(self, index: int) -> None:
        """The trial sent a report: it is alive, whether or not its heartbeat can be seen here."""
        self._reports[index] += 1

    def silent(self, trials: Sequence[Trial]) -> list[int]:
        """The indices of those of the trials in training that hang; each is named once."""
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
            seen = (trial.fence, _heartbeat(trial.folder), self._reports[trial.index])
            known, since = before.get(trial.index, (None, now))
            if known != seen:
                since = now
            if now - since >= self._timeout_s:
                found.append(trial.index)
                since = now
            self._seen[trial.index] = (seen, since)
        return found


def _heartbeat(folder: str) -> int:
    try:
        return Path(folder, HEARTBEAT).stat().st_mtime_ns
    except OSError:
        return 0
