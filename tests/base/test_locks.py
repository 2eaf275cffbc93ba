"""Lock files, held by real processes that are really killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.base.errors import RunningElsewhereError
from orchestrator.base.locks import hold, holder

HOLD = """
import sys, time
from pathlib import Path
from orchestrator.base.locks import hold
with hold(Path(sys.argv[1]), "sleeps"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_the_first_is(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    found = holder(tmp_path / "lock")
    assert found is not None
    assert (found.pid, found.here) == (other.pid, True)
    with (
        pytest.raises(RunningElsewhereError, match=rf"process {other.pid} on \S+ sleeps already"),
        hold(tmp_path / "lock", "paints", wait_s=0.1),
    ):
        pytest.fail("two hold the same lock")


def test_a_dead_holder_is_taken_over(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert holder(tmp_path / "lock") is None
    with hold(tmp_path / "lock", "paints"):
        found = holder(tmp_path / "lock")
        assert found is not None
        assert found.pid == os.getpid()
    assert holder(tmp_path / "lock") is None


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert holder(tmp_path / "nothing" / "lock") is None
    with hold(tmp_path / "new" / "lock", "is here"):
        assert str(holder(tmp_path / "new" / "lock")).startswith(f"process {os.getpid()} on ")
