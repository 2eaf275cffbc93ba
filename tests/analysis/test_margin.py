"""The winner's margin: from seeds, from stored predictions, from counts, and where nothing is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from scipy import stats

from orchestrator.analysis.intervals import newcombe, tango
from orchestrator.analysis.margin import margin
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.base.records import State
from orchestrator.journal.record import SweepRecord
from tests.analysis.records import a_record

N, CLASSES = 287, 10


def write_predictions(folder: Path, record: SweepRecord, trial: int, wrong: Sequence[int], **changed: Any) -> None:
    """Predictions of which those numbered `wrong` are wrong; what a model gets wrong is of the next class."""
    labels = np.arange(N) % CLASSES
    told = labels.copy()
    told[list(wrong)] += 1
    logits = np.where(np.arange(CLASSES) == (told % CLASSES)[:, None], 0.0, -3.0).astype(np.float32)
    arrays = {"val_logits": logits, "val_ids": np.arange(N), "val_labels": labels, **changed}
    path = trial_folder(folder, trial) / PREDICTIONS
    path.parent.mkdir(parents=True)
    path.write_bytes(contents := save(arrays))
    artifact = {"path": f"trials/{trial:05d}/{PREDICTIONS}", "sha256": hashlib.sha256(contents).hexdigest()}
    record.trials[trial].artifacts.append(artifact)  # type: ignore[arg-type]


def a_sweep(folder: Path, wrong: Sequence[Sequence[int]], examples: int | None = N) -> SweepRecord:
    """One trial for each list of wrong examples, with predictions."""
    values = [1 - len(one) / N for one in wrong]
    record = a_record([{"params": {"a": place}, "value": value} for place, value in enumerate(values)], val=examples)
    for trial, one in enumerate(wrong):
        write_predictions(folder, record, trial, one)
    return record


def test_the_same_examples_are_compared_one_by_one(tmp_path: Path) -> None:
    """7 wrong against 17, 5 of them the same: 12 to 2, which McNemar tells apart (z = 2.67)."""
    record = a_sweep(tmp_path, [range(5, 22), [*range(5, 10), 100, 101], range(200)])
    found = margin(record, tmp_path)
    assert found is not None
    assert (found.winner, found.runner_up, found.method, found.examples) == (1, 0, "paired", N)
    assert found.difference == pytest.approx(10 / N)
    assert (found.low, found.high) == pytest.approx(tango(12, 2, N))
    assert (found.tied, found.is_tie, found.compared) == ([], False, 2)


def test_trials_that_cannot_be_told_from_the_winner_are_tied(tmp_path: Path) -> None:
    """6 wrong; 8 others; the same 6 and 6 more (z = 2.45); 10 others (z = 1); as many, and others."""
    wrong = [range(6), range(6, 14), range(12), range(20, 30), range(40, 46)]
    found = margin(a_sweep(tmp_path, wrong), tmp_path)
    assert found is not None
    assert found.tied == [4, 1, 3]
    assert found.is_tie


def test_without_predictions_the_counts_are_compared_as_if_the_examples_were_others(tmp_path: Path) -> None:
    record = a_sweep(tmp_path, [range(5), range(15), range(60)])
    for path in (None, tmp_path / "nowhere"):
        found = margin(record, path)
        assert found is not None
        assert (found.method, found.examples) == ("counts", N)
        assert (found.low, found.high) == pytest.approx(newcombe(N - 5, N - 15, N, N))
        assert found.tied == [1][: int(found.low is not None and found.low <= 0)]


def test_a_file_that_is_not_the_one_in_the_journal_is_not_read(tmp_path: Path) -> None:
    record = a_sweep(tmp_path, [range(5), range(15)])
    path = trial_folder(tmp_path, 1) / PREDICTIONS
    path.write_bytes(path.read_bytes() + b" ")
    found = margin(record, tmp_path)
    assert found is not None
    assert found.method == "counts"


@pytest.mark.parametrize(
    "changed",
    [
        {"val_ids": np.arange(N) + 1},
        {"val_labels": np.full(N, 99)},
        {"val_labels": np.full(N, -1)},
        {"val_labels": np.zeros(N)},
        {"val_logits": np.zeros((3, 3, 3))},
        {"val_logits": np.zeros((0, 10))},
        {"val_logits": np.full((N, CLASSES), np.nan)},
        {"val_ids": np.arange(3)},
    ],
)
def test_strange_predictions_are_passed_over(tmp_path: Path, changed: dict[str, Any]) -> None:
    record = a_record([{"params": {}, "value": 1 - wrong / N} for wrong in (5, 15)], val=N)
    write_predictions(tmp_path, record, 0, range(5))
    write_predictions(tmp_path, record, 1, range(15), **changed)
    found = margin(record, tmp_path)
    assert found is not None
    assert found.method == "counts"


def test_a_file_that_is_no_safetensors_is_passed_over(tmp_path: Path) -> None:
    record = a_sweep(tmp_path, [range(5), range(15)])
    contents = b"\xff" * 100
    (trial_folder(tmp_path, 0) / PREDICTIONS).write_bytes(contents)
    record.trials[0].artifacts[0]["sha256"] = hashlib.sha256(contents).hexdigest()
    found = margin(record, tmp_path)
    assert found is not None
    assert found.method == "counts"


def test_losses_are_compared_example_by_example(tmp_path: Path) -> None:
    """Against SciPy's paired bootstrap, whose ends are those of t to within a twentieth."""
    record = a_record([{"params": {}, "value": value} for value in (0.3, 0.2)], mode="min", metric="val/loss")
    draw = np.random.default_rng(0)
    logits = [draw.normal(size=(N, CLASSES)), draw.normal(size=(N, CLASSES))]
    labels = np.arange(N) % CLASSES
    logits[1][np.arange(N), labels] += 0.7
    for trial, one in enumerate(logits):
        write_predictions(tmp_path, record, trial, (), val_logits=one)
    found = margin(record, tmp_path)
    assert found is not None
    assert (found.winner, found.method) == (1, "paired")
    first, second = ((np.log(np.exp(x).sum(1)) - x[np.arange(N), labels]) for x in logits)
    boot = stats.bootstrap((first - second,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    width = boot.high - boot.low
    assert (found.low, found.high) == pytest.approx((boot.low, boot.high), abs=width / 20)
    assert found.tied == []


def test_seeds_decide_where_there_are_any() -> None:
    trials = [
        {"params": {"a": number}, "value": value, "config_index": number, "repeat": repeat}
        for number, values in enumerate([(0.90, 0.92, 0.91), (0.95, 0.96, 0.97), (0.93, 0.97, 0.94)])
        for repeat, value in enumerate(values)
    ]
    found = margin(a_record(trials, val=100), None)
    assert found is not None
    expected = stats.ttest_ind([0.95, 0.96, 0.97], [0.93, 0.97, 0.94], equal_var=False).confidence_interval()
    assert (found.winner, found.runner_up, found.method) == (3, 6, "seeds")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=2e-4)
    assert found.tied == [6]


def test_seeds_that_agree_to_the_image_do_not_settle_it() -> None:
    """One image of 287 apart: as without repeats, the counts say that this is a tie."""
    trials = [
        {"params": {"a": number}, "value": right / N, "config_index": number, "repeat": repeat}
        for number, right in enumerate([282, 281])
        for repeat in range(2)
    ]
    found = margin(a_record(trials, val=N), None)
    assert found is not None
    assert (found.method, found.tied) == ("counts", [2])
    assert (found.low, found.high) == pytest.approx(newcombe(282, 281, N, N))


def test_less_is_better_and_the_margin_is_still_by_how_much_the_winner_is_better() -> None:
    trials = [
        {"params": {}, "value": value, "config_index": number, "repeat": repeat}
        for number, values in enumerate([(0.5, 0.51), (0.2, 0.21)])
        for repeat, value in enumerate(values)
    ]
    found = margin(a_record(trials, mode="min", metric="train/loss"), None)
    assert found is not None
    assert found.difference == pytest.approx(0.3)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 0.3 < found.high


def test_nothing_known_leaves_no_interval_and_equal_values_tied() -> None:
    record = a_record([{"params": {}, "value": value} for value in (0.5, 0.4, 0.5)], metric="train/accuracy")
    found = margin(record, None)
    assert found is not None
    assert (found.winner, found.low, found.high, found.method, found.tied) == (0, None, None, "none", [2])


def test_accuracies_that_are_no_share_of_the_examples_get_no_interval() -> None:
    found = margin(a_record([{"params": {}, "value": value} for value in (0.512345, 0.4)], val=100), None)
    assert found is not None
    assert found.method == "none"


def test_one_trial_or_none_has_no_margin() -> None:
    assert margin(a_record([]), None) is None
    assert margin(a_record([{"params": {}, "value": 0.5}]), None) is None
    assert margin(a_record([{"params": {}, "value": 0.5}, {"params": {}, "state": State.DIVERGED}]), None) is None
