"""Every step that a crash can split: a process is killed there once, the sweep goes on, and ends as one that was never killed."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import ConfigError
from orchestrator.base.failpoints import NAMES, VARIABLE, parse
from orchestrator.base.layout import JOURNAL, PREDICTIONS
from orchestrator.base.records import STARTS_OVER
from orchestrator.cli import main
from orchestrator.journal.cursor import is_shipping, read_status
from orchestrator.journal.record import read_sweep
from orchestrator.tracking.sync import sync
from orchestrator.training.checkpoint import checkpoints
from orchestrator.verify import verify
from tests.chaos.records import faults, faults_of_journal, lost_epochs, results, rows
from tests.chaos.server import Server
from tests.chaos.without_ray import Drivers

ROOT = Path(__file__).resolve().parent.parent

TINY = [
    *("data=synthetic", "model.width=8", "model.hidden=1", "batch_size=32", "name=kills"),
    "optimizer.lr=tag(log,interval(1e-2,1))",
]
CYCLES = ["schedule=cyclic_cosine", "schedule.cycles=2", "snapshots=2"]
SWEEP = [*TINY, "trials=3", "epochs=4", "average_from=0.25", *CYCLES]

# Of each failpoint the passing that kills: in the middle of the sweep where it is passed often.
PASSINGS = {
    **{f"suggestion.{side}": 2 for side in ("before", "after")},
    **{f"ending.{side}": 2 for side in ("before", "after")},
    **{f"commit.{side}": 4 for side in ("before", "after")},
    **{f"checkpoint.{side}": 2 for side in ("before", "after")},
    **{f"report.{side}": 3 for side in ("before", "after")},
    **{f"artifact.{side}": 2 for side in ("before", "after")},
}

AFTER_A_DEATH = {"resuming.before", "resuming.after", "attempt.before", "attempt.after"}
"""Passed only once something has been killed before."""

BY_KILL = -signal.SIGKILL


def test_every_failpoint_stands_where_it_is_said_to_be() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "orchestrator").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "orchestrator").with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                (argument,) = node.args
                for name in named(argument):
                    found.setdefault(name, []).append(module)
    assert found == {name: [module] for name, module in NAMES.items()}
    assert len(NAMES) >= 20


def named(argument: ast.expr) -> list[str]:
    """The names that a call can pass; those of files are made from the file's name."""
    if isinstance(argument, ast.Constant):
        return [str(argument.value)]
    assert isinstance(argument, ast.JoinedStr)
    side = argument.values[-1]
    assert isinstance(side, ast.Constant)
    return [f"{what}{side.value}" for what in ("attempt", "checkpoint", "best", "average", "snapshot", "predictions")]


@pytest.mark.parametrize("text", ["", "commit", "commit.before", "commit.before:0", "commit.before:x", "nowhere:1"])
def test_a_failpoint_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        parse(text)


def test_the_nth_passing_kills_one_process_once(tmp_path: Path) -> None:
    code = "from orchestrator.base.failpoints import failpoint\n"
    code += "for n in (1, 2, 3): failpoint('commit.after') or print(n, flush=True)"
    environment = {**os.environ, VARIABLE: f"commit.after:2:{tmp_path}/a:b"}
    ran = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert [(process.returncode, process.stdout) for process in ran] == [(BY_KILL, "1\n"), (0, "1\n2\n3\n")]
    assert [path.name for path in tmp_path.iterdir()] == ["a:b"]


# Without Ray


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    drivers = Drivers(SWEEP)
    yield drivers
    drivers.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    server.warm_up()
    yield server
    server.close()


