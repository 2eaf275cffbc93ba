"""What `delete` and `stop` take for the sweep that was meant, and that nothing else goes with it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.layout import JOURNAL
from orchestrator.cli import main
from orchestrator.tracking.sync import sync
from tests.synthetic import new_sweep

__all__ = ["new_sweep"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the sweeps of `new_sweep` lie, and commands look."""
    monkeypatch.chdir(tmp_path.parent)
    return tmp_path


def delete(runs: Path, name: str) -> int:
    return main(["delete", name, "--runs-dir", str(runs), "--yes"])


def sweeps(runs: Path) -> set[str]:
    return {path.parent.name for path in runs.glob(f"*/{JOURNAL}")}


def named(new_sweep: Any, uid: str, name: str) -> Any:
    sweep = new_sweep(uid)
    sweep.journal.close()
    db = sqlite3.connect(sweep.folder / JOURNAL)
    seq, time_ms, kind, trial, attempt, text = db.execute(
        "SELECT seq, time_ms, kind, trial, attempt, data FROM events"
    ).fetchone()
    text = json.dumps({**json.loads(text), "name": name}, separators=(",", ":"))
    from zlib import crc32

    crc = crc32(f"{seq} {time_ms} {kind} {trial} {attempt} {text}".encode())
    db.execute("UPDATE events SET data = ?, crc = ?", (text, crc))
    db.commit()
    db.close()
    return sweep


