"""What is said of a sweep, in words: on records made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from orchestrator.analysis.causes import causes
from orchestrator.analysis.findings import (
    Findings,
    choice_rows,
    choice_table,
    findings,
    what_failed,
    what_mattered,
    who_won,
)
from orchestrator.analysis.importance import Importance
from orchestrator.analysis.margin import Margin
from orchestrator.base.records import State
from orchestrator.journal.record import read_sweep
from tests.analysis.records import a_record, linear
from tests.simulated import simulated_sweep

MARGIN = Margin(
    winner=0, runner_up=11, difference=1 / 287, low=-0.018, high=0.026, method="paired", tied=[11, 15], compared=15,
    examples=287,
)  # fmt: skip


def found(margin: Margin | None = None, **given: Any) -> Findings:
    values: dict[str, Any] = {"importances": [], "choices": [], "causes": [], "keys": ["lr", "norm"], **given}
    return Findings(**{"metric": "val/accuracy", "mode": "max", "configurations": 16, "margin": margin, **values})


def test_ties_are_told_as_ties_with_what_the_images_resolve() -> None:
    assert who_won(found(MARGIN)) == [
        "a tie: trial 0 is 0.35 points ahead of trial 11 (95 %: -1.80 to 2.60; 287 validation images, one by one)",
        "trials 11 and 15 cannot be told from it: one image of 287 is 0.35 points; the best of 16 is also the luckiest: "
        "expect it to be a little worse on new images",
    ]
    many = dataclasses.replace(MARGIN, tied=[11, *range(20, 30)])
    assert "trials 11, 20, 21, 22, 23, 24 and 5 more cannot be told" in who_won(found(many))[1]
    one = dataclasses.replace(MARGIN, tied=[11])
    assert who_won(found(one))[1].startswith(
        "the others can be told from trial 0: one image of 287 is 0.35 points; the best of 16"
    )


def test_a_clear_winner_is_told_as_one() -> None:
    clear = dataclasses.replace(MARGIN, difference=0.05, low=0.02, high=0.08, tied=[], method="seeds")
    assert who_won(found(clear)) == [
        "trial 0 is 5.00 points ahead of trial 11 (95 %: 2.00 to 8.00; over seeds)",
        "all 15 others can be told from it; the best of 16 is also the luckiest: expect it to be a little worse on new images",
    ]
    alone = dataclasses.replace(clear, compared=1)
    assert who_won(found(alone))[1] == "the two can be told apart"


def test_other_metrics_are_told_in_their_own_units_and_without_an_interval_where_there_is_none() -> None:
    bare = dataclasses.replace(MARGIN, difference=0.0123, low=None, high=None, tied=[], method="none", examples=None)
    (line,) = who_won(found(bare, metric="train/loss"))
    assert line == (
        "trial 0 is 0.0123 ahead of trial 11; without an interval, since train/loss is not measured example by example"
    )
    assert who_won(found(None)) == []


def test_what_mattered_names_what_is_beyond_chance_and_says_so_where_nothing_is() -> None:
    sure, unsure = Importance("lr", 0.7, 16, 0.005, 1.0), Importance("norm", 0.3, 16, 0.2, 0.1)
    assert what_mattered(found(importances=[sure, unsure])) == (
        "what mattered for being among the best: lr 70%; not beyond chance: norm (16 configurations)"
    )
    assert what_mattered(found()) == "what mattered: 16 configurations cannot tell that from chance; more trials may"
    assert what_mattered(found(configurations=9)) == "what mattered: 9 configurations are too few to say; it takes 10"
    assert what_mattered(found(keys=[])) is None


def test_choices_of_the_more_important_keys_come_first_and_a_key_is_shown_whole() -> None:
    trials = [
        {"params": {"p": "ab"[place % 2], "q": "wxyz"[place % 4], "same": 1}, "value": place / 8} for place in range(8)
    ]
    all_found = dataclasses.replace(
        findings(a_record(trials), None),
        importances=[Importance("q", 1.0, 8, 0.01, 1.0), Importance("p", 0.0, 8, 1.0, 0.0)],
    )
    assert [row[0] for row in choice_rows(all_found)] == ["q=z", "q=y", "q=x", "q=w", "p=b", "p=a"]
    assert [row[0] for row in choice_rows(all_found, most=5)] == ["q=z", "q=y", "q=x", "q=w"]
    assert choice_table(all_found)[:2] == ["choice  n  best    median", "q=z     2  0.8750  0.6250"]


def test_reasons_that_differ_in_numbers_alone_are_one_cause() -> None:
    trials: list[dict[str, Any]] = [
        {"params": {}, "state": State.DIVERGED, "reason": f"train/loss is {value} at step {step}"}
        for value, step in [("nan", 37), ("inf", 4), ("nan", 1000)]
    ]
    trials += [
        {"params": {}, "state": State.FAILED, "error": "Traceback\n  here\nRuntimeError: no\tgpu"},
        {"params": {}, "state": State.FAILED, "reason": "x" * 10_000},
        {"params": {}, "state": State.INFEASIBLE},
        {"params": {}, "value": 0.5},
    ]
    told = causes(a_record(trials))
    assert [(cause.kind, cause.trials) for cause in told] == [
        (State.FAILED, [3]),
        (State.FAILED, [4]),
        (State.DIVERGED, [0, 1, 2]),
        (State.INFEASIBLE, [5]),
    ]
    assert [cause.example for cause in told][::3] == ["RuntimeError: no gpu", "no reason is recorded"]
    assert len(told[1].example) == 200
    said = what_failed(found(causes=told))
    assert said[2] == "3 diverged: train/loss is nan at step 37, for example (trials 0, 1 and 2)"


@pytest.mark.parametrize("trials", [[], linear(1), [{"params": {"a": 1}, "state": State.RUNNING}]])
def test_little_is_said_of_a_sweep_that_has_little(trials: list[dict[str, Any]]) -> None:
    told = findings(a_record(trials), None)
    assert (who_won(told), choice_rows(told), what_failed(told)) == ([], [], [])


def test_a_whole_simulated_sweep(tmp_path: Path) -> None:
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=200, epochs=6)
    told = findings(read_sweep(folder), folder)
    sentence = what_mattered(told)
    assert sentence is not None
    assert sentence.startswith("what mattered for being among the best: optimizer.lr ")
    assert any("diverged: train/loss is nan at step 37" in line for line in what_failed(told))
    assert choice_rows(told)[0][0].startswith("norm=")


@pytest.mark.parametrize("extreme", [1e308, -1e308, 5e-324, 0, 2**70])
@pytest.mark.parametrize("repeats", [1, 2])
def test_extreme_values_are_no_obstacle(extreme: float, repeats: int) -> None:
    trials = [
        {
            "params": {"a": extreme, "b": place},
            "value": value,
            "config_index": place // repeats,
            "repeat": place % repeats,
        }
        for place, value in enumerate([extreme, -1e308, extreme, 0.5, 1e308, extreme] * 4)
    ]
    for metric, mode in (("val/accuracy", "max"), ("val/loss", "min")):
        told = findings(a_record(trials, metric=metric, mode=mode, val=100), None)
        assert who_won(told)
        assert what_mattered(told)
