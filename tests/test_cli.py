"""The command line as a user meets it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.catalogue import choices, groups
from orchestrator.cli import COMMANDS, main

RUN = [sys.executable, "-m", "orchestrator"]


def test_no_arguments_are_answered_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "orchestrator launch" in capsys.readouterr().out


@pytest.mark.parametrize("command", [name for name in COMMANDS if not name.startswith("_")])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: orchestrator {command}" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lunch"]) == 2
    assert "did you mean launch?" in capsys.readouterr().err


def test_the_first_line_comes_before_anything_heavy_is_imported() -> None:
    heavy = {"torch", "ray", "mlflow", "hydra", "numpy", "rich"}
    script = f"import sys, orchestrator.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_closed_pipe_ends_quietly() -> None:
    done = subprocess.run(
        f"{sys.executable} -m orchestrator list | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("activation")
    assert done.stderr == ""


def test_list_shows_groups_and_choices_with_their_comments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^optimizer +adam, adamw, rmsprop, sgd", listed, re.MULTILINE)
    assert main(["list", "search"]) == 0
    assert "weight_scale" in capsys.readouterr().out
    assert main(["list", "optimiser"]) == 2
    assert "did you mean optimizer?" in capsys.readouterr().err


def test_every_choice_says_what_it_is() -> None:
    silent = [f"{group}/{name}" for group in groups() for name, text in choices(group) if not text]
    assert silent == []


def test_sync_of_an_unknown_sweep_lists_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "nothing", "--runs-dir", str(tmp_path)]) == 2
    assert "no sweep of that name" in capsys.readouterr().err


def test_train_is_one_configuration_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["data=synthetic", "model.width=12", "batch_size=16", "optimizer.lr=0.05"]
    folder = ["--folder", str(tmp_path / "one")]
    assert main(["train", *own, "epochs=2", *folder]) == 0
    first = capsys.readouterr().out
    assert re.search(r"epoch 2/2 .*val/accuracy", first)
    assert "test/accuracy" in first
    assert main(["train", *own, "optimizer.lr=0.1,0.2"]) == 2
    assert "give each key one value" in capsys.readouterr().err


def test_ctrl_c_ends_a_sweep_with_130_and_leaves_no_process(tmp_path: Path) -> None:
    keys = [
        "data=synthetic",
        "model.width=12",
        "epochs=1000000",
        "trials=2",
        "report_every_s=0.2",
        "optimizer.lr=0.01,0.02",
    ]
    process = subprocess.Popen(
        [*RUN, "launch", *keys],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch" in line and "trial 0" in line:
            break
    os.kill(process.pid, signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 130, rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "a process of the sweep is still there"
        time.sleep(0.2)
