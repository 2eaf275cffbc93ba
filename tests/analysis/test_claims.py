"""What claims come to, against records made by hand and SciPy's own intervals."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from orchestrator.analysis.claims import FAILS, HOLDS, UNDECIDED, Verdict, claim_row, tally, verdicts
from orchestrator.base.costs import key_of
from orchestrator.base.records import State
from orchestrator.cli.closing import claim_lines
from orchestrator.journal.events import SweepClosed, SweepOpened
from orchestrator.journal.record import SweepRecord, TrialRecord

SEEDS = (0, 11, 22)
Curve = Sequence[Mapping[str, Any]]


def accuracies(*values: object) -> Curve:
    return [{"val/accuracy": value} for value in values]


def a_trial(params: Mapping[str, Any], epochs: Curve, repeat: int = 0, **more: Any) -> dict[str, Any]:
    return {"params": params, "epochs": epochs, "repeat": repeat, **more}


def a_record(
    trials: Sequence[Mapping[str, Any]], *claims: Mapping[str, Any], closed: str | None = "finished"
) -> SweepRecord:
    """A sweep of three seeds over `a` and `b`, ended for the reason `closed`."""
    base = {"choices": {}, "model": {}, "data": {}, "epochs": 1, "seed": 0, "metric": "val/accuracy", "mode": "max"}
    plan = json.dumps(
        {
            "settings": {"repeat": 3},
            "base": base,
            "choices": {},
            "space": [],
            "facts": {"num_classes": 4},
            "claims": [
                {"id": f"C{place}", "lecture": "004 L1", "says": "so", **one} for place, one in enumerate(claims)
            ],
        }
    )
    opening = SweepOpened("s-00000000", "s", "val/accuracy", "max", len(trials), ".", plan, {"kind": "none"})
    record = SweepRecord(keep_epochs=True, opening=opening, plan=plan)
    record.closed = SweepClosed(closed, {}, None) if closed else None
    configurations = list(dict.fromkeys(json.dumps(one["params"]) for one in trials))
    for index, one in enumerate(trials):
        record.trials[index] = TrialRecord(
            index=index,
            params=dict(one["params"]),
            config={"seed": SEEDS[one["repeat"]], "choices": {"init": one.get("init")}, "model": {"width": 7}},
            config_index=configurations.index(json.dumps(one["params"])),
            repeat=one["repeat"],
            suggested_ms=0,
            state=one.get("state", State.COMPLETED),
            metrics=one.get("metrics", {}),
            epochs=[
                {"epoch": place, "time_ms": 0, "metrics": dict(metrics)}
                for place, metrics in enumerate(one["epochs"], 1)
            ],
        )
    return record


def of_seeds(params: Mapping[str, Any], values: Sequence[float | str]) -> list[dict[str, Any]]:
    return [a_trial(params, accuracies(value), repeat) for repeat, value in enumerate(values)]


def the(record: SweepRecord) -> Verdict:
    (found,) = verdicts(record)
    return found


def side(metric: str = "val/accuracy", **more: Any) -> dict[str, Any]:
    return {"metric": metric, **more}


ONE, TWO = [0.91, 0.93, 0.89], [0.72, 0.70, 0.73]


def test_seeds_are_paired_and_the_interval_is_students() -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    found = the(a_record(trials, {"left": side(of={"a": 1}), "at_least": side(of={"a": 2}), "margin": 0.05}))
    differences = np.array(ONE) - np.array(TWO) - 0.05
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert (found.left, found.right, found.n) == (0.91, 0.72, 3)
    assert found.verdict == HOLDS
    assert found.interval == "t over seeds"


@pytest.mark.parametrize(
    ("relation", "margin", "verdict"),
    [
        ("at_least", 0.0, HOLDS),
        ("at_least", 0.19, UNDECIDED),
        ("at_least", 0.5, FAILS),
        ("at_most", 0.5, HOLDS),
        ("at_most", 0.19, UNDECIDED),
        ("at_most", 0.0, FAILS),
    ],
)
def test_the_side_of_zero_on_which_the_interval_lies_decides(relation: str, margin: float, verdict: str) -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    found = the(a_record(trials, {"left": side(of={"a": 1}), relation: side(of={"a": 2}), "margin": margin}))
    assert found.verdict == verdict
    assert found.why == ("the interval holds 0" if verdict == UNDECIDED else "")


def test_seeds_that_the_sides_do_not_share_are_compared_by_welch() -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    record = a_record(trials, {"left": side(of={"a": 1}), "at_least": side(of={"a": 2}), "margin": 0.1})
    for trial in list(record.trials.values())[3:]:
        trial.config["seed"] += 1000
    found = the(record)
    expected = stats.ttest_ind(ONE, TWO, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low - 0.1, expected.high - 0.1), abs=1e-6)
    assert found.interval == "Welch's t"
    assert found.n == 3


def test_a_number_is_the_other_side_of_every_seed() -> None:
    found = the(a_record(of_seeds({"a": 1}, ONE), {"left": side(of={"a": 1}), "at_most": 0.95}))
    low, high = stats.t.interval(0.95, 2, np.mean(ONE) - 0.95, stats.sem(ONE))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert claim_row(found)[:4] == ("C0", found.verdict, "0.91", "<= 0.95")


def test_a_trial_that_diverged_has_the_accuracy_of_chance_and_an_infinite_loss() -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    trials[4]["state"] = State.DIVERGED
    record = a_record(
        trials,
        {"left": side(of={"a": 2}), "at_most": 2.0},
        {"left": side("val/loss", of={"a": 2}), "at_least": 1.0},
        {"left": side("test/top5_accuracy", of={"a": 2}), "at_most": 2.0},
        {"left": side("val/accuracy", until=0.71, of={"a": 2}), "at_most": 2.0},
    )
    for index, trial in record.trials.items():
        trial.epochs[0]["metrics"]["val/loss"] = 2.0 + index
        trial.metrics["test/top5_accuracy"] = 0.9
    chance, loss, top5, until = verdicts(record)
    assert chance.left == pytest.approx(np.median([0.72, 1 / 4, 0.73]))
    low, high = stats.t.interval(0.95, 2, np.mean([0.72, 0.25, 0.73]) - 2, stats.sem([0.72, 0.25, 0.73]))
    assert (chance.low, chance.high) == pytest.approx((low, high), abs=1e-6)
    assert (loss.low, loss.high, loss.verdict) == (4.0, math.inf, HOLDS)
    assert loss.interval == "range of the seeds"
    assert loss.to_json()["high"] == "inf"
    assert top5.left == 0.9
    assert (until.low, until.high) == (-1.0, math.inf)
    json.dumps([one.to_json() for one in verdicts(record)], allow_nan=False)


def test_two_infinite_sides_are_undecided() -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    for trial in trials:
        trial["state"] = State.DIVERGED
    found = the(a_record(trials, {"left": side("val/loss", of={"a": 1}), "at_least": side("val/loss", of={"a": 2})}))
    assert (found.verdict, found.why) == (UNDECIDED, "both sides are infinite")


@pytest.mark.parametrize(
    ("change", "closed", "why"),
    [
        ({"state": State.FAILED}, "finished", "trial 4 is failed"),
        ({"state": State.RUNNING}, "finished", "trial 4 has not ended"),
        ({"epochs": []}, "finished", "trial 4 has no val/accuracy"),
        ({"params": {"a": 3}}, "finished", "1 of 3 seeds are missing"),
        ({}, "stopped", "the sweep was ended: stopped"),
        ({}, None, "the sweep has not ended"),
    ],
)
def test_a_missing_run_leaves_a_claim_undecided(change: dict[str, Any], closed: str | None, why: str) -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    trials[4] |= change
    found = the(a_record(trials, {"left": side(of={"a": 1}), "at_least": side(of={"a": 2})}, closed=closed))
    assert found.verdict == UNDECIDED
    assert why in found.why
    assert tally([found]) == "1 claim: 1 undecided"


def test_one_seed_gives_no_interval_unless_the_claim_is_of_every_seed() -> None:
    claim = {"left": side(of={"a": 1}), "at_least": 0.5}
    record = a_record(of_seeds({"a": 1}, ONE[:1]), claim, claim | {"every_seed": True})
    record.plan = record.plan.replace('"repeat": 3', '"repeat": 1')
    alone, every = verdicts(record)
    assert (alone.verdict, alone.why) == (UNDECIDED, "one seed, or infinite values, give no interval")
    assert every.verdict == HOLDS


def test_what_must_hold_in_every_seed_may_be_equal_and_fails_with_one_seed() -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, [0.91, 0.92, 0.89])]
    claim = {"left": side(of={"a": 1}), "at_least": side(of={"a": 2}), "every_seed": True}
    found = the(a_record(trials, claim))
    assert found.verdict == HOLDS
    differences = [one - other for one, other in zip(ONE, [0.91, 0.92, 0.89], strict=True)]
    assert (found.low, found.high) == (pytest.approx(min(differences)), pytest.approx(max(differences)))
    assert found.interval == "range of the seeds"
    trials[5] = a_trial({"a": 2}, accuracies(0.95), 2)
    assert the(a_record(trials, claim)).verdict == FAILS


@pytest.mark.parametrize(("columns", "said"), [(70, "no room for interval"), (140, "0.05 to 0.05")])
def test_the_table_has_its_margin_and_says_what_has_no_room(
    columns: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    claim = {"left": side(of={"a": 1}), "at_least": 0.5, "margin": -0.05, "id": "E99-a-name-as-long-as-they-come"}
    record = a_record(of_seeds({"a": 1}, [0.5, 0.5, 0.5]), claim)
    lines = claim_lines(verdicts(record))
    assert ">= 0.5 -0.05" in lines[2]
    assert said in " ".join(" ".join(lines).split())


GRID = {0.001: 0.1, 0.01: 0.5, 0.1: 0.9, 1.0: 0.8, 10.0: 0.3, 100.0: 0.75}
"""A plateau of one decade above 0.72 = 0.8 * 0.9, and a value beyond a gap that is no part of it."""


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("best", 0.9),
        ("worst", 0.1),
        ("max", 0.9),
        ("min", 0.1),
        ("mean", np.mean([*GRID.values()])),
        ("median", np.median([*GRID.values()])),
        ("sum", 3.35),
        ("argbest", 0.1),
        ("rise", 0.45),
        ("fall", 0.5),
        ({"plateau": 0.8}, 1.0),
        ({"plateau": 0.5}, 2.0),
        ({"largest": 0.8}, 100.0),
    ],
)
def test_what_becomes_of_the_values_along_a_key(over: Any, expected: float) -> None:
    trials = [one for a, value in reversed(GRID.items()) for one in of_seeds({"a": a}, [value] * 3)]
    found = the(a_record(trials, {"left": side(over={"a": over}), "at_least": 0.0}))
    assert found.left == pytest.approx(expected)


@pytest.mark.parametrize("losses", [(1.0, math.inf, math.inf), (math.inf, math.inf, 1.0), (2.0, 1.0, 1.0)])
def test_from_one_infinite_loss_to_the_next_nothing_falls(losses: tuple[float, ...]) -> None:
    trials = [a_trial({"a": a}, [{"val/loss": value}], repeat) for a, value in enumerate(losses) for repeat in range(3)]
    found = the(a_record(trials, {"left": side("val/loss", over={"a": "fall"}), "at_least": 0.0}))
    steps = [0.0 if after == before else before - after for before, after in itertools.pairwise(losses)]
    assert found.left == max(steps)


def test_keys_are_reduced_one_after_the_other() -> None:
    """The median over b of the best over a."""
    values = {(a, b): 0.1 * a + 0.01 * b * (3 - a) for a in (1, 2) for b in (1, 2, 5)}
    trials = [one for (a, b), value in values.items() for one in of_seeds({"a": a, "b": b}, [value] * 3)]
    found = the(a_record(trials, {"left": side(over={"a": "best", "b": "median"}), "at_least": 0.0}))
    assert found.left == pytest.approx(np.median([max(values[1, b], values[2, b]) for b in (1, 2, 5)]))


@pytest.mark.parametrize(
    ("over", "expected"), [("best", 0.93), ("median", 0.83), ({"plateau": 0.5}, 1.0), ({"largest": 0.5}, 10.0)]
)
def test_seeds_that_one_configuration_alone_was_given_are_not_reduced_over_it(over: Any, expected: float) -> None:
    """As `resume --seeds 0=5` leaves a sweep, whose further seeds would each be a best and a plateau of their own."""
    trials = [*of_seeds({"a": 1}, [0.93] * 3), *of_seeds({"a": 10}, [0.73] * 3)]
    claim = {"left": side(over={"a": over}), "at_least": 0.05}
    record, alone = a_record([*trials, *of_seeds({"a": 1}, [0.1, 0.2])], claim), the(a_record(trials, claim))
    for seed, index in enumerate((6, 7), 1000):
        record.trials[index].config["seed"] = seed
    record.trials[7].state = State.RUNNING
    assert the(record) == alone
    assert (alone.left, alone.verdict, alone.n) == (pytest.approx(expected), HOLDS, 3)


def test_further_seeds_of_every_configuration_count_and_a_seed_without_a_point_leaves_it_undecided() -> None:
    trials = [
        *of_seeds({"a": 1}, ONE),
        *of_seeds({"a": 2}, TWO),
        *of_seeds({"a": 1}, [0.9]),
        *of_seeds({"a": 2}, [0.6]),
    ]
    record = a_record(trials, {"left": side(over={"a": "best"}), "at_least": 0.5})
    record.trials[6].config["seed"] = record.trials[7].config["seed"] = 1000
    low, high = stats.t.interval(0.95, 3, np.mean([*ONE, 0.9]) - 0.5, stats.sem([*ONE, 0.9]))
    assert (the(record).low, the(record).high) == pytest.approx((low, high), abs=1e-6)
    del record.trials[7]
    assert the(record).n == 3
    del record.trials[4]
    assert the(record).verdict == UNDECIDED
    assert the(record).why.startswith("2 of 3 seeds have every value of a for val/accuracy")


def test_seeds_that_are_searched_are_reduced_as_any_key() -> None:
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    record = a_record(trials, {"left": side(over={"a": "best", "seed": "mean"}), "at_least": 0.5, "every_seed": True})
    assert (the(record).left, the(record).n, the(record).verdict) == (0.91, 3, HOLDS)


def test_the_best_of_a_loss_and_of_epochs_until_is_the_smallest() -> None:
    trials = [
        a_trial({"a": a}, [{"train/loss": loss} for loss in curve], repeat)
        for a, curve in ((1, [2.0, 1.0, 0.4]), (2, [2.0, 0.5, 0.45]))
        for repeat in range(3)
    ]
    last, until, sooner, never = verdicts(
        a_record(
            trials,
            {"left": side("train/loss", over={"a": "best"}), "at_least": 0},
            {"left": side("train/loss", until=0.5, over={"a": "best"}), "at_least": 0},
            {"left": side("train/loss", until=0.5, over={"a": "worst"}), "at_least": 0},
            {"left": side("train/loss", until=0.1, of={"a": 1}), "at_least": 6},
        )
    )
    assert (last.left, until.left, sooner.left) == (0.4, 2.0, 3.0)
    assert (never.left, never.verdict) == (math.inf, HOLDS)


def test_epochs_gaps_and_formulas() -> None:
    curve = [{"train/accuracy": 0.5, "val/accuracy": 0.6}, {"train/accuracy": 0.9, "val/accuracy": 0.8}]
    curve.append({"train/accuracy": 1.0, "val/accuracy": 0.7, "images_per_s": 500.0})
    curve[0]["images_per_s"] = 900.0
    trials = [a_trial({"a": 1}, curve, repeat) for repeat in range(3)]
    claims = [
        {"left": one, "at_least": 0}
        for one in (
            side(),
            side(at="best"),
            side(at=1),
            side("gap"),
            side("images_per_s", at="best"),
            {"difference": [side("gap"), 0.1]},
            {"ratio": [side(), side(at="best")]},
            {"product": [2, side()]},
            {"absolute": {"difference": [0, side()]}},
            {"max": [side(), 0.75, 0.1]},
            {"min": [side(), 0.75, 0.1]},
        )
    ]
    found = [one.left for one in verdicts(a_record(trials, *claims))]
    assert found == pytest.approx([0.7, 0.8, 0.6, 0.3, 900.0, 0.2, 0.7 / 0.8, 1.4, 0.7, 0.75, 0.1])


def test_trials_are_chosen_by_searched_keys_groups_and_fixed_values() -> None:
    trials = [*of_seeds({"a": 0.1 + 0.2}, ONE), *of_seeds({"a": 0.5}, TWO)]
    for trial in trials[:3]:
        trial["init"] = "kaiming"
    by_value, by_group, by_list, none = verdicts(
        a_record(
            trials,
            {"left": side(of={"a": 0.3}), "at_least": 0},
            {"left": side(of={"init": "kaiming", "model.width": 7}), "at_least": 0},
            {"left": side(of={"a": [0.3, 0.5]}, over={"a": "worst"}), "at_least": 0},
            {"left": side(of={"a": 0.7}), "at_least": 0},
        )
    )
    assert (by_value.left, by_group.left, by_list.left) == (0.91, 0.91, 0.72)
    assert none.why == "there is no trial for val/accuracy [a=0.7]"


def test_what_networks_cost_is_taken_from_the_plan() -> None:
    """Of the one network that was counted; a trial that diverged has its parameters all the same."""
    trials = [*of_seeds({"a": 1}, ONE), *of_seeds({"a": 2}, TWO)]
    trials[1]["state"] = State.DIVERGED
    claims = [{"left": side(metric, of={"a": a}), "at_least": 100} for a in (1, 2) for metric in ("parameters", "macs")]
    record = a_record(trials, *claims, {"left": {"ratio": [side("macs", of={"a": 1}), 50]}, "at_least": 8})
    for trial in list(record.trials.values())[3:]:
        trial.config["model"] = {"width": 9}
    facts = {"costs": [["model=mlp", 123, 400, 56]], "multiply_adds": {key_of(record.trials[0].config): [400, 56]}}
    plan = json.loads(record.plan)
    record.plan = json.dumps(plan | {"facts": plan["facts"] | facts})
    parameters, macs, unknown, _, ratio = verdicts(record)
    assert (parameters.left, macs.left, ratio.left) == (123, 456, 456 / 50)
    assert (parameters.verdict, parameters.low, parameters.high) == (HOLDS, 23, 23)
    assert unknown.why == "the parameters of trial 3 were not counted when the sweep was planned"


def layers(**of: float) -> dict[str, float]:
    """Activations' std, by layer in the order of computation; `init_b` is of the first step."""
    return {
        f"{'init' if 'init' in name else 'layers'}/{name.removeprefix('init_')}/activation_std": value
        for name, value in of.items()
    }


