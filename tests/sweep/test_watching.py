"""A sweep whose folder or journal is moved or removed under its driver: the real launch and resume, a worker in Ray's place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.base.layout import JOURNAL
from orchestrator.journal.record import read_sweep
from orchestrator.verify import verify

ROOT = Path(__file__).resolve().parents[2]
TINY = ["data=synthetic", "model.width=8", "model.hidden=1", "batch_size=32", "name=moving", "epochs=4"]
LR = "optimizer.lr=tag(log,interval(1e-2,1))"
SWEEP = [*TINY, LR, "trials=3"]

DRIVER = """
import json, os, sys, shutil
from pathlib import Path
from types import ModuleType

from orchestrator.base.errors import OrchestratorError
from orchestrator.config.planning import plan
from orchestrator.scheduling.reports import Reporter
from tests.chaos import without_ray

runs, folder, what, overrides = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
made = plan([*overrides, f"runs_dir={runs}"])
import orchestrator.training.trial
without_ray._workers = without_ray.Workers(Reporter)
tuner = ModuleType("tuner")
tuner.run = without_ray.run
sys.modules["orchestrator.scheduling.ray.tuner"] = tuner
from orchestrator.scheduling.ray import cluster
cluster.connect = without_ray.connect
from orchestrator.sweep.launching import launch
from orchestrator.sweep.resuming import resume
from orchestrator.sweep.session import DriverContext

steps = 0
def step():
    global steps
    steps += 1
    if steps == 3:
        (sweep,) = runs.glob("moving-*")
        if what == "runs":
            os.rename(runs, runs.with_name("moved"))
        elif what == "sweep":
            runs.with_name("moved").mkdir()
            os.rename(sweep, runs.with_name("moved") / sweep.name)
        elif what == "name":
            os.rename(sweep, runs / "mine")
        elif what == "removed":
            shutil.rmtree(sweep)
        elif what == "journal":
            os.rename(sweep / "journal.sqlite", sweep / "aside.sqlite")

context = DriverContext(say=lambda line: None, on_step=step if what else lambda: None)
try:
    resume(Path(folder), made, context) if folder else launch(made, context)
except OrchestratorError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def drive(
    runs: Path, *, what: str = "", folder: Path | None = None, overrides: list[str] | None = None
) -> tuple[int, str]:
    """How a driver ended, and what it said last.

    Args:
        what: is moved or removed at its third step.
        folder: of the sweep to resume.
    """
    order = [str(runs), str(folder or ""), what, json.dumps(overrides or SWEEP)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *order], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False, timeout=300
    )
    return done.returncode, done.stdout.strip()


def test_a_runs_folder_that_is_moved_during_a_sweep_ends_it_and_goes_on_elsewhere(tmp_path: Path) -> None:
    runs, moved = tmp_path / "runs", tmp_path / "moved"
    code, said = drive(runs, what="runs")
    assert code == 5
    (folder,) = moved.glob("moving-*")
    assert f"{runs}/{folder.name} was moved to {moved} while the sweep ran; nothing is lost. Go on with:" in said
    assert f"orchestrator resume {folder.name} --runs-dir {moved}" in said
    assert os.listdir(tmp_path) == ["moved"], "no stub is left where it lay"
    assert drive(moved, folder=folder)[0] == 0
    assert os.listdir(tmp_path) == ["moved"]
    record = read_sweep(folder)
    assert record.closed is not None
    assert [trial.state for trial in record.trials.values()] == ["completed"] * 3
    report = verify(folder)
    assert report.ok, report.violations


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("sweep", "was moved to {tmp}/moved while the sweep ran; nothing is lost"),
        ("name", "was moved to {tmp}/runs/mine while the sweep ran; nothing is lost. Give it its name back"),
        ("removed", "was removed while the sweep ran; what it held is gone"),
        ("journal", "journal.sqlite was moved or removed while the sweep ran; put it back"),
    ],
)
def test_the_driver_ends_with_words_that_are_true(tmp_path: Path, what: str, words: str) -> None:
    runs = tmp_path / "runs"
    code, said = drive(runs, what=what)
    assert code == 5
    assert words.format(tmp=tmp_path) in said
    left = list(runs.glob("moving-*"))
    if what == "journal":
        assert not (left[0] / JOURNAL).exists()
    else:
        assert left == [], "no stub is left where it lay"


def test_nothing_is_launched_into_a_copy_or_resumed_there(tmp_path: Path) -> None:
    runs, copy = tmp_path / "runs", tmp_path / "copy"
    assert drive(runs, overrides=[*TINY, LR, "trials=1"])[0] == 0
    shutil.copytree(runs, copy)
    (folder,) = copy.glob("moving-*")
    for arguments in ({}, {"folder": folder}):
        code, said = drive(copy, overrides=[*TINY, LR, "trials=2"], **arguments)  # type: ignore[arg-type]
        assert code == 3
        assert f"{copy} is a copy of {runs}" in said
    assert len(list(copy.glob("moving-*"))) == 1


def test_a_trials_folder_that_is_a_link_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    runs, precious = tmp_path / "runs", tmp_path / "precious"
    assert drive(runs, overrides=[*TINY, LR, "trials=1"])[0] == 0
    (folder,) = runs.glob("moving-*")
    (precious / "00000").mkdir(parents=True)
    for name in ("thesis.tmp", "best.safetensors", f"checkpoint-000001.{'0' * 64}.safetensors"):
        (precious / "00000" / name).write_text("years of work")
    os.rename(folder / "trials", folder / "aside")
    (folder / "trials").symlink_to(precious)
    before = sorted(precious.rglob("*"))
    code, said = drive(runs, folder=folder, overrides=[*TINY, LR, "trials=2"])
    assert code == 3
    assert f"{folder}/trials is a link" in said
    assert sorted(precious.rglob("*")) == before
