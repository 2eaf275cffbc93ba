"""`compare`: the winner is fixed by validation before the test is read; scores and costs against hand and independent ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from orchestrator.base.errors import ConfigError, RunningElsewhereError
from orchestrator.base.layout import LOCK
from orchestrator.base.locks import hold
from orchestrator.ensembles.catalogue import names
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison, Row
from orchestrator.ensembles.fixing import looks
from orchestrator.ensembles.gathering import Gathered, LeftOut
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.record import ensemble_of
from orchestrator.journal.publishing import publish
from tests.ensembles.candidates import gathered_of, split
from tests.ensembles.made import pool_of
from tests.synthetic import Sweep

FEW = ("mean", "greedy", "top_5")
QUICK: dict[str, Any] = {"resamples": 200}


def rows_of(found: Comparison) -> dict[str, Row]:
    return {row["method"]: row for row in found["rows"]}


ON_REQUEST = {"multi_crop", "monte_carlo_dropout", "fusion_multi_scale"}
"""They compute networks many times over."""


def finished(folder: Path) -> Path:
    sweep = Sweep(folder, {"kind": "none"})
    sweep.finish(1)
    sweep.journal.close()
    return folder


@pytest.fixture(scope="module")
def found() -> Comparison:
    pool, test = split(12, 300, 400, architectures=("mlp", "convnet"), seeds=3)
    left_out = [LeftOut("made-00000000/99", "its predictions are damaged")]
    return compare(gathered_of(pool, test, left_out=left_out), resamples=500)


def test_every_method_is_tried_or_it_is_said_why(found: Comparison) -> None:
    assert {row["method"] for row in found["rows"]} | {name for name, _ in found["not_tried"]} == {
        *names()
    } - ON_REQUEST
    assert found["left_out"] == [("made-00000000/99", "its predictions are damaged")]
    assert all(row["described"] for row in found["rows"])


def test_scores_of_the_test_are_those_of_the_recorded_ensembles(found: Comparison) -> None:
    """Rebuilt from the record, against scikit-learn."""
    _, (logits_MNK, labels_N, ids_N) = split(12, 300, 400, architectures=("mlp", "convnet"), seeds=3)
    for row in found["rows"]:
        said_NK = ensemble_of(row).probabilities(logits_MNK[[*row["members"]]])
        measures = row["test"]["measures"]
        assert measures["accuracy"] == pytest.approx(accuracy_score(labels_N, said_NK.argmax(1)))
        said_NK = np.maximum(said_NK, 1e-12)
        said_NK /= said_NK.sum(1, keepdims=True)  # float32 sums are off by 1e-7, which scikit-learn does not take
        assert measures["nll"] == pytest.approx(log_loss(labels_N, said_NK, labels=range(4)), rel=1e-6)
        low, high = row["accuracy"]["low"], row["accuracy"]["high"]
        wilson = binomtest(round(measures["accuracy"] * 400), 400).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((wilson.low, wilson.high))
        if row["method"] == found["winner"]:
            assert found["confusion"] == confusion_matrix(labels_N, said_NK.argmax(1)).tolist()
            wrong = said_NK.argmax(1) != labels_N
            top = ids_N[wrong][np.argsort(-said_NK[wrong].max(1), kind="stable")][: len(found["worst"])]
            assert [example["id"] for example in found["worst"]] == top.tolist()


def test_gains_are_over_the_best_single_member(found: Comparison) -> None:
    rows = rows_of(found)
    single = rows["best_single"]
    assert single["members"] == [0]
    assert single["gain_accuracy"]["value"] == 0
    assert "p_holm" not in single
    for row in found["rows"]:
        gain = row["test"]["measures"]["accuracy"] - single["test"]["measures"]["accuracy"]
        assert row["gain_accuracy"]["value"] == pytest.approx(gain)
        lost = single["test"]["measures"]["nll"] - row["test"]["measures"]["nll"]
        assert row["gain_nll"]["value"] == pytest.approx(lost)
        if row is not single:
            assert row["gain_nll"]["low"] <= lost <= row["gain_nll"]["high"]
            assert row["p_value"] <= row["p_holm"] <= 1


def test_rows_stand_in_the_order_of_the_test(found: Comparison) -> None:
    accuracies = [row["test"]["measures"]["accuracy"] for row in found["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert found["rows"][0]["in_set"]


def test_costs_are_sums_over_distinct_members(found: Comparison) -> None:
    for row in found["rows"]:
        assert row["parameters"] == 1_000 * len(row["members"])
        assert row["multiply_adds"] == 2_000 * len(row["members"])
        assert row["latency_ms"] is None


def test_the_winner_has_the_best_cross_fitted_validation_accuracy(found: Comparison) -> None:
    best = max(row["val"]["measures"]["accuracy"] for row in found["rows"])
    assert rows_of(found)[found["winner"]]["val"]["measures"]["accuracy"] == best


def test_sizes_end_with_the_whole_ranking_and_the_whole_selection(found: Comparison) -> None:
    rows = rows_of(found)
    ranking = [size for size in found["sizes"] if size[0] == "ranking"]
    assert [count for _, count, _, _ in ranking] == [*range(1, 13)]
    single = rows["best_single"]["test"]["measures"]
    assert ranking[0][2] == pytest.approx(single["accuracy"])
    assert ranking[0][3] == pytest.approx(single["nll"], rel=0.02), "its temperature is cross-fitted, here it is not"
    assert ranking[-1][2:] == pytest.approx([rows["mean"]["test"]["measures"][key] for key in ("accuracy", "nll")])
    name, count, accuracy, nll = found["sizes"][-1]
    assert count == len(rows[name]["members"])
    assert (accuracy, nll) == pytest.approx([rows[name]["test"]["measures"][key] for key in ("accuracy", "nll")])


def test_agreement_is_of_the_winner_and_symmetric(found: Comparison) -> None:
    places, matrix = found["agreement"]
    assert sorted(places) == sorted(rows_of(found)[found["winner"]]["members"])
    shares = np.array(matrix)
    assert (shares == shares.T).all()
    assert (np.diag(shares) == 0).all()
    if len(places) > 1:
        mean = shares.sum() / (len(places) * (len(places) - 1))
        assert rows_of(found)[found["winner"]]["disagreement"] == pytest.approx(mean)


def test_the_spread_of_seeds_is_told_apart_from_that_of_examples(found: Comparison) -> None:
    """By hand: the standard deviation within groups of three, whose means are not shared."""
    _, (logits_MNK, labels_N, _) = split(12, 300, 400, architectures=("mlp", "convnet"), seeds=3)
    accuracy_M = (logits_MNK.argmax(2) == labels_N).mean(1)
    groups: dict[str, list[float]] = {}
    for member, accuracy in zip(found["members"], accuracy_M, strict=True):
        groups.setdefault(member["configuration"], []).append(accuracy)
    assert {len(values) for values in groups.values()} == {3}
    expected = np.sqrt(np.mean([np.var(values, ddof=1) for values in groups.values()]))
    assert found["corrected"]["seeds_test"] == pytest.approx(expected)


# Before the test ------------------------------------------------------------------------------------------------------


def test_the_winner_is_in_the_journals_before_the_test_is_read(tmp_path: Path) -> None:
    folders = [finished(tmp_path / "runs" / name) for name in ("one-00000001", "two-00000002")]
    pool, test = split(6, 200, 100)
    asked: list[list[str]] = []
    seen: list[int] = []

    def watched(gathered: Gathered) -> Gathered:
        def read_test(names: Sequence[str]) -> Any:
            seen.extend(looks(folder) for folder in folders)
            return gathered.read_test(names)

        return replace(gathered, read_test=read_test)

    gathered = watched(gathered_of(pool, test, folders=folders, asked=asked))
    first = compare(gathered, methods=FEW, **QUICK)
    assert seen == [1, 1], "each journal had its event when the test was asked for"
    assert [sweep["look"] for sweep in first["sweeps"]] == [1, 1]
    publish(folders[1], "other-00000009", "note", "another text is no look")
    second = compare(replace(gathered, sources=gathered.sources[1:]), methods=FEW, temperature="none", **QUICK)
    assert [sweep["look"] for sweep in second["sweeps"]] == [2]
    assert len(asked) == 2


def test_the_journal_says_the_winner(tmp_path: Path) -> None:
    from orchestrator.journal.record import read_sweep

    folder = finished(tmp_path / "one-00000001")
    pool, test = split(6, 200, 100)
    found = compare(gathered_of(pool, test, folders=[folder]), methods=FEW, **QUICK)
    event = read_sweep(folder).published[found["uid"], "comparison"]
    assert event.text is not None
    said = json.loads(event.text)
    row = rows_of(found)[found["winner"]]
    assert said["winner"] == found["winner"]
    assert said["members"] == [found["members"][place]["name"] for place in row["members"]]
    assert said["validation"] == row["val"]["measures"]


def test_a_comparison_that_is_repeated_is_no_further_look(tmp_path: Path) -> None:
    """Nor is one that was cut off between two journals, and repeated; anything else that is compared is one."""
    folders = [finished(tmp_path / "runs" / name) for name in ("one-00000001", "two-00000002")]
    pool, test = split(6, 200, 100)
    cut_off = compare(gathered_of(pool, test, folders=folders[:1]), methods=FEW, **QUICK)
    repeated = compare(gathered_of(pool, test, folders=folders), methods=FEW, **QUICK)
    assert repeated["rows"] == cut_off["rows"]
    assert [sweep["look"] for sweep in repeated["sweeps"]] == [1, 1]
    other = compare(gathered_of(pool, test, folders=folders), methods=[*FEW, "top_5"], **QUICK)
    assert [sweep["look"] for sweep in other["sweeps"]] == [2, 2]
    fewer = pool.of([0, *range(2, 6)])
    assert rows_of(other)["best_single"]["members"] == [0]
    without = compare(
        gathered_of(fewer, (test[0][[0, *range(2, 6)]], *test[1:]), folders=folders), methods=FEW, **QUICK
    )
    assert [sweep["look"] for sweep in without["sweeps"]] == [3, 3]
    latency = compare(gathered_of(pool, test, folders=folders), methods=FEW, latency=True, **QUICK)
    assert [sweep["look"] for sweep in latency["sweeps"]] == [3, 3], "how long it takes says nothing of the test"


def test_labels_of_the_test_change_neither_winner_nor_weights() -> None:
    pool, (logits_MNK, labels_N, ids_N) = split(10, 200, 100, architectures=("mlp", "convnet"))
    right = compare(gathered_of(pool, (logits_MNK, labels_N, ids_N)), **QUICK)
    wrong = compare(gathered_of(pool, (logits_MNK, (labels_N + 1) % 4, ids_N)), **QUICK)
    assert right["winner"] == wrong["winner"]
    for row in right["rows"]:
        other = rows_of(wrong)[row["method"]]
        for key in ("members", "weights", "temperature", "val", "steps"):
            assert row[key] == other[key]  # type: ignore[literal-required]
        assert row["test"] != other["test"]


def test_the_order_of_members_changes_nothing() -> None:
    pool, (logits_MNK, labels_N, ids_N) = split(10, 200, 100, architectures=("mlp", "convnet"), seeds=2)
    order = np.random.default_rng(0).permutation(10).tolist()
    straight = compare(gathered_of(pool, (logits_MNK, labels_N, ids_N)), **QUICK)
    shuffled = compare(gathered_of(pool.of(order), (logits_MNK[order], labels_N, ids_N)), **QUICK)
    for key in ("members", "rows", "winner", "corrected", "sizes", "agreement", "worst", "confusion"):
        assert straight[key] == shuffled[key]  # type: ignore[literal-required]


def test_a_sweep_at_work_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    folders = [finished(tmp_path / "runs" / name) for name in ("one-00000001", "two-00000002")]
    pool, test = split(6, 200, 100)
    asked: list[list[str]] = []
    with (
        hold(folders[1] / LOCK, "works on sweep two"),
        pytest.raises(RunningElsewhereError, match=r"works on sweep two.*orchestrator stop two-00000002"),
    ):
        compare(gathered_of(pool, test, folders=folders, asked=asked), methods=FEW, **QUICK)
    assert not asked
    assert [looks(folder) for folder in folders] == [0, 0]


# Choosing -------------------------------------------------------------------------------------------------------------


def test_equal_members_have_honest_validation_scores() -> None:
    """Of 60 members that all guess, the best on 100 examples seems better; cross-fitted it does not."""
    draw = np.random.default_rng(5)
    labels_N = draw.integers(0, 2, 200)
    logits_MNK = draw.normal(size=(60, 200, 2))
    logits_MNK = (logits_MNK - logits_MNK.max(2, keepdims=True)).astype(np.float32)
    accuracy_M = (logits_MNK[:, :100].argmax(2) == labels_N[:100]).mean(1)
    order = np.argsort(-accuracy_M, kind="stable")
    pool = pool_of(np.exp(logits_MNK[order][:, :100]), labels_N[:100])
    pool = replace(
        pool,
        members=tuple(
            replace(one, value=float(accuracy_M[place])) for one, place in zip(pool.members, order, strict=True)
        ),
    )
    found = compare(gathered_of(pool, (logits_MNK[order][:, 100:], labels_N[100:], np.arange(100))), **QUICK)
    single = rows_of(found)["best_single"]
    assert accuracy_M.max() >= 0.6
    assert single["val"]["measures"]["accuracy"] <= 0.56
    assert rows_of(found)["greedy_50"]["val"]["measures"]["accuracy"] <= 0.6
    assert found["corrected"]["naive"] == pytest.approx(accuracy_M.max())
    assert found["corrected"]["value"] <= 0.56


def test_by_a_loss_the_winner_has_the_least_one() -> None:
    pool, test = split(8, 200, 100)
    nll_M = -np.log(pool.right_MN).mean(1)
    order = np.argsort(nll_M).tolist()
    pool = replace(
        pool.of(order),
        members=tuple(replace(pool.members[place], value=float(nll_M[place])) for place in order),
        larger_is_better=False,
    )
    found = compare(gathered_of(pool, (test[0][order], *test[1:]), metric="val/loss"), **QUICK)
    assert found["settings"]["chosen_by"] == "nll"
    least = min(row["val"]["measures"]["nll"] for row in found["rows"])
    assert rows_of(found)[found["winner"]]["val"]["measures"]["nll"] == least


def test_on_two_test_images_every_method_is_a_tie() -> None:
    """The best single trial has both right, an ensemble none: exact McNemar's p is 0.5 or more."""
    pool, (logits_MNK, labels_N, ids_N) = split(6, 200, 2)
    said_MN = np.array([labels_N, *[(labels_N + 1) % 4] * 5])
    logits_MNK = np.log(np.eye(4)[said_MN] + 0.01).astype(np.float32)
    found = compare(gathered_of(pool, (logits_MNK, labels_N, ids_N)), methods=FEW, **QUICK)
    assert {row["accuracy"]["value"] for row in found["rows"]} == {0.0, 1.0}
    assert all(row["in_set"] for row in found["rows"])