def test_metrics_of_layers_are_found_by_name_and_place() -> None:
    """In epoch 2 the step skipped layer b of the first trial; `last` is c all the same."""
    curve = [layers(init_b=1, init_a=2, init_c=3, b=4, a=5, c=6), layers(a=7, c=8)]
    trials = [a_trial({"a": 1}, curve, repeat) for repeat in range(3)]
    wanted = {
        "init/first/activation_std": 1,
        "init/last/activation_std": 3,
        "init/a/activation_std": 2,
        "layers/first/activation_std": 7,
        "layers/last/activation_std": 8,
    }
    record = a_record(
        trials,
        *({"left": side(metric), "at_least": 0} for metric in wanted),
        {"left": side("layers/first/activation_std", at=1), "at_least": 0},
        {"left": side("layers/b/activation_std"), "at_least": 0},
        {"left": side("layers/d/activation_std"), "at_least": 0},
        {"left": side("layers/small_weights"), "at_least": 0},
    )
    for trial in record.trials.values():
        trial.epoch = 2
    *found, first, skipped, unknown, small = verdicts(record)
    assert [one.left for one in found] == [*wanted.values()]
    assert first.left == 4
    assert skipped.why == "trial 0 has no layers/b/activation_std in its last epoch: it was not finite, or not reached"
    assert unknown.why == "trial 0 has no layers/d/activation_std: its layers are b, a, c"
    assert small.why == "trial 0 has no layers/small_weights"


