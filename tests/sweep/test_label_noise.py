"""A sweep over the noise of the training labels: its trials are of one data set, and each trains on its own labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.ensembles.gathering import gather
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep


@pytest.mark.usefixtures("ray_cluster")
def test_label_noise_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["data=synthetic", "model.width=8", "optimizer.lr=0.05", "epochs=2", "tracking=none"]
    assert main(["launch", "name=noisy", "data.label_noise=0,0.2,0.9", "sampler=grid", *tiny]) == 0
    record = read_sweep(find_sweep(Path("runs"), "noisy"), keep_epochs=True)
    told = {trial.params["data.label_noise"]: trial.epochs[0]["metrics"] for trial in record.trials.values()}
    assert sorted(told) == [0, 0.2, 0.9]
    assert len({metrics["train/loss"] for metrics in told.values()}) == 3
    assert main(["verify", "--deep", "noisy"]) == 0, capsys.readouterr()
    gathered = gather(["noisy"], Path("runs"))
    assert len(gathered.pool) == 3, gathered.left_out
    # as if it had never been an argument: a trial without noise is the one of a sweep that does not search it
    assert main(["launch", "name=clean", "search=none", *tiny]) == 0
    clean = read_sweep(find_sweep(Path("runs"), "clean"), keep_epochs=True).trials[0]
    assert clean.epochs[0]["metrics"]["train/loss"] == told[0]["train/loss"]


def test_nothing_else_of_the_data_is_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--plan", "data=synthetic", "data.noise=0.1,0.2", "tracking=none"]) == 2
    assert "only data.label_noise, data.examples_per_class can be searched" in capsys.readouterr().err


def test_noise_that_cannot_be_is_a_problem_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--plan", "data=synthetic", "data.label_noise=0,1.5", "tracking=none"]) == 2
    assert "label_noise must be from 0 to 1, got 1.5" in capsys.readouterr().err