@pytest.mark.parametrize("budget", [1, 3])
def test_the_winner_keeps_to_its_budget(budget: int) -> None:
    pool, test = split(12, 200, 100, architectures=("mlp", "convnet", "resnet8"), seeds=3)
    found = compare(gathered_of(pool, test), budget=budget, **QUICK)
    for row in found["rows"]:
        assert row["allowed"] == (len(row["members"]) <= budget)
        if row["method"] not in ("mean", "geometric_mean", "majority_vote"):
            assert row["allowed"], row["method"]
        assert sum(row["weights"]) == pytest.approx(1)
    assert rows_of(found)[found["winner"]]["allowed"]
    assert len(rows_of(found)["mean"]["members"]) == 12, "what takes all members stays in the table"


def test_dear_members_are_passed_over() -> None:
    """The two best members cost more than the limit; one is of unknown cost."""
    pool, test = split(8, 200, 100)
    cost = [90, 90, None, 10, 10, 10, 10, 10]
    members = tuple(replace(member, multiply_adds=value) for member, value in zip(pool.members, cost, strict=True))
    found = compare(gathered_of(replace(pool, members=members), test), macs=35, **QUICK)
    for row in found["rows"]:
        taken = [found["members"][place]["multiply_adds"] for place in row["members"]]
        assert row["allowed"] == (None not in taken and sum(filter(None, taken)) <= 35)
    assert not rows_of(found)["best_single"]["allowed"]
    assert rows_of(found)["greedy"]["allowed"]
    assert set(rows_of(found)["greedy"]["members"]) <= {3, 4, 5, 6, 7}
    with pytest.raises(ConfigError, match=r"--macs 5: no ensemble and no single member costs so little"):
        compare(gathered_of(replace(pool, members=members), test), macs=5, **QUICK)


