"""What lies where our files belong, a link or a pipe, is neither followed nor waited for, whatever the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import ADOPTING, CURSOR, HEARTBEAT, JOURNAL, STORE_MARK, TRACKER_LOG, TRACKING
from orchestrator.base.locks import hold
from orchestrator.cli import main
from orchestrator.journal.file import Journal
from orchestrator.tracking.supervisor import start_shipper
from orchestrator.training import heartbeat
from orchestrator.training.heartbeat import Heartbeat

UID = "digits-0000000a"


@pytest.fixture
def runs(new_sweep: Any, tmp_path: Path) -> Path:
    """A folder with one sweep that nothing was shipped of."""
    sweep = new_sweep(UID)
    sweep.run_trial(0)
    sweep.finish(1)
    sweep.journal.close()
    return tmp_path


@pytest.fixture
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody else, with files of the names that ours have."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("lock", CURSOR, TRACKER_LOG, HEARTBEAT):
        (folder / name).write_text("precious")
        os.utime(folder / name, (1, 1))
    return folder


def untouched(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(["lock", CURSOR, TRACKER_LOG, HEARTBEAT])
    for path in folder.iterdir():
        assert path.read_text() == "precious"
        assert path.stat().st_mtime == 1


@pytest.mark.parametrize("command", [["sync"], ["delete", "--yes"], ["delete"], ["status"], ["verify"]])
def test_a_tracking_folder_that_is_a_link_is_not_written_through(
    runs: Path, foreign: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / UID / TRACKING).symlink_to(foreign)
    code = main([command[0], UID, "--runs-dir", str(runs), *command[1:]])
    untouched(foreign)
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    if command == ["sync"]:
        assert code == 3
        assert "is a link" in said


def test_a_link_beside_the_cursor_is_not_followed(runs: Path, foreign: Path) -> None:
    (runs / UID / TRACKING).mkdir()
    for name in (CURSOR, f"{CURSOR}.tmp", "cursor.tmp"):
        (runs / UID / TRACKING / name).symlink_to(foreign / CURSOR)
    assert main(["sync", UID, "--runs-dir", str(runs)]) == 0
    untouched(foreign)
    assert json.loads((runs / UID / TRACKING / CURSOR).read_text())["shipped"] > 0
    assert not (runs / UID / TRACKING / CURSOR).is_symlink()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_is_a_link_or_a_pipe_starts_no_shipper(runs: Path, foreign: Path, kind: str) -> None:
    folder = runs / UID / TRACKING
    folder.mkdir()
    if kind == "pipe":
        os.mkfifo(folder / TRACKER_LOG)
    else:
        (folder / TRACKER_LOG).symlink_to(foreign / TRACKER_LOG)
    with pytest.raises(OSError, match=r"link|No such device"):
        start_shipper(runs / UID)
    untouched(foreign)


def test_a_heartbeat_that_is_a_link_touches_nothing(tmp_path: Path, foreign: Path) -> None:
    (tmp_path / HEARTBEAT).symlink_to(foreign / HEARTBEAT)
    now = iter([0.0, 10.0 * heartbeat.EVERY_S])
    Heartbeat(tmp_path, monotonic=lambda: next(now))()
    untouched(foreign)


@pytest.mark.parametrize("kind", ["lock", "folder"])
def test_a_lock_is_never_taken_through_a_link(tmp_path: Path, foreign: Path, kind: str) -> None:
    path = tmp_path / "tracking" / "lock"
    if kind == "lock":
        path.parent.mkdir()
        path.symlink_to(foreign / "lock")
    else:
        path.parent.symlink_to(foreign)
    with pytest.raises(NotReadyError, match="is a link"), hold(path, "works"):
        pass
    untouched(foreign)


def test_a_journal_that_is_a_link_is_not_written(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "other").mkdir()
    before = (runs / UID / JOURNAL).read_bytes()
    (tmp_path / "other" / JOURNAL).symlink_to(runs / UID / JOURNAL)
    with pytest.raises(NotReadyError, match="is a link; put the file itself in its place"):
        Journal(tmp_path / "other" / JOURNAL)
    assert (runs / UID / JOURNAL).read_bytes() == before


def test_a_pipe_for_what_an_adoption_left_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(runs / ADOPTING)
    assert main(["adopt", str(runs), "--yes"]) == 3
    assert f"{ADOPTING} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("forged", [{"store": "x"}, {"store": 3}, {"homes": ["here"]}, {"homes": "/"}, {"sweeps": 7}])
def test_a_forged_adoption_writes_nothing(
    runs: Path, forged: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"format": 1, "store": "0" * 32, "homes": None, "sweeps": []}
    (runs / ADOPTING).write_text(json.dumps(whole | forged))
    assert main(["adopt", str(runs), "--yes"]) == 3
    assert "is damaged" in capsys.readouterr().err
    assert not (runs / STORE_MARK).exists()


def test_clearing_the_cache_leaves_what_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path))
    (tmp_path / ".important.lock").write_text("precious")
    (tmp_path / "my_data-0123456789abcdef").mkdir()
    assert main(["cache", "--clear"]) == 0
    assert (tmp_path / ".important.lock").read_text() == "precious"
    assert (tmp_path / "my_data-0123456789abcdef").is_dir()


def test_a_current_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    code = f"import os, sys; os.makedirs({str(tmp_path / 'gone')!r}); os.chdir({str(tmp_path / 'gone')!r});"
    code += f"os.rmdir({str(tmp_path / 'gone')!r}); from orchestrator.cli import main; sys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "the current folder is gone; change to another one" in done.stderr
