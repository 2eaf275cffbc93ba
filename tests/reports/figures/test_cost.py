"""The trials that no other beats in cost and value."""

from __future__ import annotations

import random

import pytest

from orchestrator.reports.figures.cost import Cost, costs, figure, frontier
from tests.reports.made import SECOND, sweep, trial


@pytest.mark.parametrize("sign", [1, -1])
def test_the_frontier_is_what_nothing_dominates(sign: int) -> None:
    draw = random.Random(sign)
    every = [Cost(place, draw.randrange(20), draw.randrange(20) / 20) for place in range(80)]

    def beaten(one: Cost) -> bool:
        return any(
            other.cost <= one.cost
            and sign * other.value >= sign * one.value
            and (other.cost, other.value) != (one.cost, one.value)
            for other in every
        )

    kept = {(one.cost, one.value) for one in every if not beaten(one)}
    found = frontier(every, sign)
    assert {(one.cost, one.value) for one in found} == kept
    assert len(found) == len(kept)
    assert [one.cost for one in found] == sorted(one.cost for one in found)


def test_seconds_are_of_all_attempts_without_the_time_between() -> None:
    data = sweep(
        trial(0, 0.9, began=[0, 50 * SECOND], broke_off=[10 * SECOND], ended=55 * SECOND, curve=[0.9] * 3),
        trial(1, 0.5, began=[0], ended=4 * SECOND, curve=[0.5]),
        trial(2, 0.7, "stopped", began=[0], ended=6 * SECOND, curve=[0.7] * 2),
        trial(3, None, "failed", ended=SECOND),
    )
    found = costs(data)
    assert {one.trial: one.cost for one in found["seconds"]} == {0: 15.0, 1: 4.0, 2: 6.0}
    assert {one.trial: one.cost for one in found["epochs"]} == {0: 3.0, 1: 1.0, 2: 2.0}
    drawn = figure(data)
    assert drawn is not None
    assert "The best value, 0.9, took 15 s (trial 0); 3 of 3 trials" in drawn.text


def test_too_few_and_equal_costs_have_no_figure() -> None:
    assert figure(sweep(trial(0, 0.5), trial(1, 0.6, ended=3 * SECOND))) is None
    assert figure(sweep(*[trial(place, place / 9) for place in range(9)])) is None
