"""Ensembles in claims: groups and means worked out by hand, files as the journal names them and others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.analysis.claims import FAILS, HOLDS, UNDECIDED, Verdict, verdicts
from orchestrator.analysis.pooled import NoMemberError, Predicted, ensemble, groups_of_seeds
from orchestrator.analysis.predicted import predictions_in
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.records import State
from orchestrator.config.claims import Reducer
from orchestrator.journal.record import SweepRecord, TrialRecord, read_sweep
from tests.ensembles.finished import Made, finished_sweep, predictions

SEED = 1000
"""The seed of repeat 0; repeat 1 has 999, and so on, so that the order of seeds is not that of repeats."""


def a_trial(index: int, repeat: int = 0, state: State = State.COMPLETED) -> TrialRecord:
    config = {"seed": SEED - repeat}
    return TrialRecord(index, {}, config, config_index=0, repeat=repeat, suggested_ms=0, state=state)


def saying(*probabilities: Sequence[Sequence[float]], ids: Sequence[Sequence[int]] = ((0, 1),)) -> Any:
    """What trials 0, 1, ... predict of two examples of the classes 0 and 1."""

    def read(trial: TrialRecord) -> Predicted:
        places = np.array(ids[trial.index % len(ids)])
        return Predicted(np.array(probabilities[trial.index]), np.array([0, 1]), places, ("a", "b"), "f")

    return read


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    """Of (0.8, 0.2) and (0.4, 0.6) the mean is (0.6, 0.4); of (0.9, 0.1) and (0.3, 0.7) it is (0.6, 0.4), too."""
    said = saying([[0.8, 0.2], [0.9, 0.1]], [[0.4, 0.6], [0.3, 0.7]])
    members = [a_trial(0), a_trial(1)]
    assert ensemble(members, said) == {
        "val/accuracy": 0.5,
        "val/nll": pytest.approx(-(np.log(0.6) + np.log(0.4)) / 2),
    }
    assert ensemble(members[1:], said) == {
        "val/accuracy": 0.5,
        "val/nll": pytest.approx(-(np.log(0.4) + np.log(0.7)) / 2),
    }


def test_equal_probabilities_say_the_first_class_and_none_at_all_is_an_infinite_loss() -> None:
    assert ensemble([a_trial(0)], saying([[0.5, 0.5], [0.5, 0.5]]))["val/accuracy"] == 0.5
    assert ensemble([a_trial(0)], saying([[1.0, 0.0], [1.0, 0.0]]))["val/nll"] == np.inf


def test_members_are_completed_trials_of_the_same_examples() -> None:
    said = saying([[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2, ids=((0, 1), (0, 2)))
    with pytest.raises(NoMemberError, match="trials 0 and 1 predict different examples"):
        ensemble([a_trial(0), a_trial(1)], said)
    with pytest.raises(NoMemberError, match="trial 1 is stopped, and an ensemble takes completed trials"):
        ensemble([a_trial(0), a_trial(1, state=State.STOPPED)], said)
    with pytest.raises(NoMemberError, match="trial 0 has not ended"):
        ensemble([a_trial(0, state=State.RUNNING)], said)


@pytest.mark.parametrize(
    ("members", "of", "repeats", "groups"),
    [
        (3, 3, range(7), {0: [0, 1, 2], 1: [3, 4, 5]}),
        (2, 3, range(8), {0: [0, 1], 1: [3, 4], 2: [6, 7]}),
        (1, 1, range(2), {0: [0], 1: [1]}),
        (3, 3, (0, 2, 3, 4, 5), {1: [3, 4, 5]}),
        (2, 3, (0, 1, 3, 5), {0: [0, 1]}),
    ],
)
def test_groups_take_seeds_in_their_order_and_are_whole(
    members: int, of: int, repeats: Sequence[int], groups: Mapping[int, list[int]]
) -> None:
    by_seed = {SEED - repeat: [a_trial(repeat, repeat)] for repeat in sorted(repeats, reverse=True)}
    found = groups_of_seeds(by_seed, Reducer("mean", members=members, of=of))
    assert {group: sorted(trial.repeat for trial in trials) for group, trials in found.items()} == groups


# Claims over files ----------------------------------------------------------------------------------------------------

GROUPS, SIZE = 3, 2
MODELS = ("mlp", "convnet")


def side(metric: str, of_model: str | None = "mlp", **over: Any) -> dict[str, Any]:
    of = {"of": {"model": of_model}} if of_model else {}
    kept = {} if "ensemble" in json.dumps(over) else {"at": "kept"}
    return {"metric": metric, **kept, **of, "over": over}


def read(folder: Path, *claims: Mapping[str, Any]) -> SweepRecord:
    """The record of a sweep with claims, as its plan would have them."""
    record = read_sweep(folder, keep_epochs=True)
    plan = json.loads(record.plan)
    plan["settings"] = {"repeat": GROUPS * SIZE}
    plan["facts"] = {"num_classes": 3}
    plan["claims"] = [{"id": f"C{n}", "lecture": "001 L280", "says": "so", **one} for n, one in enumerate(claims)]
    record.plan = json.dumps(plan)
    return record


def of_folder(folder: Path, *claims: Mapping[str, Any]) -> list[Verdict]:
    record = read(folder, *claims)
    return verdicts(record, predictions=predictions_in(folder, record))


def made(repeats: int = GROUPS * SIZE) -> list[Made]:
    """Trials of two models, in the order of the repeats."""
    return [
        Made({"model": model}, {"seed": SEED - repeat}, config_index=place, repeat=repeat)
        for place, model in enumerate(MODELS)
        for repeat in range(repeats)
    ]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return finished_sweep(tmp_path / "one-0a1b2c3d", made())


def probabilities(index: int) -> np.ndarray[Any, Any]:
    """Those of the trial, from what `finished_sweep` writes for it."""
    odds = np.exp(predictions(index, 12, 8, 3)["val_logits"].astype(np.float64))
    return np.asarray(odds / odds.sum(1, keepdims=True))


LABELS = np.arange(12) % 3


def accuracy(*trials: int) -> float:
    return float((np.mean([probabilities(trial) for trial in trials], axis=0).argmax(1) == LABELS).mean())


def nll(*trials: int) -> float:
    mean = np.mean([probabilities(trial) for trial in trials], axis=0)
    return float(-np.log(mean[np.arange(12), LABELS]).mean())


def test_a_claim_about_groups_counts_groups(sweep: Path) -> None:
    """Trials 0 and 1, 2 and 3, 4 and 5 are the groups of the first model."""
    claim = {
        "left": side("val/accuracy", seed={"ensemble": SIZE}),
        "at_least": side("val/accuracy", seed={"mean": SIZE}),
        "margin": -0.3,
    }
    found, best = of_folder(sweep, claim, claim | {"at_least": side("val/accuracy", seed={"best": SIZE})})
    pairs = [(0, 1), (2, 3), (4, 5)]
    gains = [accuracy(a, b) - (accuracy(a) + accuracy(b)) / 2 + 0.3 for a, b in pairs]
    assert found.n == GROUPS
    assert found.interval == "t over groups of 2 seeds"
    assert found.low is not None
    assert found.high is not None
    assert (found.low + found.high) / 2 == pytest.approx(np.mean(gains))
    assert found.left == pytest.approx(np.median([accuracy(*pair) for pair in pairs]))
    assert best.right == pytest.approx(np.median([max(accuracy(a), accuracy(b)) for a, b in pairs]))


def test_the_loss_of_a_mean_probability_is_never_above_the_mean_loss(sweep: Path) -> None:
    losses = {index: nll(index) for index in range(GROUPS * SIZE)}
    every = {"left": side("val/nll", seed={"ensemble": SIZE}), "every_seed": True}
    least = min((losses[a] + losses[a + 1]) / 2 - nll(a, a + 1) for a in (0, 2, 4))
    assert least > 0
    singles = side("val/nll", seed={"ensemble": 1, "of": SIZE})
    holds, first = of_folder(sweep, every | {"at_most": 9.0}, every | {"at_least": singles})
    assert (holds.verdict, holds.interval) == (HOLDS, "range of the groups of 2 seeds")
    assert "in every group" in holds.claim.inequality
    assert holds.left == pytest.approx(np.median([nll(a, a + 1) for a in (0, 2, 4)]))
    assert first.right == pytest.approx(np.median([losses[a] for a in (0, 2, 4)]))


def test_a_pool_of_models_is_an_ensemble_a_seed(sweep: Path) -> None:
    """Trials 0 to 5 are of the first model, 6 to 11 of the second one, with the same seeds."""
    claim = {"left": side("val/accuracy", None, model="ensemble"), "at_least": side("val/accuracy", None, model="mean")}
    grouped = {"left": side("val/nll", None, model="ensemble", seed={"mean": SIZE}), "at_most": 9.0}
    swapped = {"left": side("val/nll", None, seed={"ensemble": SIZE}, model="worst"), "at_most": 9.0}
    both = {"left": side("val/nll", None, model="ensemble", seed={"ensemble": SIZE}), "at_most": 9.0}
    found, means, worst, pool = of_folder(sweep, claim, grouped, swapped, both)
    assert found.n == GROUPS * SIZE
    assert found.left == pytest.approx(np.median([accuracy(seed, seed + 6) for seed in range(6)]))
    assert means.n == GROUPS
    assert means.left == pytest.approx(np.median([(nll(a, a + 6) + nll(a + 1, a + 7)) / 2 for a in (0, 2, 4)]))
    assert worst.left == pytest.approx(np.median([max(nll(a, a + 1), nll(a + 6, a + 7)) for a in (0, 2, 4)]))
    assert pool.left == pytest.approx(np.median([nll(a, a + 1, a + 6, a + 7) for a in (0, 2, 4)]))


def test_a_file_that_is_not_the_one_that_the_journal_names_leaves_a_claim_undecided(sweep: Path) -> None:
    claim = {"left": side("val/accuracy", seed={"ensemble": SIZE}), "at_most": 1.1}
    others = claim | {"left": side("val/accuracy", "convnet", seed={"ensemble": SIZE})}
    assert [one.verdict for one in of_folder(sweep, claim, others)] == [HOLDS, HOLDS]
    path = trial_folder(sweep, 3) / PREDICTIONS
    contents = path.read_bytes()

    path.write_bytes((trial_folder(sweep, 4) / PREDICTIONS).read_bytes())
    damaged, whole = of_folder(sweep, claim, others)
    assert (damaged.verdict, whole.verdict) == (UNDECIDED, HOLDS)
    assert damaged.why == (
        "trial 3 cannot be a member: its predictions are damaged: their SHA-256 is not the one that was recorded"
    )
    path.unlink()
    assert of_folder(sweep, claim)[0].why == (
        "trial 3 cannot be a member: its predictions cannot be read (No such file or directory)"
    )
    path.write_bytes(contents)
    assert of_folder(sweep, claim)[0].verdict == HOLDS


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"header": {"uid": "one-0a1b2c3d/7"}}, "trial 1 cannot be a member: its predictions are of another trial"),
        ({"header": {"fingerprint": "f" * 64}}, "trials 0 and 1 predict different examples"),
        ({"header": {"classes": ["bird", "cat", "dog"]}}, "trials 0 and 1 predict different examples"),
        ({"arrays": {"val_labels": np.zeros(12, np.int64)}}, "trials 0 and 1 predict different examples"),
        ({"arrays": {"val_ids": np.arange(12)}}, "trials 0 and 1 predict different examples"),
        ({"arrays": {"val_logits": np.full((12, 3), np.nan, np.float32)}}, "its validation predictions are not finite"),
        ({"predictions": False}, "trial 1 has no predictions"),
        ({"state": "diverged"}, "trial 1 is diverged, and an ensemble takes completed trials"),
    ],
)
def test_what_is_no_member_leaves_a_claim_undecided(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    trials = made()
    trials[1] = replace(trials[1], **change)
    folder = finished_sweep(tmp_path / "one-0a1b2c3d", trials)
    claim = {"left": side("val/accuracy", seed={"ensemble": SIZE}), "at_most": 1.1}
    (found,) = of_folder(folder, claim)
    assert found.verdict == UNDECIDED
    assert why in found.why


def test_claims_about_trials_read_no_predictions(sweep: Path) -> None:
    for path in sweep.rglob(PREDICTIONS.name):
        path.unlink()
    kept, best = of_folder(
        sweep,
        {"left": side("val/accuracy", seed={"mean": SIZE}), "at_least": 1.1},
        {"left": {"metric": "val/accuracy", "of": {"model": "mlp"}}, "at_least": 1.1},
    )
    assert [kept.verdict, best.verdict] == [FAILS, FAILS]
    assert kept.left == pytest.approx(np.median([(accuracy(a) + accuracy(a + 1)) / 2 for a in (0, 2, 4)]))


def test_seeds_that_are_no_whole_group_leave_a_claim_undecided(sweep: Path) -> None:
    (found,) = of_folder(sweep, {"left": side("val/accuracy", seed={"mean": 7}), "at_most": 1.1})
    assert (found.verdict, found.n) == (UNDECIDED, 0)
    assert found.why.startswith("6 seeds are no whole group for val/accuracy (kept epoch)")


def test_one_group_gives_no_interval(sweep: Path) -> None:
    (found,) = of_folder(sweep, {"left": side("val/accuracy", seed={"mean": 5}), "at_most": 1.1})
    assert (found.verdict, found.n) == (UNDECIDED, 1)
    assert found.why == "one group of 5 seeds, or infinite values, give no interval"


def test_a_claim_about_ensembles_is_undecided_where_nobody_reads(sweep: Path) -> None:
    record = read(sweep, {"left": side("val/accuracy", seed={"ensemble": SIZE}), "at_most": 1.1})
    (found,) = verdicts(record)
    assert (found.verdict, found.why) == (UNDECIDED, "predictions are not read here")


def test_the_epoch_that_is_kept_is_the_best_by_the_sweeps_metric() -> None:
    from tests.analysis.test_claims import a_record, the

    epochs = [{"val/accuracy": 0.7, "val/nll": 0.9}, {"val/accuracy": 0.6, "val/nll": 0.5}]
    trials = [{"params": {"a": 1}, "epochs": epochs, "repeat": repeat} for repeat in range(3)]
    claim = {"left": {"metric": "val/nll", "at": "kept"}, "at_most": 0.9, "every_seed": True}
    record = a_record(trials, claim)
    for trial in record.trials.values():
        trial.best_epoch = 1
    assert (the(record).left, the(record).verdict) == (0.9, HOLDS)
    record.trials[0].best_epoch = None
    assert the(record).why == "trial 0 has no epoch kept"
