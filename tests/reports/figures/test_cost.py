"""The trials that no other beats in cost and value."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from orchestrator.base.costs import key_of, trial_multiply_adds
from orchestrator.config.plan import trial_config
from orchestrator.config.planning import plan
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
    assert "The best single trial, 0, took 15 s for 0.9; of 3 trials 3 are beaten by no other" in drawn.text


def test_too_few_and_equal_costs_have_no_figure() -> None:
    assert figure(sweep(trial(0, 0.5), trial(1, 0.6, ended=3 * SECOND))) is None
    assert figure(sweep(*[trial(place, place / 9) for place in range(9)])) is None


def test_multiply_adds_of_a_sweep_over_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: mlp of one hidden layer 64 -> 8 -> 10 and linear 64 -> 10, on the 1,151 training images of digits."""
    monkeypatch.chdir(tmp_path)
    made = plan(["search=none", "model=linear,mlp", "model.hidden=1", "model.width=8", "epochs=3", "sampler=grid"])
    facts = json.loads(made.to_json())["facts"]
    assert facts["train"] == 1151
    work = {
        name: trial_multiply_adds(facts, trial_config(made, {"model": name}), epochs=3) for name in ("linear", "mlp")
    }
    assert work == {"linear": 64 * 10 * 3 * 1151, "mlp": (64 * 8 + 8 * 10) * 3 * 1151}
    other = trial_config(made, {"model": "mlp"})
    assert trial_multiply_adds(facts, {**other, "model": {**other["model"], "width": 9}}, epochs=3) is None


@pytest.mark.parametrize("fact", [None, 3, [1], [1, "2"], [-1, 0], [1e300, 0], [2**70, 0], {"a": 1}])
def test_a_forged_fact_of_costs_is_none(fact: object) -> None:
    config = {"model": {"_target_": "models.mlp.mlp"}}
    assert trial_multiply_adds({"multiply_adds": {key_of(config): fact}, "train": 10}, config, epochs=1) is None
    assert trial_multiply_adds({"multiply_adds": {key_of(config): [5, 7]}, "train": 10}, config, epochs=2) == 170.0
