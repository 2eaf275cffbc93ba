"""What of a sweep's files is removed, and when: with a real journal, without training anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.layout import AVERAGE, BEST, CHECKPOINT, CHECKPOINT_NAME, JOURNAL, snapshot, trial_folder
from orchestrator.base.records import State
from orchestrator.journal.events import Started, Suggested, SweepOpened, Terminal
from orchestrator.journal.file import Journal
from orchestrator.journal.record import SweepRecord, read_sweep
from orchestrator.sweep.retention import Retention
from tests.synthetic import CONFIG, plan_text


class Sweep:
    """A driver's side of a sweep, as far as files and events go."""

    def __init__(self, folder: Path, *, keep: int, mode: str = "max", repeat: int = 1) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True)
        self.journal = Journal(folder / JOURNAL, create=True)
        self.record = SweepRecord()
        self.journal.subscribe(self.record.apply)
        plan = plan_text(repeat=repeat, trials=99)
        opened = SweepOpened(folder.name, "digits", "val/accuracy", mode, 99, str(folder), plan, tracking={})
        self.journal.append(opened, sync=True)
        self.retention = Retention(folder, self.record, keep, lambda: self.journal.durable_seq)
        self.journal.subscribe(self.retention)

    def start(self, index: int, config_index: int | None = None, repeat: int = 0) -> None:
        config = index if config_index is None else config_index
        self.journal.append(Suggested({}, CONFIG, config, repeat), trial=index, sync=True)
        self.journal.append(Started(), trial=index, attempt=1)
        folder = trial_folder(self.folder, index)
        folder.mkdir(parents=True)
        for epoch in (1, 2):
            (folder / f"checkpoint-{epoch:06d}.{'0' * 64}.safetensors").write_text(f"{index} {epoch}")
        (folder / BEST).write_text(f"weights of {index}")
        (folder / AVERAGE).write_text(f"averaged weights of {index}")
        (folder / snapshot(1)).write_text(f"weights of {index} after a cycle")
        (folder / "predictions.safetensors").write_text("kept")

    def end(self, index: int, value: float | None, state: str = "completed") -> None:
        self.journal.append(Terminal(State(state), 2, value, 1, {}, []), trial=index, attempt=1)

    def run(self, index: int, value: float | None, state: str = "completed", **which: int) -> None:
        self.start(index, **which)
        self.end(index, value, state)

    def finish(self) -> None:
        self.journal.commit()
        self.retention.finish()

    def weights(self) -> list[int]:
        """Averages and snapshots lie where weights do."""
        found, averages, snapshots = (
            sorted(int(path.parent.name) for path in self.folder.glob(f"trials/*/{name}"))
            for name in (BEST, AVERAGE, snapshot(1))
        )
        assert found == averages == snapshots
        return found

    def checkpoints(self) -> list[int]:
        return sorted({int(path.parent.name) for path in self.folder.glob(f"trials/*/{CHECKPOINT}*")})

    def close(self) -> None:
        self.journal.close()


@pytest.fixture
def new_sweep(tmp_path: Path) -> Iterator[Any]:
    sweeps: list[Sweep] = []

    def make(name: str = "digits-0a1b2c3d", **settings: Any) -> Sweep:
        sweeps.append(Sweep(tmp_path / name, **settings))
        return sweeps[-1]

    yield make
    for sweep in sweeps:
        sweep.close()


def test_the_names_are_those_of_the_engine() -> None:
    name = f"{CHECKPOINT}000001.{'0' * 64}.safetensors"
    assert CHECKPOINT_NAME.fullmatch(name)


def test_checkpoints_go_when_their_trial_has_ended_and_weights_when_better_ones_are_there(new_sweep: Any) -> None:
    sweep = new_sweep(keep=2)
    for index, value in enumerate((0.5, 0.7, 0.6, 0.9)):
        sweep.run(index, value)
    sweep.start(4)  # what was suggested is durable, and all before it
    assert sweep.checkpoints() == [4]
    assert sweep.weights() == [1, 3, 4], "a running trial keeps its weights, whatever its rank will be"
    sweep.end(4, 0.1)
    sweep.finish()
    assert sweep.checkpoints() == []
    assert sweep.weights() == [1, 3]
    assert len(list(sweep.folder.glob("trials/*/predictions.safetensors"))) == 5
    digest = hashlib.sha256(b"weights of 3").hexdigest()
    first, second = sweep.retention.kept()
    assert first == {"trial": 3, "path": f"trials/00003/{BEST}", "sha256": digest}
    assert second["trial"] == 1


