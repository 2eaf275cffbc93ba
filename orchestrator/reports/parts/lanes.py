"""Attempts in time, on lanes: one a worker, as far as times can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from orchestrator.base.recorded import read_plan
from orchestrator.journal.record import SweepRecord, TrialRecord

TOLERANCE_MS = 250
"""A worker begins its next trial before the driver has recorded the end of the one before, and clocks differ."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial, in milliseconds since 1970.

    Args:
        state: how it ended: the trial's state for the last attempt, `interrupted` for the others.
    """

    trial: int
    number: int
    began: int
    ended: int
    state: str


@dataclass(frozen=True)
class Lane:
    """An attempt on the lane of a worker; `ended` is cut where the lane's next attempt begins."""

    attempt: Attempt
    lane: int
    ended: int


@dataclass(frozen=True)
class Session:
    """The time in which one driver's trials ran: from the first beginning to the last end."""

    began: int
    ended: int


def attempts(record: SweepRecord) -> list[Attempt]:
    """All attempts that began, by their beginning; one under way ends with the journal's last event."""
    found = [attempt for trial in record.trials.values() for attempt in _of_trial(trial, record.last_ms)]
    return sorted(found, key=lambda attempt: (attempt.began, attempt.trial, attempt.number))


def _of_trial(trial: TrialRecord, last_ms: int) -> list[Attempt]:
    found = []
    last = len(trial.began_ms) - 1
    breaks = trial.broke_off_ms[: max(last, 0)]
    for place, (began, broke_off) in enumerate(zip_longest(trial.began_ms, breaks)):
        if place == last:
            ended, state = trial.ended_ms or last_ms, trial.state.value
        else:
            following = trial.began_ms[place + 1]
            ended, state = min(broke_off or following, following), "interrupted"
        found.append(Attempt(trial.index, place + 1, began, max(ended, began), state))
    return found


def workers_of(record: SweepRecord) -> int | None:
    """How many trials ran at a time at most, by the plan; None where it does not say, or said different things in time."""
    if not record.plan or record.resumes:
        return None
    plan = read_plan(record.plan)
    workers = plan["settings"].get("max_concurrent") or plan.get("facts", {}).get("fits")
    return workers if isinstance(workers, int) and workers >= 1 else None


def pack(found: Sequence[Attempt], tolerance_ms: float = TOLERANCE_MS, workers: int | None = None) -> list[Lane]:
    """Each attempt on a lane where the one before has ended, give or take the tolerance, or a quarter of the shorter one.

    A quarter does not matter once there are as many lanes as `workers`.

    Args:
        found: by their beginning.
    """
    lanes: list[list[Attempt]] = []
    placed: list[tuple[int, int]] = []
    for attempt in found:
        free = [
            number
            for number, lane in enumerate(lanes)
            if _fits(lane[-1], attempt, tolerance_ms, strict=len(lanes) != workers)
        ]
        # the one that has been free for the shortest time; only if none is free the one that will be first
        number = min(free, key=lambda number: _wait(lanes[number][-1], attempt), default=len(lanes))
        if number == len(lanes):
            lanes.append([])
        lanes[number].append(attempt)
        placed.append((number, len(lanes[number]) - 1))
    result = []
    for attempt, (number, place) in zip(found, placed, strict=True):
        following = lanes[number][place + 1 : place + 2]
        ended = min([attempt.ended, *(later.began for later in following)])
        result.append(Lane(attempt, number, max(ended, attempt.began)))
    return result


def _fits(before: Attempt, attempt: Attempt, tolerance_ms: float, *, strict: bool) -> bool:
    shorter = min(before.ended - before.began, attempt.ended - attempt.began)
    return before.ended - attempt.began <= (min(tolerance_ms, shorter / 4) if strict else tolerance_ms)


def _wait(before: Attempt, attempt: Attempt) -> tuple[bool, int]:
    return before.ended > attempt.began, abs(attempt.began - before.ended)


def sessions(record: SweepRecord, found: Sequence[Attempt]) -> list[Session]:
    """The sessions in which a trial ran."""
    drivers = [*record.sessions, (record.session_ms, record.last_ms)]
    result = []
    for place, (start, _) in enumerate(drivers):
        until = drivers[place + 1][0] if place + 1 < len(drivers) else None
        within = [a for a in found if (place == 0 or a.began >= start) and (until is None or a.began < until)]
        if within:
            result.append(Session(min(a.began for a in within), max(a.ended for a in within)))
    return result


def utilization(lanes: Sequence[Lane], times: Sequence[Session]) -> float:
    """Busy time over lanes x the time of the sessions, in [0, 1]; 0 where no time passed."""
    workers = len({lane.lane for lane in lanes})
    busy = sum(lane.ended - lane.attempt.began for lane in lanes)
    wall = sum(session.ended - session.began for session in times)
    return min(busy / (workers * wall), 1.0) if workers and wall else 0.0
