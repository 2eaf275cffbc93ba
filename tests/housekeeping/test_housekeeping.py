"""status, show, stop and delete on journals that are written here, and on processes that hold their locks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base import layout, locks
from orchestrator.base.errors import ConfigError, NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.cli import main
from orchestrator.housekeeping.commands import Request, request_of, train_command
from orchestrator.housekeeping.disk import disk_use, size
from orchestrator.housekeeping.overview import detail_lines, look, survey
from orchestrator.housekeeping.reading import find_trial, read_outline, read_trial, split_name
from orchestrator.housekeeping.stopping import stop
from orchestrator.journal.cursor import ship_lock
from orchestrator.journal.events import event_from
from orchestrator.journal.file import Journal
from orchestrator.tracking.sync import sync
from tests.synthetic import plan_text

START_S = 1_700_000_000


class Sweep:
    """A sweep whose journal the test writes; a second passes with every event."""

    def __init__(self, runs: Path, uid: str, *, begun_s: int = START_S, trials: int = 4, **settings: Any) -> None:
        self.folder = runs / uid
        self.folder.mkdir(parents=True)
        self.now_s = begun_s
        self.journal = Journal(self.folder / JOURNAL, create=True, clock=self._clock)
        self.settings = {"trials": trials, "repeat": 1, "keep_weights": 10, **settings}
        self.append(
            "sweep_opened",
            uid=uid,
            name=uid.rpartition("-")[0],
            metric="val/accuracy",
            mode="max",
            trials=trials,
            folder=str(self.folder),
            config=config(0.1),
            space=[{"key": "optimizer.lr", "domain": "interval(0, 1)", "condition": None}],
            tracking={"kind": "local", "uri": f"sqlite:///{runs}/mlflow.db", "artifacts": f"{runs}/artifacts"},
            environment={"command": "orchestrator launch data=digits optimizer.lr='interval(0,1)' trials=4"},
            plan=self.plan(),
        )

    def plan(self) -> str:
        return plan_text(**self.settings)

    def _clock(self) -> float:
        self.now_s += 1
        return self.now_s

    def append(self, kind: str, trial: int | None = None, attempt: int | None = None, **data: Any) -> None:
        self.journal.append(event_from(kind, data, trial), trial=trial, attempt=attempt)

    def start(self, index: int, **which: int) -> None:
        self.append("suggested", index, params={"optimizer.lr": 0.1 / (index + 1)}, config=config(0.1), **which)
        self.append("started", index, 1)

    def report(self, index: int, epoch: int, attempt: int = 1) -> None:
        epochs = [{"epoch": epoch, "time_ms": self.now_s * 1000, "metrics": {"val/accuracy": 0.5, "val/loss": 1.0}}]
        self.append("reported", index, attempt, epochs=epochs, checkpoint=None, notes=[], best=[epoch, 0.5])

    def end(self, index: int, value: float | None = 0.9, attempt: int = 1, **data: Any) -> None:
        ending = {"state": "completed", "reason": None, "epoch": 3, "value": value, "best_epoch": 3}
        files = {"metrics": {"test/accuracy": 0.8}, "artifacts": [], "error": None}
        self.append("terminal", index, attempt, **(ending | files | data))

    def run(self, index: int, value: float | None = 0.9, **data: Any) -> None:
        self.start(index)
        self.report(index, 3)
        self.end(index, value, **data)

    def close(self, reason: str = "finished") -> None:
        self.append("sweep_closed", reason=reason, totals={}, best=None, seconds=1.0)
        self.journal.commit()


def config(lr: float) -> dict[str, Any]:
    return {
        "choices": {"data": "digits", "optimizer": "sgd"},
        "data": {"_target_": "orchestrator.training.data.digits.digits"},
        "optimizer": {"_target_": "orchestrator.training.optimizers.sgd.sgd", "lr": lr},
        "epochs": 3,
        "seed": 7,
        "metric": "val/accuracy",
        "mode": "max",
    }


@pytest.fixture
def new_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes sweeps in `runs` of the folder in which the test works."""
    monkeypatch.chdir(tmp_path)
    sweeps: list[Sweep] = []

    def make(uid: str = "digits-0a1b2c3d", **settings: Any) -> Sweep:
        sweeps.append(Sweep(tmp_path / "runs", uid, **settings))
        return sweeps[-1]

    yield make
    for sweep in sweeps:
        if (sweep.folder / JOURNAL).exists():
            sweep.journal.close()


