"""Which trials hang, by a clock that the tests turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.base.layout import HEARTBEAT
from orchestrator.base.records import Trial
from orchestrator.scheduling.watchdog import Watchdog
from orchestrator.training.heartbeat import Heartbeat, read_heartbeat


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial("s/0", 0, {}, folder=str(tmp_path))


def beat(trial: Trial, number: int) -> None:
    path = Path(trial.folder, HEARTBEAT)
    path.touch()
    os.utime(path, ns=(number, number))


def look(watchdog: Watchdog, clock: Clock, trial: Trial, seconds: int) -> list[int]:
    """Looks once a second; what was found silent."""
    found = []
    for _ in range(seconds):
        clock.now += 1
        found += watchdog.silent([trial])
    return found


def test_a_silent_trial_is_found_once(trial: Trial) -> None:
    clock = Clock()
    watchdog = Watchdog(8, monotonic=clock)
    assert look(watchdog, clock, trial, 8) == []
    assert look(watchdog, clock, trial, 1) == [0]
    assert look(watchdog, clock, trial, 7) == []


@pytest.mark.parametrize("times", [(1, 2), (2, 1)], ids=["later", "the wall clock jumped back"])
def test_any_change_of_the_heartbeat_counts(trial: Trial, times: tuple[int, int]) -> None:
    clock = Clock()
    watchdog = Watchdog(8, monotonic=clock)
    for time in times:
        beat(trial, time)
        assert look(watchdog, clock, trial, 7) == []


def test_a_trial_that_reports_is_alive_though_its_heartbeat_is_not_seen(trial: Trial) -> None:
    clock = Clock()
    watchdog = Watchdog(8, monotonic=clock)
    for _ in range(5):
        assert look(watchdog, clock, trial, 7) == []
        watchdog.reported(trial.index)
    assert look(watchdog, clock, trial, 8) == []
    assert look(watchdog, clock, trial, 1) == [0]


def test_a_new_attempt_has_its_time(trial: Trial) -> None:
    clock = Clock()
    watchdog = Watchdog(8, monotonic=clock)
    assert look(watchdog, clock, trial, 7) == []
    again = Trial(trial.uid, 0, {}, folder=trial.folder, attempt=2, fence=2)
    assert look(watchdog, clock, again, 8) == []
    assert look(watchdog, clock, again, 1) == [0]


def test_where_the_driver_itself_was_stopped_nobody_is_to_blame(trial: Trial) -> None:
    clock = Clock()
    watchdog = Watchdog(8, monotonic=clock)
    assert look(watchdog, clock, trial, 7) == []
    clock.now += 30
    assert watchdog.silent([trial]) == []
    assert look(watchdog, clock, trial, 7) == []


def test_short_trials_touch_no_file(tmp_path: Path) -> None:
    clock = Clock()
    heartbeat = Heartbeat(tmp_path, monotonic=clock)
    heartbeat()
    clock.now += 0.9
    heartbeat()
    assert list(tmp_path.iterdir()) == []
    clock.now += 0.2
    heartbeat()
    assert (tmp_path / HEARTBEAT).is_file()
    os.utime(tmp_path / HEARTBEAT, ns=(5, 5))
    heartbeat()
    assert (tmp_path / HEARTBEAT).stat().st_mtime_ns == 5
    clock.now += 1.1
    heartbeat()
    assert (tmp_path / HEARTBEAT).stat().st_mtime_ns > 5
    Heartbeat(None, monotonic=clock)()


def test_a_heartbeat_says_how_far_the_epoch_is(tmp_path: Path) -> None:
    """Batches of 32, 32 and 6; validation touches it, too, and is no more training."""
    clock = Clock()
    heartbeat = Heartbeat(tmp_path, monotonic=clock)
    clock.now += 1.1
    heartbeat()
    assert read_heartbeat(tmp_path / HEARTBEAT) is None  # nothing is trained while images are decoded
    heartbeat.begin(12, [32, 32, 6])
    seen = []
    for _ in range(4):
        clock.now += 1.1
        heartbeat()
        seen.append(read_heartbeat(tmp_path / HEARTBEAT))
    heartbeat.begin(13, [32, 32, 6])
    clock.now += 1.1
    heartbeat()

    assert seen == [(12, 32, 70), (12, 64, 70), (12, 70, 70), (12, 70, 70)]
    assert read_heartbeat(tmp_path / HEARTBEAT) == (13, 32, 70)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"1 2", b"1 2 3 4", b"-1 0 5", b"1 6 5", b"1 nan 5", b"9" * 10_000, b"1 -3 5"]
)
def test_a_heartbeat_that_makes_no_sense_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HEARTBEAT).write_bytes(content)
    assert read_heartbeat(tmp_path / HEARTBEAT) is None


def test_no_pipe_and_no_link_is_read_as_a_heartbeat(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1 2 3")
    (tmp_path / HEARTBEAT).symlink_to(tmp_path / "file")
    assert read_heartbeat(tmp_path / HEARTBEAT) is None
    (tmp_path / HEARTBEAT).unlink()
    os.mkfifo(tmp_path / HEARTBEAT)
    assert read_heartbeat(tmp_path / HEARTBEAT) is None
