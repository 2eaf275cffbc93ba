"""Files damaged on disk: what is whole is used, what is not is refused by name, and a trial ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.base import layout
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.base.records import STARTS_OVER, Trial
from orchestrator.journal.events import Suggested, SweepOpened
from orchestrator.journal.file import Entry, Journal, Reader
from orchestrator.journal.record import read_sweep
from orchestrator.scheduling.reports import Reporter
from orchestrator.training import checkpoint, predictions
from orchestrator.training.checkpoint import Damaged
from tests.synthetic import CONFIG

SEED = 20
EPOCHS = 6
UID = "sweep-0123abcd/0"

Damage = Callable[[bytes], bytes]


def damages(bits: int, cuts: int = 0) -> dict[str, Damage]:
    """Ways to damage a file: cut at each tenth and at seeded places, and single bits flipped at seeded places."""

    def cut(place: float) -> Damage:
        return lambda contents: contents[: int(place * len(contents))]

    def flip(place: float, bit: int) -> Damage:
        def damage(contents: bytes) -> bytes:
            at = int(place * len(contents))
            return contents[:at] + bytes([contents[at] ^ 1 << bit]) + contents[at + 1 :]

        return damage

    chance = random.Random(SEED)
    places = [tenth / 10 for tenth in range(10)] + [chance.random() for _ in range(cuts)]
    found = {f"cut at {place:.4f}": cut(place) for place in places}
    for _ in range(bits):
        place, bit = chance.random(), chance.randrange(8)
        found[f"bit {bit} flipped at {place:.4f}"] = flip(place, bit)
    return found


# Checkpoints, best weights, predictions


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    from orchestrator.config.planning import plan

    keys = ["data=synthetic", "model.width=8", "model.hidden=1", "batch_size=32", "search=none", "trials=1"]
    return dict(plan([*keys, f"epochs={EPOCHS}", "optimizer=adam"]).base)


@dataclasses.dataclass
class Ran:
    """A trial's folder, and what must not depend on damage."""

    folder: Path
    reports: list[dict[str, Any]]

    @property
    def result(self) -> list[Any]:
        last = self.reports[-1]
        epochs = {epoch["epoch"]: epoch["metrics"] for report in self.reports for epoch in report["epochs"]}
        kept = {n: {k: v for k, v in m.items() if k != "images_per_s"} for n, m in sorted(epochs.items())}
        return [last["state"], last["best"], last["metrics"], kept]

    @property
    def tensors(self) -> dict[str, Tensor]:
        files = (self.folder / layout.BEST, self.folder / layout.PREDICTIONS)
        return {f"{path.name}/{name}": tensor for path in files for name, tensor in load_file(path).items()}

    @property
    def notes(self) -> list[str]:
        return [note for report in self.reports for note in report["notes"]]


def run(config: dict[str, Any], folder: Path, *, attempt: int = 1, reports: int | None = None) -> Ran:
    """The trial in `folder`, to its end or for some reports; each report covers two epochs."""
    trial = Trial(UID, 0, config, folder=str(folder), attempt=attempt, fence=attempt)
    reporter = Reporter(trial, rungs=range(2, EPOCHS, 2), monotonic=lambda: 0.0)
    found = [reporter.next_report()]
    while found[-1]["state"] == "running" and len(found) != reports:
        found.append(reporter.next_report())
    return Ran(folder, found)