def test_of_a_trial_that_diverged_the_layers_count_that_were_measured_before() -> None:
    curve = [layers(init_a=1, a=2)]
    trials = [a_trial({"a": 1}, curve, repeat, state=State.DIVERGED) for repeat in range(3)]
    begun, at_one, at_last = verdicts(
        a_record(
            trials,
            {"left": side("init/last/activation_std"), "at_least": 0},
            {"left": side("layers/last/activation_std", at=1), "at_least": 0},
            {"left": side("layers/last/activation_std"), "at_least": 0},
        )
    )
    assert (begun.left, at_one.left) == (1, 2)
    assert at_last.why == "trial 0 diverged, and has no last epoch for layers/last/activation_std"


def test_epochs_are_counted_and_summed_also_of_trials_that_were_stopped_or_diverged() -> None:
    trials = [one for a in (1, 2, 3) for one in of_seeds({"a": a}, ONE)]
    for trial, state in zip(trials, [State.COMPLETED] * 3 + [State.STOPPED] * 3 + [State.DIVERGED] * 3, strict=True):
        trial["state"] = state
    record = a_record(trials, {"left": side("epochs", over={"a": "sum"}), "at_most": 15})
    for index, trial in record.trials.items():
        trial.epoch = (10, 3, 1)[index // 3]
    assert (the(record).left, the(record).verdict) == (14, HOLDS)


CURVES = {1: [0.9, 0.3, 0.2], 2: [0.5, 0.7, 0.6], 3: [0.4, 0.95, 0.8]}


def test_the_trial_that_is_best_at_an_epoch_is_followed_to_another() -> None:
    """Of a=1 that is ahead after one epoch, the last epoch; one that diverged is at chance, 0.25, and never ahead."""
    trials = [a_trial({"a": a}, accuracies(*curve), repeat) for a, curve in CURVES.items() for repeat in range(3)]
    claims = [
        {"left": side(chosen_at=epoch, at=at, over={"a": "best"}), "at_least": 0}
        for epoch, at in ((1, "last"), (1, "best"), (2, "last"), (3, 1), (3, "best"))
    ]
    assert [one.left for one in verdicts(a_record(trials, *claims))] == [0.2, 0.9, 0.8, 0.4, 0.95]
    for trial in trials[:3]:
        trial["state"] = State.DIVERGED
    assert the(a_record(trials, claims[0])).left == 0.6
    losses = [a_trial({"a": a}, [{"val/loss": v} for v in c], repeat) for a, c in CURVES.items() for repeat in range(3)]
    best = {"left": side("val/loss", chosen_at=1, over={"a": "best"}), "at_least": 0}
    assert the(a_record(losses, best)).left == 0.8
    trials[8] |= {"epochs": []}
    assert the(a_record(trials, claims[0])).why == "trial 8 has no val/accuracy"


def test_values_that_are_lists_are_told_apart_and_reduced() -> None:
    """A list is a value where trials have it, and a list of values otherwise."""
    trials = [*of_seeds({"a": ["flip"]}, ONE), *of_seeds({"a": ["flip", "cutout"]}, TWO)]
    found = verdicts(
        a_record(
            trials,
            {"left": side(of={"a": ["flip"]}), "at_least": 0},
            {"left": side(of={"a": [["flip"]]}), "at_least": 0},
            {"left": side(of={"a": ["flip", "cutout"]}), "at_least": 0},
            {"left": side(of={"a": [["flip"], ["flip", "cutout"]]}, over={"a": "worst"}), "at_least": 0},
            {"left": side(of={"a": "flip"}), "at_least": 0},
        )
    )
    assert [one.left for one in found] == [0.91, 0.91, 0.72, 0.72, None]


def test_what_has_no_value_is_undecided_and_says_why() -> None:
    """No claim that was planned can end the sweep with an exception."""
    trials = [*of_seeds({"a": 0, "b": 1}, ONE), *of_seeds({"a": 1, "b": 1}, TWO)]
    several, zero, apart, infinite = verdicts(
        record := a_record(
            trials,
            {"left": side(of={"b": 1}), "at_least": 0},
            {"left": side(over={"a": {"plateau": 0.5}}), "at_least": 0},
            {"left": {"difference": [side(of={"a": 0}), side(of={"a": 1})]}, "at_least": 0},
            {"left": side(until=5.0, of={"a": 0}), "at_least": side(of={"a": 1})},
        )
    )
    assert "several configurations fit" in several.why
    assert zero.why == "a plateau in decades needs a key above 0"
    assert (apart.verdict, infinite.verdict) == (HOLDS, HOLDS)
    for index in (3, 4, 5):
        record.trials[index].config["seed"] += 1000
    apart, infinite = verdicts(record)[2:]
    assert apart.why.startswith("the measures of (val/accuracy [a=0] - val/accuracy [a=1]) share no seed")
    assert infinite.why == "one seed, or infinite values, give no interval"
    assert {one.verdict for one in verdicts(record)} == {UNDECIDED}


def test_a_sweep_without_claims_has_none() -> None:
    assert verdicts(a_record(of_seeds({"a": 1}, ONE))) == []