@pytest.mark.parametrize("command", ["delete", "stop"])
@pytest.mark.parametrize(
    "typed", ["日本", "***", "sweep", "sweep-2026", "swe", "", "SWEEP", "sweep-20261121-203029-0a1b2c3"]
)
def test_what_names_no_sweep_exactly_destroys_nothing(
    new_sweep: Any, runs: Path, command: str, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named(new_sweep, "sweep-20261121-203029-0a1b2c3d", "sweep-20261121-203029")
    (runs / "sweep-20261121-203029-0a1b2c3d" / "stop").touch()
    confirm = ["--yes"] if command == "delete" else []
    assert main([command, typed, "--runs-dir", str(runs), *confirm]) == 2
    assert "no sweep of that name" in capsys.readouterr().err
    assert sweeps(runs) == {"sweep-20261121-203029-0a1b2c3d"}
    assert (runs / "sweep-20261121-203029-0a1b2c3d" / "stop").exists()


@pytest.mark.parametrize("typed", ["日本", "***"])
def test_reading_commands_do_not_take_an_empty_slug_for_a_beginning(
    new_sweep: Any, runs: Path, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named(new_sweep, "sweep-20261121-203029-0a1b2c3d", "sweep-20261121-203029")
    for command in ("status", "show", "verify", "sync"):
        assert main([command, typed, "--runs-dir", str(runs)]) == 2
        assert "no sweep of that name" in capsys.readouterr().err


def test_a_sweep_is_found_by_the_name_that_it_was_given(
    new_sweep: Any, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named(new_sweep, "sweep-0a1b2c3d", "日本")
    named(new_sweep, "sweep-20261121-203029-00000000", "sweep-20261121-203029")
    assert main(["status", "日本", "--runs-dir", str(runs)]) == 0
    assert "sweep-0a1b2c3d" in capsys.readouterr().out
    assert delete(runs, "日本") == 0
    assert sweeps(runs) == {"sweep-20261121-203029-00000000"}


def test_a_name_that_several_sweeps_have_is_refused_and_they_are_listed(
    new_sweep: Any, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for uid in ("digits-00000001", "digits-00000002"):
        named(new_sweep, uid, "digits")
    named(new_sweep, "digits-lr-00000003", "digits-lr")
    for command in ("delete", "stop"):
        assert main([command, "digits", "--runs-dir", str(runs), *(["--yes"] if command == "delete" else [])]) == 2
        told = capsys.readouterr().err
        assert "is the name of 2 sweeps; say which, with its id: digits-0000000" in told
        assert "digits-00000001" in told
        assert "digits-lr" not in told
    assert delete(runs, "digits-00000001") == 0
    assert sweeps(runs) == {"digits-00000002", "digits-lr-00000003"}
    assert delete(runs, "digits") == 0


def test_a_link_in_the_runs_folder_does_not_empty_what_it_leads_to(
    new_sweep: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = named(new_sweep, "digits-0a1b2c3d", "digits")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "digits-0a1b2c3d"
    os.rename(sweep.folder, elsewhere)
    sweep.folder.symlink_to(elsewhere)
    assert delete(runs, "digits-0a1b2c3d") == 3
    assert "digits-0a1b2c3d is a link" in capsys.readouterr().err
    assert sweeps(elsewhere.parent) == {"digits-0a1b2c3d"}
    assert main(["stop", "digits-0a1b2c3d", "--runs-dir", str(runs)]) == 3


def test_links_in_a_sweeps_folder_go_and_not_what_they_lead_to(
    new_sweep: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    precious = tmp_path_factory.mktemp("precious")
    (precious / "thesis.tex").write_text("years of work")
    sweep = named(new_sweep, "digits-0a1b2c3d", "digits")
    for name in ("trials", "tune", "tracking-of-others"):
        (sweep.folder / name).symlink_to(precious)
    assert delete(runs, "digits") == 0
    assert not sweep.folder.exists()
    assert os.listdir(precious) == ["thesis.tex"]


@pytest.mark.parametrize("name", ["lock", "tracking/lock"])
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_not_emptied(
    new_sweep: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path_factory.mktemp("precious") / "thesis.tex"
    thesis.write_text("years of work")
    sweep = named(new_sweep, "digits-0a1b2c3d", "digits")
    (sweep.folder / "tracking").mkdir()
    (sweep.folder / name).symlink_to(thesis)
    assert delete(runs, "digits") == 3
    assert "cannot be opened" in capsys.readouterr().err
    assert thesis.read_text() == "years of work"


def test_a_renamed_folder_is_not_the_sweep_of_its_name(
    new_sweep: Any, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = named(new_sweep, "digits-0a1b2c3d", "digits")
    os.rename(sweep.folder, runs / "thesis")
    assert delete(runs, "thesis") == 3
    assert "does not say that it is the folder of the sweep thesis" in capsys.readouterr().err
    assert (runs / "thesis" / JOURNAL).is_file()


def test_a_folder_with_a_foreign_file_called_journal_is_not_a_sweep(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "notes-0a1b2c3d").mkdir()
    (runs / "notes-0a1b2c3d" / JOURNAL).write_text("my diary")
    assert delete(runs, "notes-0a1b2c3d") == 3
    assert (runs / "notes-0a1b2c3d" / JOURNAL).read_text() == "my diary"


def test_what_is_left_behind_the_journal_goes_and_folders_of_others_do_not(runs: Path) -> None:
    for name, lock in (
        ("digits-0a1b2c3d", '{"doing": "deletes sweep digits-0a1b2c3d"}'),
        ("mine", ""),
        ("x-00000000", ""),
    ):
        (runs / name).mkdir()
        (runs / name / "lock").write_text(lock)
    assert delete(runs, "digits-0a1b2c3d") == 0
    assert delete(runs, "mine") == 2
    assert delete(runs, "x-00000000") == 2
    assert sorted(os.listdir(runs)) == ["mine", "x-00000000"]


def test_a_sweep_that_was_killed_before_its_journal_was_made_can_be_deleted(runs: Path) -> None:
    folder = runs / "digits-0a1b2c3d"
    (folder / "trials").mkdir(parents=True)
    (folder / "sweep.json").write_text('{"format": 1, "uid": "digits-0a1b2c3d"}')
    (runs / "other-0a1b2c3d" / "trials").mkdir(parents=True)
    assert delete(runs, "digits-0a1b2c3d") == 0
    assert delete(runs, "other-0a1b2c3d") == 2
    assert sorted(os.listdir(runs)) == ["other-0a1b2c3d", "store.json"]


FORGED = {
    "a folder with the run's id": lambda elsewhere, run: f"{elsewhere}/{run}/artifacts",
    "an address of a file": lambda elsewhere, run: f"file://{elsewhere}/{run}/artifacts",
    "above": lambda elsewhere, run: f"{elsewhere}/x/../{run}/artifacts",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_address_in_the_database_leads_nowhere(
    new_sweep: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory, forge: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = new_sweep("digits-0a1b2c3d")
    sweep.run_trial(0)
    sweep.finish(1)
    sync(sweep.folder)
    precious = tmp_path_factory.mktemp("precious")
    db = sqlite3.connect(runs / "mlflow.db")
    ids = [run for (run,) in db.execute("SELECT run_uuid FROM runs")]
    for run in ids:
        (precious / run / "artifacts").mkdir(parents=True)
        (precious / run / "thesis.tex").write_text("years of work")
        db.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (forge(precious, run), run))
    db.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 1", (str(precious),))
    db.commit()
    db.close()
    assert delete(runs, "digits-0a1b2c3d") == 0
    assert "outside the store's own folder stays" in capsys.readouterr().out
    assert sorted(precious.glob("*/thesis.tex")) == sorted(precious / run / "thesis.tex" for run in ids)
    assert not list((runs / "artifacts").rglob("config.yaml")), "those of its own folder go"


def test_artifacts_that_are_a_link_are_left(
    new_sweep: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = new_sweep("digits-0a1b2c3d")
    sweep.run_trial(0)
    sweep.finish(1)
    sync(sweep.folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "artifacts"
    shutil.move(runs / "artifacts", elsewhere)
    (runs / "artifacts").symlink_to(elsewhere)
    files = sorted(elsewhere.rglob("*"))
    assert delete(runs, "digits-0a1b2c3d") == 3
    assert "artifacts is a link" in capsys.readouterr().err
    assert sorted(elsewhere.rglob("*")) == files
    assert (sweep.folder / JOURNAL).is_file()


def test_of_a_store_that_the_journal_alone_names_only_folders_with_our_ids_go(
    new_sweep: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    sweep = new_sweep("digits-0a1b2c3d", kind="local", uri=f"sqlite:///{elsewhere}/mlflow.db")
    sweep.run_trial(0)
    sweep.finish(1)
    sync(sweep.folder)
    db = sqlite3.connect(elsewhere / "mlflow.db")
    db.execute("INSERT INTO runs (run_uuid, experiment_id, artifact_uri, lifecycle_stage, status) VALUES (?, 1, ?, 'active',"
               " 'FINISHED')", ("ab" * 16, f"{elsewhere}/artifacts/1/{'ab' * 16}/artifacts"))  # fmt: skip
    db.execute("INSERT INTO tags VALUES ('sweep_uid', 'digits-0a1b2c3d', ?)", ("ab" * 16,))
    db.commit()
    db.close()
    thesis = elsewhere / "artifacts" / "1" / ("ab" * 16) / "artifacts" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    assert delete(runs, "digits-0a1b2c3d") == 0
    assert "outside the store's own folder stays" in capsys.readouterr().out
    assert [path for path in elsewhere.rglob("*") if path.is_file() and "mlflow.db" not in path.name] == [thesis]