def row_of(printed: str, uid: str) -> str:
    (row,) = [line for line in printed.splitlines() if line.startswith(uid)]
    return row


# status --------------------------------------------------------------------------------------------------------------


def test_the_table_has_every_sweep_the_newest_first(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    old = new_sweep("old-00000001", begun_s=START_S)
    old.run(0, 0.7)
    old.run(1, 0.9)
    old.run(2, None, state="failed", error="Traceback ...\nRuntimeError: a bug of the user's")
    old.close("budget")
    running = new_sweep("running-00000002", begun_s=START_S + 1000)
    running.run(0, 0.6)
    running.start(1)
    running.journal.commit()
    gone = new_sweep("gone-00000003", begun_s=START_S + 2000)
    gone.start(0)
    gone.journal.commit()
    (gone.folder / "trials").mkdir()
    (gone.folder / "trials" / "weights").write_bytes(b"0" * 3_000_000)
    with locks.hold(running.folder / layout.LOCK, "works on it"):
        assert main(["status"]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == [
        "sweep",
        "gone-00000003",
        "running-00000002",
        "old-00000001",
    ]
    assert "interrupted  0/4" in row_of(printed, "gone")
    assert "3.1 MB" in row_of(printed, "gone")
    assert "running      1/4     0.6000 (trial 0)" in row_of(printed, "running")
    assert "budget       3/4     0.9000 (trial 1)" in row_of(printed, "old")
    assert row_of(printed, "old").endswith("RuntimeError: a bug of the user's")


def test_time_left_follows_from_what_ended_since_the_last_resume(new_sweep: Any) -> None:
    sweep = new_sweep(trials=6)
    sweep.run(0)
    sweep.now_s += 100_000  # nobody worked on it
    sweep.append("sweep_resumed", plan=sweep.plan(), changes={}, trials=6)
    began = sweep.now_s + 2
    for index in (1, 2):
        sweep.start(index)
        sweep.now_s += 30
        sweep.end(index)
    sweep.journal.commit()
    with locks.hold(sweep.folder / layout.LOCK, "works on it"):
        found = look(sweep.folder, now=began + 90)
        assert found.left_s == pytest.approx(90 / 2 * 3)
    assert look(sweep.folder, now=began + 90).left_s is None, "nobody works on it"


def test_a_time_budget_bounds_the_time_left(new_sweep: Any) -> None:
    sweep = new_sweep(trials=100, time_budget_s=60.0)
    sweep.run(0)
    sweep.journal.commit()
    with locks.hold(sweep.folder / layout.LOCK, "works on it"):
        assert look(sweep.folder, now=START_S + 41).left_s == pytest.approx(20)


def test_progress_counts_repeats_and_a_resume_with_more_trials(new_sweep: Any) -> None:
    sweep = new_sweep(trials=4, repeat=3)
    sweep.start(0, config_index=0, repeat=0)
    sweep.end(0, 0.9)
    sweep.start(1, config_index=0, repeat=1)
    sweep.end(1, 0.7)
    sweep.journal.commit()
    found = look(sweep.folder)
    assert (found.ended, found.planned) == (2, 12)
    assert "val/accuracy 0.8000 ± 0.1414 over 2 repeats (trial 0)" in "\n".join(detail_lines(found))
    sweep.append("sweep_resumed", plan=sweep.plan(), changes={}, trials=10)
    sweep.journal.commit()
    assert look(sweep.folder).planned == 30


def test_the_details_of_a_running_sweep(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep()
    sweep.run(0, 0.8)
    sweep.start(1)
    sweep.report(1, 2)
    sweep.append("retrying", 1, 1, reason="the worker process died", error="ActorDied\nActorDiedError: gone")
    sweep.append("started", 1, 2)
    sweep.start(2)
    sweep.journal.commit()
    with locks.hold(sweep.folder / layout.LOCK, "works on it"):
        assert main(["status", "digits"]) == 0
        printed = capsys.readouterr().out
        assert main(["show", "digits"]) == 0
        assert capsys.readouterr().out.splitlines()[:3] == printed.splitlines()[:3], "show NAME is status NAME"
    assert "state       running" in printed
    assert f"driver      process {os.getpid()} on " in printed
    assert "trials      1 of 4 ended: 1 completed" in printed
    assert "running     trial 1  epoch 2 of 3, attempt 2\n            trial 2  epoch 0 of 3\n" in printed
    assert "best        val/accuracy 0.8000 (trial 0)  optimizer.lr=0.1" in printed
    assert "last error  ActorDiedError: gone" in printed
    assert f"folder      {sweep.folder}" in printed
    assert "mlflow.db: 0 of 12 events shipped\n" in printed
    assert "resume" not in printed


def test_the_details_of_an_interrupted_sweep_say_how_to_go_on(
    new_sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = new_sweep()
    sweep.start(0)
    sweep.report(0, 1)
    sweep.journal.commit()
    monkeypatch.chdir("/")
    assert main(["status", "digits", "--runs-dir", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "state       interrupted" in printed
    assert "unfinished  trial 0  epoch 1 of 3" in printed
    where = f"--runs-dir {tmp_path / 'runs'}"
    assert f"orchestrator resume digits-0a1b2c3d {where}" in printed
    assert f"0 of 4 events shipped; ship the rest with `orchestrator sync digits-0a1b2c3d {where}`" in printed


def test_a_damaged_journal_is_a_row_of_its_own(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for number, damage in enumerate(("cut", "changed", "missing", "no database")):
        sweep = new_sweep(f"bad-0000000{number}")
        sweep.run(0)
        sweep.close()
        sweep.journal.close()
        path = sweep.folder / JOURNAL
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:5000])
        elif damage == "no database":
            path.write_text("something else" * 100)
        else:
            db = sqlite3.connect(path)
            change = (
                "UPDATE events SET data = replace(data, '0.9', '0.8')" if damage == "changed" else "DELETE FROM events"
            )
            db.execute(f"{change} WHERE kind = 'terminal'")
            db.commit()
            db.close()
    good = new_sweep("good-00000009", begun_s=START_S - 9)
    good.run(0)
    good.close()
    assert main(["status"]) == 0
    printed = capsys.readouterr().out
    assert "finished" in row_of(printed, "good")
    for number in range(4):
        assert "damaged" in row_of(printed, f"bad-0000000{number}")
    assert main(["status", "bad-00000001"]) == 0
    assert "event 5 is not what was written" in capsys.readouterr().out
    assert look(Path("runs/bad-00000002").absolute()).damage
    with pytest.raises(NotReadyError, match="1 events are missing"):
        read_outline(Path("runs/bad-00000002"))


def test_an_empty_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs-dir", str(tmp_path)]) == 0
    assert "there is no sweep in" in capsys.readouterr().out
    assert main(["status", "digits", "--runs-dir", str(tmp_path)]) == 2


def test_a_sweep_that_was_killed_before_its_first_event_is_shown(new_sweep: Any, tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty-00000000").mkdir(parents=True)
    Journal(tmp_path / "runs/empty-00000000" / JOURNAL, create=True).close()
    (found,) = survey(tmp_path / "runs")
    assert (found.state, found.ended, found.planned) == ("interrupted", 0, 0)
    assert "state       interrupted" in detail_lines(found)


def test_epochs_of_trials_that_ended_are_not_read(new_sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.housekeeping.reading.ROWS_AT_ONCE", 3)
    sweep = new_sweep()
    sweep.start(0)
    sweep.start(1)
    for epoch in range(1, 20):
        sweep.report(0, epoch)
        sweep.report(1, epoch)
    sweep.end(0)
    sweep.journal.commit()
    record = read_outline(sweep.folder).record
    assert record.trials[1].epoch == 19
    assert record.trials[0].config == {"epochs": 3, "seed": 7}
    assert record.last_seq == sweep.journal.last_seq
    with_epochs = read_trial(sweep.folder, 0)
    assert [epoch["epoch"] for epoch in with_epochs.trial.epochs] == list(range(1, 20))
    assert list(with_epochs.record.trials) == [0]


def test_a_status_beside_a_writer_sees_whole_events(new_sweep: Any) -> None:
    sweep = new_sweep(trials=1000)
    for index in range(40):
        sweep.run(index)
        found = look(sweep.folder)
        assert found.damage is None
        assert found.ended <= index + 1


def test_disk_use_tells_parts_apart(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "00000"
    (trial / "artifacts").mkdir(parents=True)
    (trial / "checkpoint-000001.ab.safetensors").write_bytes(b"0" * 1000)
    (trial / "best.safetensors").write_bytes(b"0" * 100)
    (trial / "artifacts" / "predictions.safetensors").write_bytes(b"0" * 10)
    (tmp_path / JOURNAL).write_bytes(b"0")
    (tmp_path / "link").symlink_to("/")
    found = disk_use(tmp_path)
    assert (found.checkpoints, found.weights, found.predictions) == (1000, 100, 10)
    assert found.total - 1111 == len("/"), "a link counts as itself"
    assert [size(number) for number in (999, 1000, 999_999, 3_400_000, 1_200_000_000)] == [
        "999 B",
        "1 kB",
        "1000 kB",
        "3.4 MB",
        "1.2 GB",
    ]


# show ----------------------------------------------------------------------------------------------------------------


def test_a_trials_attempts_say_why_each_ended(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep()
    sweep.run(0)
    sweep.start(1)
    sweep.report(1, 1)
    sweep.append("retrying", 1, 1, reason="the worker process died", error="gone")
    sweep.append("started", 1, 2)
    sweep.append("sweep_resumed", plan=sweep.plan(), changes={}, trials=4)
    sweep.append("started", 1, 3)
    sweep.report(1, 2, attempt=3)
    error = "Traceback (most recent call last):\n  ...\nRuntimeError: a bug of the user's"
    sweep.end(1, None, attempt=3, state="failed", reason="RuntimeError: a bug of the user's", error=error, epoch=2)
    sweep.journal.commit()
    assert main(["show", "digits/1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    attempts = [line.split(", ", 1)[1] for line in lines if ": begun 20" in line]
    assert attempts == [
        "the worker process died",
        "the sweep was interrupted, and resumed later",
        "RuntimeError: a bug of the user's",
    ]
    assert "state       failed (RuntimeError: a bug of the user's)" in lines
    assert "epochs      2 of 3" in lines
    assert "searched    optimizer.lr=0.05" in lines
    assert "weights     none: the trial is failed" in lines
    assert "again       orchestrator train from=digits-0a1b2c3d/1" in lines
    assert "            orchestrator train data=digits optimizer.lr=0.05" in lines
    assert lines[-3:] == [
        "error       Traceback (most recent call last):",
        "              ...",
        "            " + error[-33:],
    ]


def test_a_repeat_is_shown_with_its_seed(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep(repeat=3, keep_weights=1)
    sweep.start(0, config_index=0, repeat=0)
    sweep.start(1, config_index=0, repeat=1)
    sweep.end(1)
    sweep.journal.commit()
    assert main(["show", "digits/1"]) == 0
    printed = capsys.readouterr().out
    assert "seed        7, repeat 2 of 3 of configuration 0" in printed
    assert "optimizer.lr=0.05 seed=7" in printed
    assert "not kept: its configuration is not among the best 1 (keep_weights)" in printed
    assert main(["show", "digits/0"]) == 0
    assert "state       under way" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["digits/", "digits/x", "/3", "digits/-1", "digits/1/2", "digits/²"])
def test_what_names_no_trial_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a sweep .* or one of its trials"):
        split_name(text)


def test_names_and_indices() -> None:
    assert split_name("digits") == ("digits", None)
    assert split_name("digits-0a1b2c3d/7") == ("digits-0a1b2c3d", 7)


def test_an_index_that_is_not_there_names_the_range(new_sweep: Any, tmp_path: Path) -> None:
    sweep = new_sweep()
    sweep.journal.commit()
    with pytest.raises(ConfigError, match=r"digits-0a1b2c3d has no trials yet"):
        find_trial(tmp_path / "runs", "digits/0")
    sweep.start(0)
    sweep.start(1)
    sweep.journal.commit()
    assert main(["show", "digits/2"]) == 2
    with pytest.raises(ConfigError, match=r"digits-0a1b2c3d has the trials 0 to 1"):
        find_trial(tmp_path / "runs", "digits/2")


def test_the_command_has_what_was_typed_about_this_trial_alone(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.start(0)
    sweep.journal.commit()
    trial = read_trial(sweep.folder, 0).trial
    typed = (
        "data=digits",
        "optimizer=sgd,adam",
        "optimizer.beta=0.9",
        "optimizer.lr=0.1,0.2",
        "sampler=tpe",
        "tracking.uri=http://x",
        "trials=4",
        "++epochs=3",
        "name=it is",
        "model.note='two words'",
    )
    request = Request(typed, "mine", "other", "/home/me")
    trial.params["optimizer"] = "sgd"
    trial.config["model"] = {"note": "two words"}
    assert train_command(request, trial, ["optimizer", "optimizer.lr"]) == (
        "orchestrator train --config-dir /home/me/mine --config-name other data=digits ++epochs=3"
        """ 'model.note='"'"'two words'"'"'' optimizer.lr=0.1 optimizer=sgd"""
    )


def test_the_request_is_read_from_the_record_or_from_the_command(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.journal.commit()
    opened = read_outline(sweep.folder).record.opened
    assert request_of(opened) == Request(("data=digits", "optimizer.lr=interval(0,1)", "trials=4"))
    command = "orchestrator launch --config-dir=mine --config-name other epochs=3"
    assert request_of(replace(opened, environment={"command": command})) == Request(("epochs=3",), "mine", "other")
    assert request_of(replace(opened, environment={"command": "python mine.py"})) is None
    request = {"overrides": ["epochs=3"], "config_dir": "m", "config_name": "launch", "cwd": "/x"}
    assert request_of(replace(opened, request=request)) == Request(("epochs=3",), "m", "launch", "/x")


# stop ----------------------------------------------------------------------------------------------------------------

DRIVER = """
import sys, time
from pathlib import Path
from orchestrator.base import layout, locks
from orchestrator.journal.events import SweepClosed
from orchestrator.journal.file import Journal
folder, obeys = Path(sys.argv[1]), sys.argv[2] == "obeys"
with locks.hold(folder / layout.LOCK, "drives it"):
    (folder / "stop").unlink(missing_ok=True)
    print("holds", flush=True)
    while not (obeys and (folder / "stop").exists()):
        time.sleep(0.01)
    journal = Journal(folder / "journal.sqlite")
    journal.append(SweepClosed("stopped", {}, None, 1.0), sync=True)
    journal.close()
    (folder / "stop").unlink()
"""


@pytest.fixture
def driver() -> Iterator[Any]:
    """Starts processes that hold a sweep's lock as its driver does."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *, obeys: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", DRIVER, str(folder), "obeys" if obeys else "does not"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "holds\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_stop_waits_for_the_driver_and_says_what_became(
    new_sweep: Any, driver: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = new_sweep()
    sweep.run(0)
    sweep.journal.close()
    process = driver(sweep.folder)
    assert main(["stop", "digits"]) == 0
    assert capsys.readouterr().out == "digits-0a1b2c3d: stopped, 1 completed\n"
    assert process.wait(10) == 0
    assert not (sweep.folder / "stop").exists()


def test_stopping_what_does_not_run_says_so(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep()
    sweep.run(0)
    sweep.journal.commit()
    (sweep.folder / "stop").touch()  # of a driver that was killed
    assert main(["stop", "digits"]) == 0
    assert "is not running (interrupted, 1 completed; go on with `orchestrator resume" in capsys.readouterr().out
    assert not (sweep.folder / "stop").exists(), "a resume would stop at once"
    sweep.close()
    assert main(["stop", "digits"]) == 0
    assert "is not running (finished, 1 completed); there is nothing to stop" in capsys.readouterr().out


def test_a_driver_that_does_not_let_go_is_named(
    new_sweep: Any, driver: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = new_sweep()
    sweep.journal.commit()
    process = driver(sweep.folder, obeys=False)
    assert main(["stop", "digits", "--timeout", "0.3"]) == 3
    assert f"it is held by process {process.pid} on " in capsys.readouterr().err
    assert (sweep.folder / "stop").exists(), "it may still see it"


def test_a_driver_that_dies_is_told_as_interrupted(new_sweep: Any, driver: Any) -> None:
    sweep = new_sweep()
    sweep.run(0)
    sweep.journal.commit()
    process = driver(sweep.folder, obeys=False)
    process.kill()
    process.wait()
    assert "interrupted, 1 completed" in stop(sweep.folder, 5.0)


# delete --------------------------------------------------------------------------------------------------------------


def shipped(new_sweep: Any, uid: str = "digits-0a1b2c3d") -> Sweep:
    sweep: Sweep = new_sweep(uid)
    sweep.run(0)
    sweep.close()
    files = sweep.folder / "trials" / "00000"
    files.mkdir(parents=True)
    (files / "best.safetensors").write_bytes(b"0" * 2_000_000)
    sync(sweep.folder)
    return sweep


def runs_in(store: Path) -> int:
    db = sqlite3.connect(store)
    try:
        return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])
    finally:
        db.close()


def test_delete_removes_files_and_runs_and_nothing_else(
    new_sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, sweep = shipped(new_sweep, "other-00000000"), shipped(new_sweep)
    assert main(["delete", "digits", "--yes"]) == 0
    printed = capsys.readouterr().out
    assert "trials      1" in printed
    assert "best weights 2.0 MB" in printed
    assert f"MLflow      2 runs in sqlite:///{tmp_path}/runs/mlflow.db, for good" in printed
    assert printed.endswith("deleted digits-0a1b2c3d\n")
    assert not sweep.folder.exists()
    assert runs_in(tmp_path / "runs/mlflow.db") == 2
    assert look(other.folder).state == "finished"
    assert main(["delete", "digits-0a1b2c3d", "--yes"]) == 2


def test_without_a_terminal_it_has_to_be_said(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = shipped(new_sweep)
    assert main(["delete", "digits"]) == 2
    assert "nothing was deleted. To do it:  orchestrator delete digits-0a1b2c3d --yes" in capsys.readouterr().err
    assert look(sweep.folder).ended == 1


@pytest.mark.parametrize(("answer", "there"), [("y\n", False), ("\n", True), ("no\n", True)])
def test_on_a_terminal_it_is_asked(
    new_sweep: Any, answer: str, there: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = shipped(new_sweep)
    ours, theirs = os.openpty()
    os.write(ours, answer.encode())
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["delete", "digits"]) == 0
    os.close(ours)
    assert sweep.folder.exists() == there
    assert ("nothing was deleted" in capsys.readouterr().out) == there


def test_a_running_sweep_is_not_deleted(new_sweep: Any, driver: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep()
    sweep.journal.commit()
    process = driver(sweep.folder)
    assert main(["delete", "digits", "--yes"]) == 6
    told = capsys.readouterr().err
    assert f"process {process.pid} on " in told
    assert "End it first:  orchestrator stop digits-0a1b2c3d" in told
    assert (sweep.folder / JOURNAL).exists()


def test_a_shipper_at_work_is_waited_for_and_then_told(
    new_sweep: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("orchestrator.housekeeping.deleting.SHIPPER_WAIT_S", 0.1)
    sweep = shipped(new_sweep)
    with ship_lock(sweep.folder):
        assert main(["delete", "digits", "--yes"]) == 6
    assert "ships digits-0a1b2c3d already; nothing was deleted" in capsys.readouterr().err
    assert main(["delete", "digits", "--yes"]) == 0


def test_an_unreachable_server_keeps_everything(new_sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = new_sweep()
    server = {"kind": "server", "uri": "http://127.0.0.1:9"}
    sweep.append("sweep_opened", uid=sweep.folder.name, name="x", mode="max", metric="m", trials=1, folder=str(sweep.folder),
                 plan="", tracking=server)  # fmt: skip
    sweep.journal.commit()
    assert main(["delete", "digits", "--yes"]) == 3
    assert "http://127.0.0.1:9 cannot be deleted now" in capsys.readouterr().err
    assert (sweep.folder / JOURNAL).exists()


def test_a_damaged_sweep_can_be_deleted(new_sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = shipped(new_sweep)
    sweep.journal.close()
    damaged = b"SQLite format 3" + b"?" * 4000 + (sweep.folder / JOURNAL).read_bytes()[4015:]
    (sweep.folder / JOURNAL).write_bytes(damaged)
    assert main(["delete", "digits-0a1b2c3d", "--yes"]) == 0
    assert "its journal is damaged" in capsys.readouterr().out
    assert not sweep.folder.exists()
    assert runs_in(tmp_path / "runs/mlflow.db") == 0


CUT_OFF = """
import os, sys
from pathlib import Path
count = int(sys.argv[1])

def removing(event, args):
    global count
    if event in ("os.remove", "os.rmdir", "sqlite3.connect"):
        count -= 1
        if count < 0:
            os._exit(9)

from orchestrator.cli import main
sys.addaudithook(removing)
sys.exit(main(["delete", "digits-0a1b2c3d", "--yes"]))
"""


@pytest.mark.slow
def test_killed_anywhere_the_same_command_finishes(new_sweep: Any, tmp_path: Path) -> None:
    """Each removal of a file is a place to be killed at; the next run of the command has to find what is left."""
    place, codes = 0, []
    while not codes or codes[-1] != 0:
        sweep = shipped(new_sweep, "digits-0a1b2c3d")
        sweep.journal.close()
        codes.append(subprocess.run([sys.executable, "-c", CUT_OFF, str(place)], check=False).returncode)
        assert codes[-1] in (0, 9)
        if sweep.folder.exists():
            assert main(["delete", "digits-0a1b2c3d", "--yes"]) == 0
        assert not sweep.folder.exists()
        assert runs_in(tmp_path / "runs/mlflow.db") == 0
        assert not list((tmp_path / "runs").rglob("predictions*"))
        place += 1
    assert place > 8
