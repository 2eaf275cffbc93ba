"""The clock of a sweep that runs here: what its trials took so far, how many are to come, and so when it will have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.analysis.remaining import Countdown, Survival, TrialTime, seconds_left

EVERY_S = 1.0
"""So often an estimate is made; it counts down in between."""

LATEST = 1_000
"""So many of the ended trials are looked at, the last ones."""


@dataclass
class _Begun:
    """A running trial, in seconds by the clock of the driver.

    Args:
        before: epochs that an earlier session trained.
        epochs: trained by `seen_s`.
    """

    planned: int
    before: int
    start_s: float
    seen_s: float
    epochs: float = 0.0

    def time(self, now: float, *, ended: bool = False) -> TrialTime:
        took = now - self.start_s if ended or not self.epochs else self.seen_s - self.start_s
        since = 0.0 if ended else now - (self.seen_s if self.epochs else self.start_s)
        return TrialTime(self.planned, self.epochs, max(took, 0.0), max(since, 0.0), self.before, ended)


class Timing:
    """Takes what happens to trials, and says how long the sweep will take.

    Args:
        workers: trials at a time.
        repeat: trials of each configuration.
        judged: whether a scheduler judges each first one, and its repeats are trained only if it completes.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(
        self, monotonic: Callable[[], float], *, workers: int = 1, repeat: int = 1, judged: bool = False
    ) -> None:
        self._monotonic, self._workers, self._repeat, self._judged = monotonic, workers, repeat, judged
        self._running: dict[int, _Begun] = {}
        self._ended: deque[TrialTime] = deque(maxlen=LATEST)
        self._countdown = Countdown()
        self._start_s = monotonic()
        self._made_s = float("-inf")
        self.deadline_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Since this driver began."""
        return self._monotonic() - self._start_s

    def started(self, index: int, planned: int, before: int = 0, late_s: float = 0.0) -> None:
        """A trial begins, or began `late_s` ago; where it starts again its time goes on."""
        if index not in self._running:
            start = self._monotonic() - max(late_s, 0.0)
            self._running[index] = _Begun(planned, before, start, start)

    def trained(self, index: int, epochs: float) -> None:
        """So many epochs of a trial are known to be trained, those of earlier sessions included."""
        begun = self._running.get(index)
        if begun is not None and epochs - begun.before > begun.epochs:
            begun.epochs, begun.seen_s = epochs - begun.before, self._monotonic()

    def ended(self, index: int) -> None:
        """A trial has ended."""
        if (begun := self._running.pop(index, None)) is not None:
            self._ended.append(begun.time(self._monotonic(), ended=True))

    def running_s(self, index: int) -> float:
        """Since a running trial began here."""
        return self._monotonic() - self._running[index].start_s if index in self._running else 0.0

    def seconds_left(self, *, to_come: float, configurations: int = 0, judged_now: int = 0) -> float | None:
        """Until the last trial has ended or the time is up, counting down; None while nothing is known.

        Args:
            to_come: trials that are sure to come.
            configurations: that are to come; the repeats of each follow, where they do.
            judged_now: running trials whose repeats may follow.
        """
        now = self._monotonic()
        if now - self._made_s < EVERY_S:
            return self._shown(self._countdown.show(None, now), now)
        self._made_s = now
        trials = [*self._ended, *(begun.time(now) for begun in self._running.values())]
        completes = Survival(trials).to_the_end if self._judged else 1.0
        repeats = (self._repeat - 1) * completes
        to_come += configurations * (1 + repeats) + judged_now * repeats
        left_s = seconds_left(trials, to_come=to_come, workers=self._workers)
        return self._shown(self._countdown.show(left_s, now), now)

    def _shown(self, left_s: float | None, now: float) -> float | None:
        if left_s is None or self.deadline_s is None:
            return left_s
        return min(left_s, max(self.deadline_s - now, 0.0))
