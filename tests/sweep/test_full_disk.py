"""A real sweep on a real disk of a few megabytes that fills up while it runs.

The disk is a tmpfs in a mount namespace of its own, so everything happens in a script that `unshare` starts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENTER = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"', "sh"]

FILLING = """
import contextlib, glob, os, sqlite3, subprocess, sys, threading, time

orchestrator = [sys.executable, "-m", "orchestrator"]
LAUNCH = ["launch", "name=full", "data=synthetic", "model.width=16", "trials=4", "report_every_s=0.05", "keep_weights=2",
          "max_concurrent=2"]


free = threading.Event()


def keep_full():
    while not free.is_set():  # what ends makes a little room
        fill()
        time.sleep(0.01)


def fill():
    with open("filler", "ab") as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(file.fileno(), b"x" * size)
"""

SCRIPT = (
    FILLING
    + """
folder, free_after_s, wait_s = sys.argv[1], float(sys.argv[2]), sys.argv[3]
os.chdir(folder)


def count(kind):
    with contextlib.suppress(sqlite3.Error, IndexError):
        db = sqlite3.connect(f"file:{glob.glob('runs/*/journal.sqlite')[0]}?mode=ro", uri=True)
        with contextlib.closing(db):
            return db.execute("SELECT count(*) FROM events WHERE kind = ?", (kind,)).fetchone()[0]
    return 0


child = subprocess.Popen([*orchestrator, *LAUNCH, "epochs=30", f"disk_wait_s={wait_s}"])
while count("terminal") < 1 and child.poll() is None:
    time.sleep(0.02)
filling = threading.Thread(target=keep_full)
filling.start()
time.sleep(free_after_s)
ended = child.poll() if free_after_s else child.wait()
free.set()
filling.join()
os.unlink("filler")
print("ended while full:", ended, flush=True)
print("exit:", child.wait(), flush=True)
if ended is not None:
    print("resume:", subprocess.run([*orchestrator, "resume", "full"]).returncode, flush=True)
print("verify:", subprocess.run([*orchestrator, "verify", "full"]).returncode, flush=True)
"""
)


AT_THE_END = (
    FILLING
    + """
from orchestrator.cli import main
from orchestrator.sweep import session

os.chdir(sys.argv[1])
publish, filling = session.publish_model, threading.Thread(target=keep_full)


def publish_on_a_full_disk(*arguments):
    fill()
    filling.start()
    return publish(*arguments)


session.publish_model = publish_on_a_full_disk
print("ended while full:", main([*LAUNCH, "epochs=1", "disk_wait_s=1"]), flush=True)
free.set()
filling.join()
os.unlink("filler")
print("resume:", subprocess.run([*orchestrator, "resume", "full"]).returncode, flush=True)
print("verify:", subprocess.run([*orchestrator, "verify", "full"]).returncode, flush=True)
"""
)


def run(folder: Path, *, free_after_s: float, wait_s: float) -> str:
    """What the script said.

    Args:
        free_after_s: so long the disk is full; until the driver has ended where 0.
    """
    return on_small_disk(folder, SCRIPT, str(free_after_s), str(wait_s))


def on_small_disk(folder: Path, script: str, *arguments: str) -> str:
    """What a script said whose first argument is a folder on a disk of 24 megabytes."""
    disk = folder / "disk"
    disk.mkdir()
    (folder / "script.py").write_text(script)
    command = [sys.executable, str(folder / "script.py"), str(disk), *arguments]
    done = subprocess.run(
        [*ENTER, "24m", str(disk), *command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout


def can_mount(folder: Path) -> bool:
    try:
        return not subprocess.run([*ENTER, "1m", str(folder), "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def disk_needs_namespaces(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("no mount namespaces for users here (unshare -rm)")


@pytest.mark.slow
def test_a_sweep_waits_for_room_and_goes_on(tmp_path: Path) -> None:
    said = run(tmp_path, free_after_s=5, wait_s=300)
    assert "the sweep waits up to 5 min 0 s for room (disk_wait_s)" in said, said
    assert "there is room again; the sweep goes on" in said, said
    assert "ended while full: None\n" in said, said
    assert "4 completed" in said, said
    assert said.endswith("verify: 0\n"), said


@pytest.mark.slow
def test_it_ends_resumable_where_nobody_makes_room(tmp_path: Path) -> None:
    said = run(tmp_path, free_after_s=0, wait_s=3)
    assert "ended while full: 5\n" in said, said
    assert "there was no room for 3 s (disk_wait_s): make room; then go on with:  orchestrator resume full-" in said, (
        said
    )
    assert "resume: 0\n" in said, said
    assert said.endswith("verify: 0\n"), said


@pytest.mark.slow
def test_a_sweep_whose_disk_fills_up_as_it_closes_is_resumed(tmp_path: Path) -> None:
    said = on_small_disk(tmp_path, AT_THE_END)
    assert "ended while full: 5\n" in said, said
    assert "there was no room for 1 s (disk_wait_s): make room; then go on with:  orchestrator resume full-" in said, (
        said
    )
    assert "resume: 0\n" in said, said
    assert said.endswith("verify: 0\n"), said