def test_the_temperature_of_chosen_members_is_that_of_new_examples() -> None:
    """Chosen for the validation examples that they get right by chance, members look sure; a temperature fitted to the same
    examples would be 0.56 here, where 0.88 is right."""
    draw = np.random.default_rng(8)
    true_NK = 1.5 * draw.normal(size=(20_100, 4))
    shares_NK = scipy.special.softmax(true_NK, axis=1)
    labels_N = (shares_NK.cumsum(1) < draw.random((20_100, 1))).sum(1)
    logits_MNK = (true_NK + 1.5 * draw.normal(size=(300, *true_NK.shape))).astype(np.float32)
    pool = pool_of(scipy.special.softmax(logits_MNK[:, :100], axis=2), labels_N[:100])
    unseen = (logits_MNK[:, 100:] - logits_MNK[:, 100:].max(2, keepdims=True), labels_N[100:], np.arange(20_000))
    found = compare(gathered_of(pool, unseen), methods=["greedy"], **QUICK)
    row = rows_of(found)["greedy"]
    said_NK = replace(ensemble_of(row), temperature=1.0).probabilities(unseen[0][[*row["members"]]])

    def nll(temperature: float) -> float:
        logs_NK = scipy.special.log_softmax(np.log(said_NK) / temperature, axis=1)
        return float(-logs_NK[np.arange(20_000), unseen[1]].mean())

    best = scipy.optimize.minimize_scalar(nll, bounds=(0.05, 20), method="bounded")
    assert row["temperature"] == pytest.approx(best.x, rel=0.2)
    assert row["test"]["measures"]["nll"] <= best.fun + 0.03


