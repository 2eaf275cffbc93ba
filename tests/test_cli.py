"""The command line as a user meets it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.cli import COMMANDS, main
from orchestrator.config.catalogue import choices, groups
from tests.synthetic import Sweep

RUN = [sys.executable, "-m", "orchestrator"]


def test_no_arguments_are_answered_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "orchestrator launch" in capsys.readouterr().out


@pytest.mark.parametrize("command", [name for name in COMMANDS if not name.startswith("_")])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: orchestrator {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["resume", "verify", "sync", "stop", "delete"])
def test_what_is_missing_is_the_name_alone(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 2
    assert capsys.readouterr().err.strip().endswith("the following arguments are required: NAME")


@pytest.mark.parametrize(
    ("typed", "write"),
    [
        ("compare mixed runs_dir=/x", "runs_dir=/x: is an option of orchestrator compare; write  --runs-dir /x"),
        ("results mixed runs_dir=/x", "write  --runs-dir /x"),
        ("results mixed csv=true", "write  --csv"),
        ("status runs_dir=/x", "write  --runs-dir /x"),
        ("predict mixed top=3 a.png", "write  --top 3"),
        ("resume mixed runs_dir=/x", "write  --runs-dir /x"),
        ("resume mixed more=5", "write  --more 5"),
        ("--config-dir X launch trials=2", "write  orchestrator launch --config-dir X trials=2"),
        ("--runs-dir X results", "write  orchestrator results --runs-dir X"),
    ],
)
def test_options_at_the_wrong_place_or_without_dashes_are_told(
    typed: str, write: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed.split()) == 2
    assert capsys.readouterr().err.strip().endswith(write)


def test_the_value_of_an_option_is_no_override(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "mixed", "--name", "seed=3", "--runs-dir", str(tmp_path)]) == 2
    assert "--name=seed=3" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["results", "report", "compare"])
def test_where_a_sweep_is_wanted_a_comparison_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "comparisons" / "best-0a1b2c3d"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text("{}")
    sweep = Sweep(tmp_path / "digits-00000001", {"kind": "none"})
    sweep.finish(1)
    sweep.journal.close()
    assert main([command, "best", "--runs-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"NAME=best: is a comparison, and a sweep is wanted; its page is {folder / 'comparison.html'}" in said


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
    assert re.search(r"^optimizer +adagrad, adam, adamw, ", listed, re.MULTILINE)
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
    assert main(["train", *own, "epochs=2", *folder]) == 0
    again = capsys.readouterr().out
    assert "continues after epoch 2" in again
    assert again.splitlines()[-2:] == first.splitlines()[-2:]
    assert main(["train", *own, "epochs=2", "model.hidden=1", *folder]) == 3
    assert "model.hidden" in capsys.readouterr().err
    assert main(["train", *own, "model.hidden=1,2"]) == 2
    assert "give each key one value" in capsys.readouterr().err


@pytest.fixture
def endless_sweep(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep in a process of its own, once its first trial trains; nothing of it outlives the test."""
    keys = ["data=synthetic", "model.width=12", "epochs=1000000", "optimizer.lr=0.01,0.02", "report_every_s=0.2"]
    process = subprocess.Popen(
        [*RUN, "launch", *keys],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            seen = []
            for line in process.stdout:
                seen.append(line)
                if re.match(r"trial \d+  epoch", line):
                    break
            else:
                pytest.fail("".join(seen))
            yield process
        finally:
            if process.poll() is None:
                for left in [*psutil.Process(process.pid).children(recursive=True), process]:
                    left.kill()


def assert_nothing_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "a process of the sweep is still there"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_sweep_and_leaves_no_process(
    tmp_path: Path, first_store: None, endless_sweep: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    os.kill(endless_sweep.pid, number)
    rest, _ = endless_sweep.communicate(timeout=60)
    assert endless_sweep.returncode == code, rest
    assert re.search(r"interrupted; nothing is lost\. Go on with:  orchestrator resume sweep-\S+$", rest.strip())
    assert "Traceback" not in rest
    assert_nothing_is_left(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs" / "mlflow.db")) as db:
        assert {row[0] for row in db.execute("SELECT status FROM runs")} == {"KILLED"}
        reasons = "SELECT value FROM tags WHERE key = 'reason'"
        assert {row[0] for row in db.execute(reasons)} == {"interrupted"}


@pytest.mark.slow
def test_a_second_signal_ends_a_sweep_at_once(tmp_path: Path, endless_sweep: subprocess.Popen[str]) -> None:
    os.kill(endless_sweep.pid, signal.SIGINT)
    time.sleep(0.05)
    os.kill(endless_sweep.pid, signal.SIGINT)
    rest, _ = endless_sweep.communicate(timeout=60)
    assert endless_sweep.returncode == 130, rest
    assert "Traceback" not in rest
    assert_nothing_is_left(tmp_path)


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_sweep(tmp_path: Path) -> None:
    keys = "data=synthetic model.width=12 epochs=1 trials=2 optimizer.lr=0.01,0.02"
    command = f"set -o pipefail; {sys.executable} -m orchestrator launch {keys} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "checking the sweep ...\n"
    assert done.stderr == ""
    with contextlib.closing(sqlite3.connect(tmp_path / "runs" / "mlflow.db")) as db:
        assert [row[0] for row in db.execute("SELECT status FROM runs")] == ["FINISHED"] * 3


@pytest.mark.slow
def test_planning_in_a_child_survives_what_a_users_module_prints(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "loud.py").write_text(
        "print('hello from a module')\nfrom models.mlp import mlp as _mlp\n"
        "def loud(*, num_classes: int, in_channels: int, image_size: tuple[int, int]):\n"
        "    return _mlp(num_classes=num_classes, in_channels=in_channels, image_size=image_size, width=8)\n"
    )
    (tmp_path / "mine" / "model" / "loud.yaml").write_text("_target_: loud.loud\n")
    keys = ["--config-dir", "mine", "model=loud", "allowed_targets=[loud]", "name=été", "tracking=none", "epochs=1"]
    keys += ["optimizer.lr=0.05,0.1"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*RUN, "launch", *keys, "trials=1", "data=synthetic"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "hello from a module" in done.stdout
    assert [path.name.rsplit("-", 1)[0] for path in (tmp_path / "runs").glob("*-*")] == ["ete"]


def test_a_server_that_is_away_is_told_before_anything_is_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "tracking.uri=http://127.0.0.1:9"
    assert main(["launch", "tracking=server", uri, f"runs_dir={tmp_path}/runs"]) == 3
    assert "no MLflow server at http://127.0.0.1:9" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
