"""How long a sweep will still take, from what its trials took so far: epochs still to come, by the seconds that one takes.

A trial that runs is expected to train as many more epochs as those before it did from there on, early stops included: the
share of trials that survive each part of their epochs is Kaplan and Meier's estimate (1958), in which running ones count as
not stopped so far. Workers take the trials as they fall free.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

SIMULATED = 2_000
"""Up to so many trials to come are laid out worker by worker; more are as good as spread evenly."""

REPORTS_S = 1.0
"""Short epochs are reported together, about so often."""

TOLERANCE = 0.25
"""A time left that grows by less than this share goes on counting down: it is no better known than that."""


@dataclass(frozen=True)
class TrialTime:
    """What is known of one trial's time.

    Args:
        planned: epochs, should nothing stop it.
        epochs: trained in this session; of a running one a part of an epoch counts as far as it is known.
        seconds: from its start here to the last of them; of one that has ended to its end.
        since_s: from then to now.
        before: epochs that an earlier session trained.
        ended: whether it has.
    """

    planned: int
    epochs: float
    seconds: float
    since_s: float = 0.0
    before: int = 0
    ended: bool = False

    @property
    def share(self) -> float:
        """How much of its epochs it has trained, in [0, 1]."""
        return min(1.0, (self.before + self.epochs) / max(self.planned, 1))

    @property
    def seconds_an_epoch(self) -> float | None:
        """None before it has trained anything."""
        return self.seconds / self.epochs if self.epochs > 0 and self.seconds > 0 else None


class Survival:
    """Which share of the trials goes on beyond a given share of its epochs (the product-limit estimator)."""

    def __init__(self, trials: Collection[TrialTime]) -> None:
        ends = Counter(trial.share for trial in trials if trial.ended and trial.share < 1)
        at = sorted(trial.share for trial in trials)
        self._shares, self._survive = [0.0], [1.0]
        for share in sorted(ends):
            at_risk = len(at) - bisect.bisect_left(at, share)
            self._shares.append(share)
            self._survive.append(self._survive[-1] * (1 - ends[share] / at_risk))

    def beyond(self, share: float) -> float:
        """The share of trials that trains more than `share` of its epochs."""
        return self._survive[bisect.bisect_right(self._shares, share) - 1]

    @property
    def to_the_end(self) -> float:
        """The share of trials that trains all of its epochs."""
        return self._survive[-1]

    def expected(self, share: float | None = None) -> float:
        """The share of its epochs that a trial ends with, if it goes on beyond `share`; of one that has not begun if absent."""
        alive = 1.0 if share is None else self.beyond(share)
        if alive <= 0:
            return share or 0.0
        start = share or 0.0
        edges = [start, *(s for s in self._shares if start < s < 1), 1.0]
        area = sum((after - at) * self.beyond(at) for at, after in itertools.pairwise(edges))
        return start + area / alive


def seconds_left(
    trials: Collection[TrialTime], *, to_come: float, workers: int, planned: float | None = None
) -> float | None:
    """Seconds until the last trial has ended; None before the first epoch of any.

    Args:
        trials: those that have begun.
        to_come: how many have not.
        workers: trials at a time.
        planned: epochs of one that is to come; the mean of those that have begun where absent.
    """
    rates = [rate for trial in trials if (rate := trial.seconds_an_epoch) is not None]
    running = [trial for trial in trials if not trial.ended]
    if not running and to_come <= 0:
        return 0.0
    if not rates:
        return None
    usual = sum(rates) / len(rates)
    survival = Survival(trials)
    if planned is None:
        planned = sum(trial.planned for trial in trials) / len(trials)
    lanes = [_left(trial, survival, usual) for trial in running]
    each = planned * survival.expected() * usual
    return _last_end(lanes, each, to_come, max(workers, 1))


def _left(trial: TrialTime, survival: Survival, usual: float) -> float:
    """The seconds that a running trial still needs.

    One that is silent for longer than an epoch and a pause between reports takes longer than it did: nothing more is done.
    """
    epochs = (survival.expected(trial.share) - trial.share) * trial.planned
    rate = trial.seconds_an_epoch or usual
    return max(epochs * rate - min(trial.since_s, rate + REPORTS_S), 0.0)


def _last_end(lanes: list[float], each: float, to_come: float, workers: int) -> float:
    """When the last trial ends, if every one that is to come takes the worker that falls free first."""
    busy = sorted(lanes)
    lanes = busy + [0.0] * max(workers - len(busy), 0)
    if to_come > SIMULATED:
        return max((sum(lanes) + to_come * each) / len(lanes), lanes[-1])
    heapq.heapify(lanes)
    last = busy[-1] if busy else 0.0
    whole = int(to_come)
    for number in range(whole + (to_come > whole)):
        end = heapq.heappop(lanes) + each * min(1.0, to_come - number)
        last = max(last, end)
        heapq.heappush(lanes, end)
    return last


class Countdown:
    """A time left that counts down, and goes up only where the estimate really does."""

    def __init__(self) -> None:
        self._end: float | None = None

    def show(self, left_s: float | None, now: float) -> float | None:
        """What to show now for an estimate that was made now.

        Args:
            now: seconds on a clock that never jumps.
        """
        if left_s is None:
            return None if self._end is None else max(self._end - now, 0.0)
        shown = None if self._end is None else max(self._end - now, 0.0)
        if shown is None or left_s <= shown or left_s > shown * (1 + TOLERANCE) + 1:
            self._end = now + left_s
            return left_s
        return shown
