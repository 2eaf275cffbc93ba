"""What `train` keeps is a sweep of one trial, which every command takes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import orchestrator
from orchestrator.base.records import State
from orchestrator.cli import main
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import read_sweep

OWN = ["data=synthetic", "data.num_examples=100", "epochs=3", "batch_size=16", "model.width=8"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_what_was_trained_is_there_for_every_command(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *OWN]) == 0
    printed = capsys.readouterr().out
    rows = re.findall(
        r"^epoch (\d)/3  train/loss \d\.\d{4}  val/loss \d\.\d{4}  val/accuracy \d\.\d{4}  lr 0\.1$", printed, re.M
    )
    assert rows == ["1", "2", "3"]
    (uid,) = re.findall(r'^kept as (train-[0-9a-f]{8}):  orchestrator.load_model\("\1"\)', printed, re.M)
    record = read_sweep(runs / uid)
    (trial,) = record.trials.values()
    assert (trial.state, trial.epoch) == (State.COMPLETED, 3)
    assert record.closed is not None
    assert record.closed.weights is not None
    assert [entry["trial"] for entry in record.closed.weights] == [0]
    assert not list((runs / uid).rglob("checkpoint-*"))
    for command in (["verify", uid], ["status", uid], ["show", f"{uid}/0"], ["results", uid]):
        assert main(command) == 0, (command, capsys.readouterr())
    predictor = orchestrator.load_model("train")
    assert predictor.predict(np.zeros((2, 8, 8), np.uint8)).probabilities.shape == (2, 4)
    assert main(["train", f"from={uid}/0"]) == 0
    assert "equal to the recorded trial: yes" in capsys.readouterr().out
    assert len(list(runs.glob("train-0-*"))) == 1
    assert main(["delete", uid, "--yes"]) == 0
    assert not (runs / uid).exists()


def test_a_folder_of_ones_own_is_no_sweep(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *OWN, "--folder", "mine"]) == 0
    assert "kept as" not in capsys.readouterr().out
    assert not runs.exists()
    assert (Path("mine") / "best.safetensors").is_file()


def test_one_that_diverges_is_recorded_as_such(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *OWN, "name=wild", "optimizer.lr=1e30"]) == 4
    printed = capsys.readouterr().out
    (reason,) = re.findall("^no result: (.*)$", printed, re.M)
    record = read_sweep(find_sweep(runs, "wild"))
    assert record.trials[0].state is State.DIVERGED
    assert record.trials[0].reason == reason
    assert main(["verify", "wild"]) == 0, capsys.readouterr()


@pytest.mark.slow
def test_what_was_interrupted_goes_on(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    long = [text.replace("epochs=3", "epochs=400") for text in OWN]
    command = [sys.executable, "-m", "orchestrator", "train", *long, "name=long"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch   5/"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    (again,) = re.findall("interrupted; nothing is lost. Go on with:  orchestrator (resume long-.*)", rest)
    record = read_sweep(find_sweep(runs, "long"))
    assert record.trials[0].epoch >= 5
    assert not record.trials[0].ended
    assert main(again.split()) == 0, capfd.readouterr()
    record = read_sweep(find_sweep(runs, "long"))
    assert (record.trials[0].state, record.trials[0].epoch) == (State.COMPLETED, 400)
    assert main(["verify", "long"]) == 0