@pytest.fixture(scope="module")
def never_killed(drivers: Drivers, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    runs_dir = tmp_path_factory.mktemp("never-killed")
    assert drivers.run(runs_dir=runs_dir) == 0
    found = results(sweep_in(runs_dir))
    assert [trial["state"] for trial in found.values()] == ["completed"] * 3
    assert faults(sweep_in(runs_dir), runs_dir / "mlflow.db") == []
    return found


def sweep_in(runs_dir: Path) -> Path:
    (path,) = runs_dir.glob(f"*/{JOURNAL}")
    return path.parent


def wait_for_shipper(folder: Path) -> None:
    """Until the shipper of a dead driver has done what it can."""
    deadline = time.monotonic() + 30
    while is_shipping(folder):
        assert time.monotonic() < deadline, "the shipper goes on without its driver"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_equals_never_killed(
    name: str, drivers: Drivers, never_killed: dict[int, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server | None = request.getfixturevalue("server") if name.startswith("server.") else None
    uri, database = (server.uri, server.database) if server else (None, tmp_path / "mlflow.db")
    killed = tmp_path / "killed"
    failpoint = f"{name}:{PASSINGS.get(name, 1)}:{killed}"
    in_driver = (NAMES[name].startswith("sweep.") and not name.startswith("page.")) or NAMES[name] in (
        "scheduling.conductor",
        "journal.file",
    )

    first = f"suggestion.after:2:{tmp_path / 'before'}" if name in AFTER_A_DEATH else failpoint
    ended = drivers.run(runs_dir=tmp_path, uri=uri, failpoint=first)
    assert ended == (BY_KILL if in_driver or name in AFTER_A_DEATH else 0)
    folder = sweep_in(tmp_path)
    if name == "opening.before":
        assert read_sweep(folder).opening is None
        assert not list(folder.glob("trials/*"))
        return
    deaths = 0
    while ended != 0:
        deaths += 1
        assert deaths < 3
        assert lost_epochs(folder) == []
        ended = drivers.run(runs_dir=tmp_path, folder=folder, uri=uri, failpoint=failpoint)
    assert killed.exists(), "the failpoint was not passed"
    wait_for_shipper(folder)
    if not read_status(folder).ended:
        sync(folder)  # as a driver tells its user whose shipper died at the end
    assert results(folder) == never_killed
    assert faults(folder, database) == []
    report = verify(folder)
    assert report.violations == []
    assert len(report.checked) >= 15
    attempts = sum(len(trial.attempts) for trial in read_sweep(folder).trials.values())
    assert 3 <= attempts <= 3 + deaths + 1


@pytest.mark.slow
@pytest.mark.parametrize("commands", [["sync"], ["resume", "sync"]], ids=" ".join)
@pytest.mark.parametrize("name", ["closing.after", "publishing.before", "page.before"])
def test_the_report_that_a_kill_took_is_made_up(
    name: str, commands: list[str], drivers: Drivers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failpoint = f"{name}:1:{tmp_path / 'killed'}"
    assert drivers.run(runs_dir=tmp_path, failpoint=failpoint) == (0 if name == "page.before" else BY_KILL)
    folder = sweep_in(tmp_path)
    wait_for_shipper(folder)
    last_seq = read_sweep(folder).last_seq
    assert list(tmp_path.glob("artifacts/**/report.html")) == []
    for number, command in enumerate(commands):
        assert main([command, folder.name, "--runs-dir", str(tmp_path)]) == 0
        assert ("the report was not finished; it is now: " in capsys.readouterr().out) == (number == 0)
        assert verify(folder).violations == []
    record = read_sweep(folder)
    assert record.last_seq == last_seq + 1
    path = folder / str(record.published[folder.name, "report.html"].path)
    (report,) = tmp_path.glob("artifacts/**/report.html")
    assert report.read_bytes() == path.read_bytes()
    assert list((folder / "published").glob("report-*")) == [path]
    assert faults(folder, tmp_path / "mlflow.db") == []


@pytest.mark.slow
def test_a_checkpoint_after_its_report_is_found_out(drivers: Drivers, never_killed: Any, tmp_path: Path) -> None:
    failpoint = f"report.after:3:{tmp_path / 'killed'}"
    assert drivers.run(runs_dir=tmp_path, failpoint=failpoint, late_checkpoints=True) == 0
    folder = sweep_in(tmp_path)
    wait_for_shipper(folder)
    assert results(folder) == never_killed, "trained a second time, an epoch comes out the same"
    assert lost_epochs(folder) == ["trial 0: epoch 2 is in the journal, and not in its files"]


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [1, 2])
def test_checkpoints_damaged_between_a_kill_and_the_resume(
    damaged: int, drivers: Drivers, never_killed: dict[int, Any], tmp_path: Path
) -> None:
    """What is trained a second time is reported once, and the record says why."""
    # The driver dies when the second trial has made its predictions; checkpoints of epochs 2 and 3 are there.
    assert drivers.run(runs_dir=tmp_path, failpoint=f"ending.before:2:{tmp_path / 'killed'}") == BY_KILL
    folder = sweep_in(tmp_path)
    (index,) = [trial.index for trial in read_sweep(folder).unfinished]
    trial_folder = folder / "trials" / f"{index:05d}"
    paths = [path for path, _, _ in checkpoints(trial_folder)]
    assert len(paths) == 2
    for path in [trial_folder / PREDICTIONS, *paths[:damaged]]:
        path.write_bytes(path.read_bytes()[:-1])
    assert drivers.run(runs_dir=tmp_path, folder=folder) == 0
    wait_for_shipper(folder)
    assert results(folder) == never_killed
    lost, doubled = rows(folder, tmp_path / "mlflow.db")
    assert lost == doubled == faults_of_journal(folder) == []
    assert verify(folder).violations == []
    notes = read_sweep(folder).trials[index].notes
    assert notes[:damaged] == [
        f"{path.name} is not used: its contents do not match the SHA-256 in its name" for path in paths[:damaged]
    ]
    assert notes[damaged:] == ([STARTS_OVER] if damaged == 2 else [])
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        tags = db.execute(
            "SELECT u.value FROM tags t JOIN tags u USING (run_uuid) WHERE t.key = 'restarted_from_scratch'"
            " AND t.value = 'true' AND u.key = 'trial_uid'"
        ).fetchall()
    assert tags == ([(f"{folder.name}/{index}",)] if damaged == 2 else [])


# The real thing


LAUNCH = [sys.executable, "-m", "orchestrator", "launch"]
RESUME = [sys.executable, "-m", "orchestrator", "resume", "kills"]

ONE_AT_A_TIME = [
    *TINY,
    *("trials=6", "max_concurrent=1", "report_every_s=0", "data.noise=3", "seed=1"),
]
EARLY = ["epochs=8", "scheduler=asha", "scheduler.grace_epochs=1", "scheduler.reduction_factor=2"]


def command(arguments: list[str], folder: Path, failpoint: str | None = None) -> int:
    """The exit code of a command run in `folder`, -9 for SIGKILL."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, **({VARIABLE: failpoint} if failpoint else {})}
    with (folder / "output").open("ab") as output:
        return subprocess.run(
            arguments, cwd=folder, env=environment, stdout=output, stderr=output, check=False
        ).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "states", "failpoint"),
    [
        pytest.param(EARLY, {"completed", "stopped"}, "ending.before:4", id="driver"),
        pytest.param(EARLY, {"completed", "stopped"}, "checkpoint.after:2", id="worker"),
        # Each trial ends with its first report, and its worker has been told the next one by then.
        pytest.param(["epochs=1"], {"completed"}, "report.before:4", id="worker between short trials"),
    ],
)
def test_a_kill_of_a_real_sweep_changes_nothing(
    ray_cluster: None, tmp_path: Path, settings: list[str], states: set[str], failpoint: str
) -> None:
    """With one trial at a time; what stops where depends on what the scheduler was shown before."""
    assert main(["launch", *ONE_AT_A_TIME, *settings, f"runs_dir={tmp_path / 'never'}"]) == 0
    expected = results(sweep_in(tmp_path / "never"))
    assert {trial["state"] for trial in expected.values()} == states

    here = tmp_path / "here"
    in_driver = failpoint.startswith("ending")
    ended = command([*LAUNCH, *ONE_AT_A_TIME, *settings], here, f"{failpoint}:{tmp_path / 'killed'}")
    assert ended == (BY_KILL if in_driver else 0)
    if in_driver:
        assert command(RESUME, here) == 0
    assert (tmp_path / "killed").exists()
    folder = sweep_in(here / "runs")
    assert results(folder) == expected
    assert verify(folder).violations == []
    record = read_sweep(folder)
    assert record.generation == int(in_driver)
    assert sum(len(trial.retries) for trial in record.trials.values()) == int(not in_driver)