@pytest.fixture(scope="module")
def whole(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The trial that nothing happened to."""
    return run(config, tmp_path_factory.mktemp("whole") / "trial")


@pytest.fixture(scope="module")
def killed(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The same, ended after its second report; it has checkpoints of epochs 2 and 4."""
    return run(config, tmp_path_factory.mktemp("killed") / "trial", reports=2)


def assert_as_if_nothing_had_happened(ran: Ran, whole: Ran) -> None:
    assert ran.result[:3] == whole.result[:3]
    assert ran.result[3] == whole.result[3]
    ours, theirs = ran.tensors, whole.tensors
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert not list(ran.folder.rglob("*.tmp"))


def test_of_a_damaged_checkpoint_the_one_before_is_used(
    config: dict[str, Any], whole: Ran, killed: Ran, tmp_path: Path
) -> None:
    for name, damage in damages(bits=50).items():
        folder = tmp_path / "trial"
        shutil.copytree(killed.folder, folder)
        (newest, epoch, _), *_ = checkpoint.checkpoints(folder)
        assert epoch == 4
        newest.write_bytes(damage(newest.read_bytes()))
        ran = run(config, folder, attempt=2)
        told = f"{newest.name} is not used: its contents do not match the SHA-256 in its name"
        assert ran.notes == [told], name
        assert [epoch["epoch"] for epoch in ran.reports[0]["epochs"]] == [1, 2], name
        assert_as_if_nothing_had_happened(ran, whole)
        shutil.rmtree(folder)


def test_where_all_checkpoints_are_damaged_the_trial_starts_over_and_says_so(
    config: dict[str, Any], whole: Ran, killed: Ran, tmp_path: Path
) -> None:
    for name, damage in list(damages(bits=5).items())[::3]:
        folder = tmp_path / "trial"
        shutil.copytree(killed.folder, folder)
        for path, _, _ in checkpoint.checkpoints(folder):
            path.write_bytes(damage(path.read_bytes()))
        ran = run(config, folder, attempt=2)
        assert len(ran.notes) == 3, name
        assert ran.notes[-1] == STARTS_OVER
        assert_as_if_nothing_had_happened(ran, whole)
        shutil.rmtree(folder)


def test_damaged_best_weights_are_refused_and_written_again(
    config: dict[str, Any], whole: Ran, killed: Ran, tmp_path: Path
) -> None:
    for name, damage in damages(bits=20).items():
        folder = tmp_path / "trial"
        shutil.copytree(killed.folder, folder)
        path = folder / layout.BEST
        path.write_bytes(damage(path.read_bytes()))
        why, found = refusal(lambda path=path: checkpoint.load(path, uid=UID), Damaged, name)
        assert why or found.state["epoch"] == killed.reports[-1]["best"][0], name
        assert_as_if_nothing_had_happened(run(config, folder, attempt=2), whole)
        shutil.rmtree(folder)


def refusal(read: Callable[[], Any], kind: type[Exception], name: str) -> tuple[str, Any]:
    """In which words reading is refused, or what was read; no other error may come of damage."""
    try:
        return "", read()
    except kind as error:
        return str(error), None
    except Exception as error:
        raise AssertionError(f"{name}: {error!r}") from error


def rows_permuted(contents: bytes) -> bytes:
    """Two rows of the validation logits change places; header and length stay."""
    length = int.from_bytes(contents[:8], "little")
    begin, _ = json.loads(contents[8 : 8 + length])["val_logits"]["data_offsets"]
    _, classes = json.loads(contents[8 : 8 + length])["val_logits"]["shape"]
    start, row = 8 + length + begin, 4 * classes
    one, two = contents[start : start + row], contents[start + row : start + 2 * row]
    assert one != two
    return contents[:start] + two + one + contents[start + 2 * row :]


def test_damaged_predictions_are_refused_by_name_and_made_again(
    config: dict[str, Any], whole: Ran, tmp_path: Path
) -> None:
    place = layout.PREDICTIONS
    refused = 0
    ways = damages(bits=50) | {"rows permuted": rows_permuted}
    for number, (name, damage) in enumerate(ways.items()):
        folder = tmp_path / "trial"
        shutil.copytree(whole.folder, folder)
        (folder / place).write_bytes(damage((folder / place).read_bytes()))
        why, found = refusal(lambda path=folder / place: predictions.read(path, uid=UID), Damaged, name)
        if why:
            refused += 1
            assert str(folder / place) in why, name
            assert predictions.recover_outcome(folder, UID) is None, name
        else:  # a space between two parts of the header says nothing
            as_made = predictions.read(whole.folder / place, uid=UID)
            assert found.state == as_made.state, name
            assert all(torch.equal(found.tensors[key], as_made.tensors[key]) for key in as_made.tensors), name
        if number % 5 == 0 or name == "rows permuted":
            ran = run(config, folder, attempt=2)
            assert_as_if_nothing_had_happened(ran, whole)
            assert predictions.read(folder / place, uid=UID).state["metrics"] == ran.reports[-1]["metrics"]
        shutil.rmtree(folder)
    assert refused >= len(ways) - 2


# The journal


def fill(path: Path, events: int = 60) -> Journal:
    """A journal with events of realistic size, not closed: what is newest lies in its -wal file."""
    journal = Journal(path, create=True)
    opened = SweepOpened(
        "s-0123abcd", "s", "val/accuracy", "max", 60, "/s", "", tracking={}, config={"filler": ["x"] * 40}
    )
    journal.append(opened, sync=True)
    for index in range(events):
        journal.append(Suggested({"lr": 0.1}, CONFIG | {"lr": index, "x": "y" * 300}, index), trial=index)
        if index % 7 == 0:
            journal.commit()
        if index == events // 2:
            checkpoint_wal(path)
    journal.commit()
    return journal


def checkpoint_wal(path: Path) -> None:
    """Moves what is committed into the main file, as SQLite does by itself from time to time."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(FULL)")
    db.close()


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], list[Entry]]:
    """Folders with a journal as a killed driver leaves it, and as one that ended leaves it; and its events."""
    folder = tmp_path_factory.mktemp("journals")
    journal = fill(folder / JOURNAL)
    reader = Reader(folder / JOURNAL)
    events = list(reader.events())
    reader.close()
    copies = {"killed": folder / "killed", "closed": folder / "closed"}
    for copy in copies.values():
        copy.mkdir()
    for path in folder.glob(f"{JOURNAL}*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, copies["killed"])
    journal.close()
    shutil.copy(folder / JOURNAL, copies["closed"])
    assert (copies["killed"] / f"{JOURNAL}-wal").stat().st_size > 0
    assert len(events) == 61
    return copies, events


def read_all(path: Path) -> list[Entry]:
    with contextlib.closing(Reader(path)) as reader:
        return list(reader.events())


def kept_events(folder: Path, events: list[Entry], name: str) -> int | None:
    """How many events a damaged journal kept, which are the first of those committed; None where it was refused by name."""
    path = folder / JOURNAL
    why, kept = refusal(lambda: read_all(path), NotReadyError, name)
    also, _ = refusal(lambda: read_sweep(folder), NotReadyError, name)
    assert bool(why) == bool(also), name
    if why:
        writing, _ = refusal(lambda: Journal(path), NotReadyError, name)
        assert all(str(path) in words for words in (why, also, writing)), name
        return None
    assert kept == events[: len(kept)], name
    return len(kept)


def check_that_it_goes_on(folder: Path, events: list[Entry]) -> None:
    """What was kept can be added to."""
    journal = Journal(folder / JOURNAL)
    added = journal.append(Suggested({}, CONFIG, len(events)), trial=len(events), sync=True)
    journal.close()
    assert read_all(folder / JOURNAL) == [*events, added]


def damaged_copy(folder: Path, to: Path, file: str, damage: Damage) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    path = to / file
    path.write_bytes(damage(path.read_bytes()))
    return to


@pytest.mark.parametrize(("state", "part"), [("killed", ""), ("killed", "-wal"), ("closed", "")])
def test_a_damaged_journal_is_a_prefix_or_is_refused(
    state: str, part: str, journals: tuple[dict[str, Path], list[Entry]], tmp_path: Path
) -> None:
    copies, events = journals
    outcomes: set[int | None] = set()
    for name, damage in damages(bits=200, cuts=50).items():
        folder = damaged_copy(copies[state], tmp_path / "copy", f"{JOURNAL}{part}", damage)
        kept = kept_events(folder, events, f"{state}{part}: {name}")
        if kept is not None and kept not in outcomes:
            check_that_it_goes_on(folder, events[:kept])
        outcomes.add(kept)
    assert len(outcomes) > 1, "none of the damages was seen"
    if part:
        assert None not in outcomes, "a damaged -wal file loses events at its end, no more"


def test_without_its_wal_file_a_journal_is_a_prefix(
    journals: tuple[dict[str, Path], list[Entry]], tmp_path: Path
) -> None:
    copies, events = journals
    shutil.copytree(copies["killed"], tmp_path / "copy")
    (tmp_path / "copy" / f"{JOURNAL}-wal").unlink()
    kept = kept_events(tmp_path / "copy", events, "no -wal")
    assert kept is not None
    assert 0 < kept < len(events)
    check_that_it_goes_on(tmp_path / "copy", events[:kept])


@pytest.mark.parametrize("column", ["time_ms", "kind", "trial", "attempt", "data", "crc"])
def test_a_value_changed_within_a_row_is_noticed(column: str, tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    fill(path, events=5).close()
    db = sqlite3.connect(path)
    changed = {"kind": "'started'", "data": """replace(data, '"lr":2', '"lr":3')"""}.get(
        column, f"coalesce({column}, 0) + 1"
    )
    db.execute(f"UPDATE events SET {column} = {changed} WHERE seq = 4")
    db.commit()
    db.close()
    with contextlib.closing(Reader(path)) as reader:
        with pytest.raises(NotReadyError, match=f"{path} is damaged: event 4 is missing or not what was written"):
            list(reader.events())
        assert len(list(reader.events(limit=3))) == 3
    with pytest.raises(NotReadyError, match="is damaged: event 4"):
        Journal(path)


def test_a_missing_row_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    fill(path, events=5).close()
    db = sqlite3.connect(path)
    db.execute("DELETE FROM events WHERE seq = 3")
    db.commit()
    db.close()
    with pytest.raises(NotReadyError, match="is damaged: event 3 is missing"):
        Journal(path)


WRITER = """
import random, sys
from pathlib import Path
from orchestrator.journal.events import Suggested
from orchestrator.journal.file import Journal
journal = Journal(Path(sys.argv[1]), create=True)
chance = random.Random(int(sys.argv[2]))
for index in range(1_000_000):
    sync = chance.random() < 0.2
    config = CONFIG | {"x": "y" * chance.randrange(2000)}
    entry = journal.append(Suggested({"n": index}, config, index), trial=index, sync=sync)
    if sync:
        print(entry.seq, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_a_journal_holds_what_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", WRITER, str(folder / JOURNAL), str(number)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = [int(line) for line in process.stdout.read().split() if line]
        process.wait()
        process.stdout.close()
        kept = read_all(folder / JOURNAL)
        numbers = [entry.event.params["n"] for entry in kept if isinstance(entry.event, Suggested)]
        assert numbers == list(range(len(kept))), f"seed {SEED}, kill {number}"
        assert len(kept) >= max(acknowledged[:-1], default=0), f"seed {SEED}, kill {number}"
        Journal(folder / JOURNAL).close()