@pytest.mark.parametrize("temperature", ["after", "before", "none"])
def test_temperatures_come_when_they_are_asked_for(temperature: Any) -> None:
    pool, test = split(6, 200, 100)
    found = compare(gathered_of(pool, test), temperature=temperature, **QUICK)
    for row in found["rows"]:
        assert (row["temperature"] != 1.0) == (temperature == "after" and row["pooling"] != "stacked")
        assert len(row["member_temperatures"]) == (len(row["members"]) if temperature == "before" else 0)
        said_NK = ensemble_of(row).probabilities(test[0][[*row["members"]]])
        nll = -np.log(said_NK[np.arange(100), test[1]]).mean()
        assert row["test"]["measures"]["nll"] == pytest.approx(nll)


def test_a_chosen_method_comes_with_the_single_member() -> None:
    pool, test = split(6, 200, 100)
    found = compare(gathered_of(pool, test), methods=["greedy"], **QUICK)
    assert set(rows_of(found)) == {"greedy", "best_single"}


# Bad input ------------------------------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told() -> None:
    pool, test = split(3, 60, 40)
    with pytest.raises(ConfigError, match="takes two members") as caught:
        compare(gathered_of(pool.of([0]), test), temperature="aftr", budget=0, macs=0, seed=-1, name="a/b")  # type: ignore[arg-type]
    said = str(caught.value)
    for part in ("takes two members", "--temperature=aftr", "--budget=0", "--macs=0", "--seed=-1", "--name=a/b"):
        assert part in said
    with pytest.raises(ConfigError, match=r"--methods=gredy: is no method; did you mean greedy\?"):
        compare(gathered_of(pool, test), methods=["gredy"])