def test_nothing_goes_before_the_end_is_durable(new_sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = new_sweep(keep=0)
    sweep.start(0)
    sweep.start(1)
    sweep.journal.commit()
    with monkeypatch.context() as without_group_commits:
        without_group_commits.setattr(sweep.journal._wake, "set", lambda: None)
        sweep.end(0, 0.5)
        sweep.end(1, 0.6)  # looks at what ended before, which no commit has reached
        assert sweep.checkpoints() == [0, 1]
        assert sweep.weights() == [0, 1]
    sweep.start(2)
    assert sweep.checkpoints() == [2]
    assert sweep.weights() == [2]


def test_ties_go_to_the_lower_index_and_min_is_better_where_it_is(new_sweep: Any) -> None:
    sweep = new_sweep(keep=2, mode="min")
    for index, value in enumerate((0.5, 0.3, 0.5, 0.7, 0.5)):
        sweep.run(index, value)
    sweep.finish()
    assert sweep.weights() == [0, 1]


def test_stopped_and_cancelled_trials_may_be_kept_and_failed_ones_never(new_sweep: Any) -> None:
    sweep = new_sweep(keep=10)
    states = ("stopped", "cancelled", "diverged", "infeasible", "failed", "completed")
    for index, state in enumerate(states):
        sweep.run(index, 0.9, state)
    sweep.run(6, None, "cancelled")
    sweep.finish()
    assert sweep.weights() == [0, 1, 5]
    assert [entry["trial"] for entry in sweep.retention.kept()] == [0, 1, 5]


def test_a_configuration_keeps_all_its_repeats_and_is_ranked_by_their_mean(new_sweep: Any) -> None:
    sweep = new_sweep(keep=1, repeat=2)
    sweep.run(0, 0.9, config_index=0, repeat=0)
    sweep.run(1, 0.8, config_index=1, repeat=0)
    sweep.start(2, config_index=0, repeat=1)
    sweep.start(3, config_index=1, repeat=1)
    assert sweep.weights() == [0, 1, 2, 3], "either may still rise"
    sweep.end(2, 0.1)
    sweep.end(3, 0.7)
    sweep.start(4, config_index=2, repeat=0)
    assert sweep.weights() == [1, 3, 4], "0.75 on average beats 0.5"
    sweep.end(4, 0.99)
    sweep.finish()
    assert sweep.weights() == [1, 3], "two repeats beat one"


def test_a_first_repeat_that_was_stopped_waits_for_no_other(new_sweep: Any) -> None:
    sweep = new_sweep(keep=1, repeat=3)
    sweep.run(0, 0.9, "stopped", config_index=0, repeat=0)
    sweep.run(1, 0.8, "stopped", config_index=1, repeat=0)
    sweep.start(2, config_index=2, repeat=0)
    assert sweep.weights() == [0, 2]


def test_a_resume_catches_up_and_everything_may_be_done_twice(new_sweep: Any) -> None:
    sweep = new_sweep(keep=1)
    sweep.run(0, 0.5)
    sweep.run(1, 0.9)
    sweep.start(2)
    sweep.journal.commit()
    folder = trial_folder(sweep.folder, 0)
    (folder / f"checkpoint-000002.{'0' * 64}.safetensors").write_text("left behind")
    (folder / BEST).write_text("left behind")
    again = Retention(sweep.folder, read_sweep(sweep.folder), 1, lambda: sweep.journal.durable_seq)
    for _ in range(2):
        again.catch_up()
        assert sweep.checkpoints() == [2]
        assert sweep.weights() == [1, 2]


def test_what_a_cancelled_trials_worker_wrote_last_goes_in_the_end(new_sweep: Any) -> None:
    sweep = new_sweep(keep=0)
    sweep.run(0, 0.5, "cancelled")
    sweep.start(1)
    folder = trial_folder(sweep.folder, 0)
    (folder / f"checkpoint-000003.{'0' * 64}.safetensors").write_text("late")
    (folder / f"{BEST}.17.tmp").write_text("half")
    (folder / BEST).write_text("late")
    sweep.end(1, 0.5)
    sweep.finish()
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.safetensors"]


def test_a_lost_folder_ends_no_sweep(new_sweep: Any) -> None:
    sweep = new_sweep(keep=1)
    sweep.run(0, 0.5)
    for path in trial_folder(sweep.folder, 0).iterdir():
        path.unlink()
    trial_folder(sweep.folder, 0).rmdir()
    sweep.run(1, 0.4)
    sweep.finish()
    assert sweep.retention.kept() == []
