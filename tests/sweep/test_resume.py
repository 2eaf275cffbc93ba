"""Sweeps that are interrupted and resumed through the real thing; killed ones are in test_kills.py."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from orchestrator.base.errors import ConfigError, NotReadyError, RunningElsewhereError
from orchestrator.base.layout import JOURNAL, LOCK
from orchestrator.base.locks import DRIVING, hold
from orchestrator.base.records import State
from orchestrator.base.rules import repeat_seed
from orchestrator.cli import main
from orchestrator.config.plan import SweepPlan
from orchestrator.config.planning import plan
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.file import Journal, Reader
from orchestrator.journal.finding import find_sweep
from orchestrator.journal.record import SweepRecord, TrialRecord, read_events, read_sweep
from orchestrator.sweep.launching import launch
from orchestrator.sweep.resuming import resume
from orchestrator.sweep.session import DriverContext

SMALL = ["data=synthetic", "model=mlp", "model.width=12", "batch_size=16", "seed=1", "report_every_s=0", "data.noise=3"]
SEARCH = "optimizer.lr=tag(log,interval(1e-4,1))"

pytestmark = pytest.mark.usefixtures("ray_cluster", "in_tmp")


class Interrupt(Exception):  # noqa: N818 - what a test stops a driver with
    """Stands for the death of the driver: nothing is closed."""


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep_folder(runs: str = "runs") -> Path:
    (path,) = Path(runs).glob(f"*/{JOURNAL}")
    return path.parent


def interrupt_after(reports: int, runs: str) -> Callable[[], None]:
    """Stops the driver once its journal holds so many reports."""

    def look() -> None:
        with contextlib.closing(Reader(sweep_folder(runs) / JOURNAL)) as reader:
            if sum(event.kind == "reported" for event in reader.events()) >= reports:
                raise Interrupt("the driver dies")

    return look


def what_counts(trial: TrialRecord) -> dict[str, Any]:
    """All of a trial that must not depend on interruptions."""
    epochs = [{k: v for k, v in e["metrics"].items() if k != "images_per_s"} for e in trial.epochs]
    return {
        "params": trial.params,
        "state": trial.state,
        "epochs": epochs,
        "best": (trial.best_epoch, trial.value),
        "test": trial.metrics,
    }


def weights(folder: Path, index: int) -> dict[str, Any]:
    found = load_file(folder / "trials" / f"{index:05d}" / "best.safetensors")
    return {name: tensor.tolist() for name, tensor in found.items()}


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted() -> None:
    """With a sampler and a scheduler that learn; without, a sweep is killed and resumed in test_kills.py."""
    learning = ["sampler=tpe", "sampler.startup_trials=2", "scheduler=asha", "scheduler.reduction_factor=2"]
    slow = "data.num_examples=8000"  # enough that a few reports lie between two looks at the journal
    keys = [*SMALL, slow, *learning, SEARCH, "epochs=8", "trials=12", "max_concurrent=1", "keep_weights=12"]
    assert main(["launch", *keys, "runs_dir=whole", "tracking=none"]) == 0
    whole = read_sweep(sweep_folder("whole"), keep_epochs=True)
    assert {trial.state for trial in whole.trials.values()} == {State.COMPLETED, State.STOPPED}

    made = plan([*keys, "runs_dir=cut", "tracking=none"])
    with pytest.raises(Interrupt, match="the driver dies"):
        launch(made, DriverContext(on_step=interrupt_after(4, "cut")))
    folder = sweep_folder("cut")
    with pytest.raises(Interrupt, match="the driver dies"):
        resume(folder, made, DriverContext(on_step=interrupt_after(12, "cut")))
    resume(folder, made)
    cut = read_sweep(folder, keep_epochs=True)
    assert cut.generation == 2
    assert cut.closed is not None
    assert sum(len(trial.attempts) for trial in cut.trials.values()) > 12
    assert {i: what_counts(t) for i, t in cut.trials.items()} == {i: what_counts(t) for i, t in whole.trials.items()}
    assert whole.closed is not None
    assert cut.closed.best == whole.closed.best
    for index in range(12):
        assert weights(folder, index) == weights(sweep_folder("whole"), index)
    check_attempts(folder)


def check_attempts(folder: Path) -> None:
    """Attempts are numbered without gaps, and nothing of an earlier one follows the start of a later one."""
    seen: dict[int, int] = {}
    for event in read_events(folder):
        if event.kind == "started":
            assert event.trial is not None
            assert event.attempt == seen.get(event.trial, 0) + 1
            seen[event.trial] = event.attempt
        elif event.kind in ("reported", "terminal") and event.trial in seen:
            assert event.attempt == seen[event.trial]


def test_a_closed_sweep_is_left_alone_or_gets_more_trials(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", *SMALL, SEARCH, "epochs=2", "trials=3", "name=some"]) == 0
    folder = sweep_folder()
    before = (folder / JOURNAL).read_bytes(), Path("runs/mlflow.db").read_bytes()
    capsys.readouterr()
    assert main(["resume", "some"]) == 0
    assert "nothing to do: sweep some-" in capsys.readouterr().out
    assert ((folder / JOURNAL).read_bytes(), Path("runs/mlflow.db").read_bytes()) == before

    assert main(["resume", "some", "--more", "2", "max_concurrent=1"]) == 0
    record = read_sweep(folder)
    assert sorted(record.trials) == [0, 1, 2, 3, 4]
    assert all(len(trial.attempts) == 1 for trial in record.trials.values())
    assert record.resumes[0].changes == {"trials": [3, 5], "max_concurrent": [None, 1]}
    assert record.closed is not None
    assert record.closed.reason == "finished"
    made = plan([*SMALL, SEARCH, "trials=5"])
    sampler = made.part("sampler").start(made.space, seed=1, mode="max")
    assert [t.params for t in record.trials.values()] == [sampler.suggest(index) for index in range(5)]


@pytest.mark.slow
def test_space_sampler_and_scheduler_may_change(capsys: pytest.CaptureFixture[str]) -> None:
    grid = "optimizer.lr=0.001,0.01,0.1"
    assert main(["launch", *SMALL, grid, "epochs=2", "sampler=grid", "max_concurrent=1", "name=moving"]) == 0
    assert main(["resume", "moving", "optimizer.lr=0.1,0.2,0.3"]) == 0
    record = read_sweep(sweep_folder())
    assert [t.params["optimizer.lr"] for t in record.trials.values()] == [0.001, 0.01, 0.1, 0.2, 0.3]
    assert list(record.resumes[0].changes) == ["trials", "space"]
    assert record.resumes[0].first_config_index == 3
    assert main(["resume", "moving", "--more", "3", "sampler=tpe", "scheduler=asha", SEARCH]) == 0
    record = read_sweep(sweep_folder())
    assert len(record.trials) == 9
    assert list(record.resumes[1].changes) == ["trials", "sampler", "scheduler", "space"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=2", r"seed: may not change when a sweep is resumed; .* \(was 1, would be 2\)"),
        ("data.split_seed=7", r"data\.split_seed: may not change .* \(was 0, would be 7\)"),
        ("data.num_examples=300", r"data\.num_examples: may not change"),
        ("metric=val/loss", r"metric: may not change .* \(was val/accuracy, would be val/loss\)"),
        ("model.width=16", r"model\.width: may not change .* \(was 12, would be 16\)"),
        ("optimizer.momentum=0.5", r"optimizer\.momentum: may not change"),
        ("epochs=3", r"epochs: may not change"),
        ("repeat=2", r"repeat: may not change"),
        ("tracking=none", r"tracking: may not change"),
    ],
)
def test_what_may_not_change_is_refused_with_the_difference(
    closed: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (closed / JOURNAL).read_bytes()
    assert main(["resume", closed.name, "--runs-dir", str(closed.parent), "--more", "1", override]) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert (closed / JOURNAL).read_bytes() == before


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    runs = tmp_path_factory.mktemp("closed") / "runs"
    assert main(["launch", *SMALL, SEARCH, "epochs=1", "trials=1", f"runs_dir={runs}", "name=closed"]) == 0
    return sweep_folder(str(runs))


def test_a_second_driver_is_sent_away(closed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["resume", closed.name, "--runs-dir", str(closed.parent), "--more", "1"]
    with hold(closed / LOCK, f"{DRIVING} {closed.name}"):
        assert main(command) == 6
        made = plan([*SMALL, SEARCH, "epochs=1", "trials=2"])
        with pytest.raises(RunningElsewhereError, match=rf"process {os.getpid()} on .* works on sweep closed-"):
            resume(closed, made)
    assert re.search(rf"process {os.getpid()} on \S+ works on sweep closed-", capsys.readouterr().err)


def test_a_sweep_of_which_nothing_was_recorded_is_launched_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "early-00000001"
    folder.mkdir(parents=True)
    Journal(folder / JOURNAL, create=True).close()  # as a driver leaves it that dies before its first commit
    assert main(["resume", "early", "--runs-dir", str(folder.parent)]) == 3
    words = "killed before its first trial, and nothing is recorded of it; launch it again"
    assert words in capsys.readouterr().err
    with pytest.raises(NotReadyError, match=words):
        resume(folder, plan([*SMALL, SEARCH, "epochs=1", "trials=2"]))


def test_the_newest_of_a_name_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    for minute, uid in enumerate(("one-00000001", "two-0000000b", "two-0000000a")):
        (Path("runs") / uid).mkdir(parents=True)
        journal = Journal(Path("runs", uid, JOURNAL), create=True, clock=lambda at=minute: 60.0 * at)
        journal.append(SweepOpened(uid, uid[:3], "val/accuracy", "max", 1, f"runs/{uid}", "", tracking={}))
        journal.close()
    runs = Path("runs")
    assert find_sweep(runs, "two") == runs / "two-0000000a"
    assert find_sweep(runs, "two-0000000b") == runs / "two-0000000b"
    assert find_sweep(runs, "on") == runs / "one-00000001"
    assert main(["resume", "tw"]) == 2
    assert "is the beginning of several sweeps; say which: two-0000000a, two-0000000b" in capsys.readouterr().err
    assert main(["resume", "three"]) == 2
    err = capsys.readouterr().err
    assert "no sweep of that name in runs; newest there: two-0000000a, two-0000000b, one-00000001" in err


def test_every_configuration_runs_with_each_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["launch", *SMALL, "optimizer.lr=0.01,0.3", "repeat=3", "epochs=2", "max_concurrent=1", "name=seeds"]) == 0
    )
    record = read_sweep(sweep_folder())
    found = [(t.config_index, t.repeat, t.config["seed"], t.params["optimizer.lr"]) for t in record.trials.values()]
    first, second = (record.trials[index].params["optimizer.lr"] for index in (0, 3))
    assert sorted(found) == [(c, r, repeat_seed(1, r), lr) for c, lr in ((0, first), (1, second)) for r in range(3)]
    values = {c: [t.value for t in record.trials.values() if t.config_index == c] for c in (0, 1)}
    means = {c: sum(v for v in vs if v is not None) / 3 for c, vs in values.items()}
    assert record.closed is not None
    assert record.closed.best["value"] == pytest.approx(max(means.values()))
    assert record.closed.best["repeats"] == 3
    assert record.closed.best["spread"] > 0
    assert re.search(r"trial\s+val/accuracy\s+sd\s+seeds", capsys.readouterr().out)


@pytest.mark.slow
def test_with_early_stopping_the_first_seed_alone_is_judged() -> None:
    keys = ["repeat=2", "epochs=4", "trials=6", "scheduler=asha", "scheduler.reduction_factor=2", "max_concurrent=1"]
    assert main(["launch", *SMALL, SEARCH, *keys, "tracking=none"]) == 0
    record = read_sweep(sweep_folder())
    groups: dict[int, list[TrialRecord]] = {}
    for trial in record.trials.values():
        groups.setdefault(trial.config_index, []).append(trial)
    assert len(groups) == 6
    survived = {c: group for c, group in groups.items() if group[0].state is State.COMPLETED}
    assert 0 < len(survived) < 6
    assert all(len(group) == (2 if c in survived else 1) for c, group in groups.items())
    assert all(trial.state is State.COMPLETED for group in survived.values() for trial in group)


@pytest.mark.slow
def test_a_hanging_trial_is_killed_and_continues(tmp_path: Path) -> None:
    keys = [*SMALL, SEARCH, "epochs=100000", "trials=1", "heartbeat_timeout_s=3", "tracking=none", "time_budget_s=40"]
    stopped: list[int] = []

    def stop_the_worker() -> None:
        record = read_sweep(sweep_folder())
        trial = record.trials.get(0)
        if trial is not None and trial.epoch and not stopped:
            stopped.extend(training_processes())
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
        if trial is not None and len(trial.attempts) == 2 and trial.started and trial.epoch > epoch_then[0]:
            raise Interrupt("the driver dies")
        epoch_then[0] = trial.epoch if trial is not None and len(trial.attempts) < 2 else epoch_then[0]

    epoch_then = [10**9]
    try:
        with pytest.raises(Interrupt, match="the driver dies"):
            launch(plan(keys), DriverContext(on_step=stop_the_worker))
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    (trial,) = read_sweep(sweep_folder()).trials.values()
    assert trial.retries == ["no heartbeat and no report for 3 s"]
    check_attempts(sweep_folder())


def training_processes() -> list[int]:
    """The Ray workers of this session that train."""
    found = subprocess.run(["pgrep", "-f", "ray::TrialWorker"], capture_output=True, text=True, check=True).stdout
    from orchestrator.base.signals import descendants

    return [pid for pid in map(int, found.split()) if pid in descendants(os.getpid())]


def test_a_request_to_stop_ends_the_sweep_with_what_it_has() -> None:
    keys = [*SMALL, SEARCH, "epochs=100000", "trials=5", "name=endless"]

    def ask() -> None:
        record: SweepRecord = read_sweep(sweep_folder())
        if record.trials and record.trials[0].epoch:
            (sweep_folder() / "stop").touch()

    result = launch(plan(keys), DriverContext(on_step=ask))
    assert result.closed_for == "stopped"
    assert set(result.totals) == {State.CANCELLED}
    record = read_sweep(sweep_folder())
    assert all(trial.reason == "stopped" for trial in record.trials.values())
    assert record.trials[0].value is not None
    assert not (sweep_folder() / "stop").exists()


def test_a_sweep_launched_from_python_gets_more_trials_but_no_other_plan(capsys: pytest.CaptureFixture[str]) -> None:
    launch(plan([*SMALL, SEARCH, "epochs=1", "trials=1", "tracking=none", "name=own"]), DriverContext())
    assert main(["resume", "own", "max_concurrent=1"]) == 2
    assert "launched from Python, so its plan can only be changed there" in capsys.readouterr().err
    assert main(["resume", "own", "--more", "1"]) == 0
    assert sorted(read_sweep(sweep_folder()).trials) == [0, 1]


def test_a_time_budget_cancels_what_runs_and_keeps_its_value(capfd: pytest.CaptureFixture[str]) -> None:
    """The sweep is resumed with a budget once both trials have a value, however long that takes."""
    keys = [*SMALL, "optimizer.lr=0.01,0.02", "epochs=100000", "trials=2", "name=endless"]
    request = {"overrides": keys, "cwd": os.getcwd(), "config_dir": None, "config_name": "launch"}

    def look() -> None:
        trials = read_sweep(sweep_folder()).trials.values()
        if len(trials) == 2 and all(trial.epoch for trial in trials):
            raise Interrupt("the driver dies")

    with pytest.raises(Interrupt, match="the driver dies"):
        launch(plan(keys), DriverContext(on_step=look, request=request))
    assert main(["resume", "endless", "time_budget_s=3"]) == 0
    record = read_sweep(sweep_folder())
    ended = [(trial.state, trial.reason, trial.value is not None) for trial in record.trials.values()]
    assert ended == [(State.CANCELLED, "time budget", True)] * 2
    assert record.closed is not None
    assert record.closed.reason == "budget"
    assert "2 cancelled" in capfd.readouterr().out


def test_a_budget_is_what_is_left_of_it_unless_given_anew() -> None:
    def planned(trials: int, budget_s: int) -> SweepPlan:
        own = [f"trials={trials}", f"time_budget_s={budget_s}"]
        return plan([*SMALL, SEARCH, "epochs=100000", "tracking=none", *own])

    result = launch(planned(1, 4))
    assert result.closed_for == "budget"
    assert result.totals == {State.CANCELLED: 1}
    folder = sweep_folder()
    assert resume(folder, planned(1, 4)) is None
    before = (folder / JOURNAL).read_bytes()
    with pytest.raises(ConfigError, match=r"time_budget_s=4: is used up \(\d+ s\); say how long it may go on"):
        resume(folder, planned(2, 4), trials=2)
    assert (folder / JOURNAL).read_bytes() == before
    again = resume(folder, planned(2, 5), trials=2, new_budget=True)
    assert again is not None
    assert again.closed_for == "budget"
    record = read_sweep(folder)
    assert record.spent_ms == 0
    assert record.worked_ms >= 4_000
    assert sorted(record.trials) == [0, 1]
