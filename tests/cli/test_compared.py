"""What compare says to people of a record: names, columns, the batch that was timed, and the member to look at first."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.compared import lines_of, next_steps
from orchestrator.cli.compared_table import table_lines
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.page.head import dropped
from orchestrator.ensembles.page.view import View
from tests.ensembles.compared import comparison

CORRECTED = {"naive": 0.915, "value": 0.903, "low": 0.89, "high": 0.92}
OF_WINNER = {"winner_naive": 0.93, "winner_value": 0.925, "winner_low": 0.91, "winner_high": 0.94}


def found_with(winner: str, **values: Any) -> Comparison:
    """A comparison that this method wins, with these values in its row."""
    found: Any = copy.deepcopy(comparison())
    found["winner"] = winner
    for row in found["rows"]:
        row["allowed"] = True
        row.update(values if row["method"] == winner else {})
    return found  # type: ignore[no-any-return]


def text_of(found: Comparison) -> str:
    return " ".join(" ".join(lines_of(found, Path("runs/comparisons/x/comparison.json"))).split())


def last_step(found: Comparison) -> str:
    return next_steps(found, Path("runs/comparisons/x"), registered=None)[-1]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the sweeps of the comparison lie, in `runs` and in `other runs`."""
    monkeypatch.chdir(tmp_path)
    for member in comparison()["members"]:
        for runs in ("runs", "other runs"):
            folder = tmp_path / runs / member["name"].rpartition("/")[0]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "journal.sqlite").touch()
    return tmp_path


def test_a_trial_whose_sweep_is_not_here_is_not_to_be_shown() -> None:
    assert next_steps(found_with("mean"), Path("elsewhere/comparisons/x"), registered=None) == []


@pytest.mark.parametrize(
    ("winner", "values", "place", "what"),
    [
        ("mean", {}, 0, "its best member"),
        ("majority_vote", {"members": [3, 2, 5], "weights": [1 / 3] * 3}, 2, "its best member"),
        ("mean", {"pooling": "stacked", "members": [1, 4], "weights": [0.3, 0.7]}, 1, "its best member"),
        ("greedy", {"members": [1, 4], "weights": [0.3, 0.7]}, 4, "its member with the most weight"),
        ("best_single", {"members": [0], "weights": [1.0]}, 0, "the trial that it is"),
    ],
)
def test_the_member_to_look_at_is_named_for_what_it_is(
    winner: str, values: dict[str, Any], place: int, what: str
) -> None:
    found = found_with(winner, **values)
    assert last_step(found) == f"  orchestrator show {found['members'][place]['name']}    {what}"


def test_paths_are_as_they_were_typed() -> None:
    found = found_with("mean")
    assert "--runs-dir" not in last_step(found)
    (step,) = next_steps(found, Path("other runs/comparisons/x"), registered=None)[1:]
    assert " --runs-dir 'other runs'    " in step


def test_a_look_that_nothing_recorded_is_not_called_free() -> None:
    found = found_with("mean")
    found["sweeps"] = [{"uid": "served-0a1b2c3d", "metric": "val/accuracy", "mode": "max", "look": 0}]
    assert "Nothing records this look at the test" in text_of(found)
    assert "no further look" not in text_of(found)


def test_what_is_timed_is_said_and_the_loss_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_with("mean")
    found["environment"] = {"latency_batch": "64", "latency_on": "a small one, CPU"}
    for row in found["rows"]:
        row["latency_ms"] = 0.0123
    monkeypatch.setenv("COLUMNS", "80")
    table, legend = table_lines(found)[: 1 + len(found["rows"])], " ".join(table_lines(found)[1 + len(found["rows"]) :])
    assert max(map(len, table)) <= 80
    assert {"NLL", "ms"} <= {*table[0].split()}
    assert table[1].split()[-1] == "0.012"
    assert "ms: for a batch of 64 images on a small one, CPU, members one after the other" in " ".join(legend.split())
    found["environment"] = {**found["environment"], "latency_spread": "1.62", "latency_busy": "yes"}
    told = "(repeated, up to 1.62 times as long; the machine is busy, so time again when it is not)"
    assert told in " ".join(" ".join(table_lines(found)).split())
    assert "no room for p, val %, MACs, over mean: a wider terminal shows them" in " ".join(legend.split())


