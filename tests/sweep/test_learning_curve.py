"""A sweep over how many images of each class are trained on: one data set, its trials compared, resumed and verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.cli import main
from orchestrator.ensembles.gathering import gather
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep
from orchestrator.training import predictions

TINY = ["data=digits", "model.width=8", "optimizer.lr=0.05", "epochs=2", "tracking=none"]


@pytest.mark.usefixtures("ray_cluster")
def test_examples_per_class_is_searched_and_more_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    curve = ["name=curve", "data.classes=[7,2,5]", "data.examples_per_class=4,20,null", "sampler=grid"]
    assert main(["launch", *curve, *TINY, "batch_size=10", "trials=2"]) == 0
    assert main(["resume", "curve", "trials=3"]) == 0, capsys.readouterr()
    folder = find_sweep(Path("runs"), "curve")
    record = read_sweep(folder, keep_epochs=True)
    assert {trial.params["data.examples_per_class"] for trial in record.trials.values()} == {4, 20, None}
    losses = {trial.epochs[0]["metrics"]["train/loss"] for trial in record.trials.values()}
    assert len(losses) == 3
    assert main(["verify", "--deep", "curve"]) == 0, capsys.readouterr()
    gathered = gather(["curve"], Path("runs"))
    assert len(gathered.pool) == 3, gathered.left_out

    # ids and images are scikit-learn's own, whichever classes are chosen
    from sklearn.datasets import load_digits

    stored = predictions.read(trial_folder(folder, 0) / PREDICTIONS).tensors
    of_digits = load_digits().target[stored["val_ids"].numpy()]
    assert np.array_equal(np.array([7, 2, 5])[stored["val_labels"].numpy()], of_digits)


def test_a_number_that_a_class_lacks_is_a_problem_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--plan", *TINY, "batch_size=10", "data.examples_per_class=5,500"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "examples_per_class must be at most 111, the training images that class '8' has, got 500" in told


def test_batches_larger_than_the_smallest_training_set_are_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--plan", *TINY, "batch_size=64", "data.examples_per_class=5,50"]) == 2
    assert "50 training examples" in " ".join(capsys.readouterr().err.split())
