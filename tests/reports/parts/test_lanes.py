"""Attempts in time, and the lanes that they fill."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.analysis.tables import trial_rows
from orchestrator.journal.record import read_sweep
from orchestrator.reports.parts.lanes import Attempt, Session, attempts, pack, sessions, utilization
from tests.reports.made import sweep, trial
from tests.simulated import simulated_sweep


def intervals(*ends: tuple[int, int]) -> list[Attempt]:
    return [Attempt(trial, 1, began, ended, "completed") for trial, (began, ended) in enumerate(ends)]


def test_two_workers_by_hand() -> None:
    """0-100 and 50-150 overlap; 100-200 follows on the first lane, 160-260 on the second."""
    lanes = pack(intervals((0, 100), (50, 150), (100, 200), (160, 260)))
    assert [one.lane for one in lanes] == [0, 1, 0, 1]
    assert utilization(lanes, [Session(0, 260)]) == pytest.approx(400 / (2 * 260))


def test_a_small_overlap_is_the_same_worker_and_counts_once() -> None:
    lanes = pack(intervals((0, 1000), (990, 2000)))
    assert [(one.lane, one.ended) for one in lanes] == [(0, 990), (0, 2000)]
    assert utilization(lanes, [Session(0, 2000)]) == 1.0


def test_with_as_many_lanes_as_workers_a_short_trial_waits_for_the_clock() -> None:
    """The third begins 20 ms before the driver has recorded the end of the first, and takes 25 ms."""
    ends = intervals((0, 1000), (0, 2000), (980, 1005))
    assert [one.lane for one in pack(ends)] == [0, 1, 2]
    assert [one.lane for one in pack(ends, workers=2)] == [0, 1, 0]
    assert [one.lane for one in pack(intervals((0, 9000), (0, 9000), (500, 8000)), workers=2)] == [0, 1, 2]


def test_short_trials_at_one_time_are_different_workers() -> None:
    assert {one.lane for one in pack(intervals((0, 40), (1, 41), (41, 80), (42, 82)))} == {0, 1}


def test_there_are_as_many_lanes_as_attempts_overlap_at_most() -> None:
    """The chromatic number of an interval graph is its largest clique."""
    draw = random.Random(0)
    ends = sorted((began := draw.randrange(100_000), began + draw.randrange(2_000, 20_000)) for _ in range(200))
    found = pack(intervals(*[(began, ended) for began, ended in ends]), tolerance_ms=0)
    at_once = max(sum(a.began <= b.began < a.ended for a in intervals(*ends)) for b in intervals(*ends))
    assert len({one.lane for one in found}) == at_once
    for lane in range(at_once):
        mine = [one for one in found if one.lane == lane]
        assert all(a.attempt.ended <= b.attempt.began for a, b in pairwise(mine))


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_simulated_sweep_has_the_lanes_of_its_workers(workers: int, tmp_path: Path) -> None:
    record = read_sweep(simulated_sweep(tmp_path / "sim-00000000", trials=60, workers=workers))
    lanes = pack(attempts(record))
    assert len({one.lane for one in lanes}) == workers
    ends = [(row["began"], row["ended"]) for row in trial_rows(record)]
    wall = max(ended for _, ended in ends) - min(began for began, _ in ends)
    busy = sum(ended - began for began, ended in ends)
    assert utilization(lanes, sessions(record, attempts(record))) == pytest.approx(busy / (workers * wall))


def test_attempts_end_where_they_broke_off_and_sessions_are_told_apart() -> None:
    data = sweep(
        trial(0, 0.5, began=[100, 250, 900], broke_off=[200, 500], ended=1200),
        trial(1, 0.5, began=[150], ended=400),
        trial(2, None, "running", began=[950]),
        sessions=[(50, 500)],
        session_ms=880,
        last_ms=1500,
    )
    found = attempts(data.record)
    assert [(one.trial, one.number, one.began, one.ended, one.state) for one in found] == [
        (0, 1, 100, 200, "interrupted"),
        (1, 1, 150, 400, "completed"),
        (0, 2, 250, 500, "interrupted"),
        (0, 3, 900, 1200, "completed"),
        (2, 1, 950, 1500, "running"),
    ]
    assert sessions(data.record, found) == [Session(100, 500), Session(900, 1500)]


def test_nothing_and_no_time_are_no_utilization() -> None:
    assert pack([]) == []
    assert utilization([], []) == 0.0
    assert utilization(pack(intervals((5, 5))), [Session(5, 5)]) == 0.0