@pytest.mark.parametrize(
    ("latency", "told"), [(0.2149, "0.21"), (3.44, "3.4"), (9.96, "10"), (48.2, "48"), (112.0, "110"), (1234.0, "1200")]
)
def test_a_latency_is_no_power_of_ten(latency: float, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = found_with("mean")
    for row in found["rows"]:
        row["latency_ms"] = latency
    assert table_lines(found)[1].split()[-1] == told


def test_the_validation_column_is_called_cross_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = found_with("mean", gain_over_mean=0.0321)
    lines = table_lines(found)
    legend = " ".join(" ".join(lines[1 + len(found["rows"]) :]).split())
    assert "* the winner: the highest accuracy on cross-fitted validation predictions" in legend
    assert "val %: cross-fitted, each example by an ensemble that was built without it" in legend
    assert "over mean: in points over the mean of its members, a soup over that of its ingredients" in legend
    rows = {line.split()[0]: line for line in lines[1 : 1 + len(found["rows"])]}
    assert rows["mean"].endswith("+3.21")
    assert not rows["best_single"].rstrip().endswith("+1.00"), "it is its own mean"
    found["settings"] = {"chosen_by": "nll"}
    assert "* the winner: the lowest NLL on cross-fitted" in " ".join(table_lines(found))


def test_the_winner_is_corrected_beside_the_best_single_trial() -> None:
    found = found_with("mean")
    found["corrected"] = {**CORRECTED, **OF_WINNER}
    assert (
        "The best single trial's validation accuracy of 91.50 % is the best of 16; corrected for that choice it is 90.30 % "
        "(95 %: 89.00 to 92.00). The winner's of 93.00 %, cross-fitted, was chosen among 8 methods; corrected for that choice "
        "it is 92.50 % (95 %: 91.00 to 94.00)."
    ) in text_of(found)
    assert (
        "These intervals are over 200 validation images: scores on those that a resample left out, and at least Wilson's"
    ) in text_of(found)
    found["corrected"] = CORRECTED
    assert "The winner's of" not in text_of(found)


@pytest.mark.parametrize(
    ("low", "p_value", "word"), [(0.004, 0.01, "is hardly chance"), (0.004, 0.2, "may"), (-0.01, 0.01, "may")]
)
def test_what_may_be_chance_is_called_so(low: float, p_value: float, word: str) -> None:
    gain = {"value": 0.02, "low": low, "high": 0.04}
    assert f"That {word}" in text_of(found_with("mean", gain_accuracy=gain, p_holm=p_value))


def test_where_interval_and_p_differ_it_is_said_that_both_have_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = found_with("mean", gain_accuracy={"value": 0.0111, "low": 0.000004, "high": 0.0278}, p_holm=0.125)
    text = text_of(found)
    assert "+1.11 [+0.0004 +2.8]" in text
    assert (
        "(95 %: +0.0004 to +2.78). That may be chance: the interval excludes 0, but McNemar's exact p = 0.12, corrected for 7 "
        "tests; a gain is sure where p is below 0.05, too."
    ) in text
    assert "sure where the interval excludes 0 and p < 0.05" in text
    assert "with Holm's correction for the 7 tests of this comparison, not for earlier looks" in text


def test_a_sweep_of_which_nothing_is_compared_stands_at_the_top() -> None:
    found = found_with("mean")
    found["left_out"] = [("made-00000000/99", "it diverged"), *((f"two-0a1b2c3d/{n}", "another split") for n in (0, 1))]
    lines = lines_of(found, Path("runs/comparisons/x/comparison.json"))
    heading = lines[0].splitlines()
    assert heading[1] == "NOT COMPARED: two-0a1b2c3d, no trial of which fits (another split)"
    assert dropped(View(found, {})) == "Not compared, as no trial of them fits: two-0a1b2c3d (another split)."
    found["left_out"] = found["left_out"][:1]
    assert "NOT COMPARED" not in text_of(found)


@pytest.mark.parametrize(
    ("trainings", "members", "told"),
    [
        (40, [0, 1, 2], "at equal cost (as many trainings, as many networks)."),
        (52, [0, 1, 2, 3, 4], "with 12 more trainings and 2 more networks."),
        (39, [0, 1], "with 1 fewer training and 1 fewer network."),
        (40, [0, 1], "with 1 fewer network."),
    ],
)
def test_the_hyper_deep_ensemble_is_compared_at_its_cost(trainings: int, members: list[int], told: str) -> None:
    found: Any = found_with("mean")
    rows = {row["method"]: row for row in found["rows"]}
    weights = [1 / len(members)] * len(members)
    gain = {"value": 0.012, "low": -0.004, "high": 0.028}
    hyper_deep = {**rows["greedy"], "method": "hyper_deep", "members": members, "weights": weights}
    hyper_deep |= {"trainings": trainings, "gain_over_seeds": gain}
    seeds = {**rows["mean"], "method": "seeds", "members": [5, 6, 7], "weights": [1 / 3] * 3, "trainings": 40}
    found["rows"] += [hyper_deep, seeds]
    assert f"hyper_deep over seeds: +1.20 points (95 %: -0.40 to +2.80), {told}" in text_of(found)
    assert "took the same members" not in text_of(found)
    rows["greedy"]["members"] = members[::-1]
    assert "hyper_deep took the same members as greedy." in text_of(found)