def test_few_examples_are_refused() -> None:
    pool, test = split(3, 10, 40)
    with pytest.raises(ConfigError, match=r"there are 10 validation examples"):
        compare(gathered_of(pool, test), **QUICK)


def hostile(kind: str) -> tuple[Pool, tuple[Any, Any, Any]]:
    pool, (logits_MNK, labels_N, ids_N) = split(4, 60, 40)
    if kind == "one class":
        return replace(pool, labels_N=np.zeros_like(pool.labels_N)), (logits_MNK, np.zeros_like(labels_N), ids_N)
    if kind == "equal members":
        return replace(pool, logits_MNK=pool.logits_MNK[[0] * 4]), (logits_MNK[[0] * 4], labels_N, ids_N)
    if kind == "never wrong":
        sure = np.where(np.arange(4) == pool.labels_N[:, None], 0, -100).astype(np.float32)
        sure_test = np.where(np.arange(4) == labels_N[:, None], 0, -100).astype(np.float32)
        return replace(pool, logits_MNK=np.stack([sure] * 4)), (np.stack([sure_test] * 4), labels_N, ids_N)
    if kind == "one is never right":
        logits_MNK = logits_MNK.copy()
        logits_MNK[0] = np.where(np.arange(4) == labels_N[:, None], -1000, 0)
        logits_MNK[1] = np.where(np.arange(4) == labels_N[:, None], 0, -1000)
        return pool, (logits_MNK, labels_N, ids_N)
    if kind == "one test example":
        return pool, (logits_MNK[:, :1], labels_N[:1], ids_N[:1])
    return pool, (logits_MNK[:, :0], labels_N[:0], ids_N[:0])


@pytest.mark.parametrize(
    "kind", ["one class", "equal members", "never wrong", "one is never right", "one test example", "no test"]
)
def test_odd_predictions_are_compared_all_the_same(kind: str, tmp_path: Path) -> None:
    from orchestrator.ensembles import record

    pool, test = hostile(kind)
    found = compare(gathered_of(pool, test), **QUICK)
    assert ("accuracy" in found["rows"][0]) == (kind != "no test")
    assert found["examples"] == {"val": 60, "test": len(test[1])}
    back = record.read(record.write(found, tmp_path))
    assert back == json.loads(json.dumps(found))
