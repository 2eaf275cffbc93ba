"""What MLflow shows is recorded first, by the driver or by whoever publishes something after the sweep has ended."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path

import pytest

from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.layout import JOURNAL, LOCK
from orchestrator.base.locks import hold
from orchestrator.journal.events import Published, Started, Suggested, SweepOpened
from orchestrator.journal.file import Journal, Reader
from orchestrator.journal.publishing import publish
from tests.synthetic import CONFIG


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with contextlib.closing(Journal(tmp_path / JOURNAL, create=True)) as journal:
        journal.append(SweepOpened("s-1", "s", "val/accuracy", "max", 1, str(tmp_path), "", tracking={}))
        journal.append(Suggested({"x": 1}, CONFIG, 0), trial=0)
        journal.append(Started(), trial=0, attempt=1)
    return tmp_path


def last_event(folder: Path) -> object:
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        return list(reader.events())[-1].event


def test_a_text_is_recorded_with_its_digest(folder: Path) -> None:
    publish(folder, "s-1", "mlflow.note.content", "Größer")
    digest = hashlib.sha256("Größer".encode()).hexdigest()
    assert last_event(folder) == Published("s-1", "mlflow.note.content", digest, text="Größer")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_is_recorded_by_its_place_in_the_sweep(folder: Path, absolute: bool) -> None:
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").write_bytes(b"pixels")
    path = folder / "figures" / "a.png" if absolute else Path("figures/a.png")
    publish(folder, "comparison of two", "a.png", path)
    digest = hashlib.sha256(b"pixels").hexdigest()
    assert last_event(folder) == Published("comparison of two", "a.png", digest, path="figures/a.png")


def test_what_lies_elsewhere_or_is_not_there_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "a.png"
    other.write_bytes(b"pixels")
    with pytest.raises(NotReadyError, match=r"a\.png does not lie in .*; put what is to be published there first"):
        publish(folder, "s-1", "a.png", other)
    (folder / "link.png").symlink_to(other)
    with pytest.raises(NotReadyError, match=r"link\.png does not lie in"):
        publish(folder, "s-1", "a.png", Path("link.png"))
    with pytest.raises(NotReadyError, match=r"b\.png cannot be published: it cannot be read \(No such file"):
        publish(folder, "s-1", "b.png", Path("b.png"))
    assert isinstance(last_event(folder), Started)


def test_a_running_sweep_is_left_alone(folder: Path) -> None:
    with (
        hold(folder / LOCK, "drives s-1"),
        pytest.raises(RunningElsewhereError, match=r"process \d+ on .* drives s-1 already"),
    ):
        publish(folder, "s-1", "note", "text")


def test_the_digest_of_a_journal_is_that_of_its_rows(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / JOURNAL)) as db:
        rows = db.execute("SELECT seq, time_ms, kind, trial, attempt, data FROM events ORDER BY seq").fetchall()
    lines = ["{} {} {} {} {} {}\n".format(*row).encode() for row in rows]
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        for last in (2, 3, 1, 3):  # it goes on from what it has read, and begins anew where it has read too far
            assert reader.digest(last) == hashlib.sha256(b"".join(lines[:last])).hexdigest()
