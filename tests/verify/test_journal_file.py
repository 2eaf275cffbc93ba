"""The journal as the checks read it, from rows written by hand."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.housekeeping.reading import read_outline
from orchestrator.journal.events import Started, Suggested, SweepOpened
from orchestrator.journal.file import Journal
from orchestrator.verify.journal_file import JournalFile
from tests.synthetic import CONFIG


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with the opening of a sweep and one trial."""
    path = tmp_path / JOURNAL
    with contextlib.closing(Journal(path, create=True)) as journal:
        journal.append(SweepOpened("s-1", "s", "val/accuracy", "max", 1, str(tmp_path), "", tracking={}))
        journal.append(Suggested({"x": 1}, CONFIG, 0), trial=0)
        journal.append(Started(), trial=0, attempt=1)
    return path


def add(path: Path, kind: str, data: dict[str, Any], trial: int | None, *, whole: bool = True) -> None:
    text = json.dumps(data)
    crc = zlib.crc32(f"4 0 {kind} {trial} 1 {text}".encode()) if whole else 0
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO events VALUES (4, 0, ?, ?, 1, ?, ?)", (kind, trial, text, crc))


def problems(path: Path) -> list[str]:
    with contextlib.closing(JournalFile(path)) as journal:
        return journal.problems


def test_a_sound_journal_has_no_problems(path: Path) -> None:
    assert problems(path) == []


def test_a_kind_of_a_newer_version_is_an_error_and_no_violation(path: Path) -> None:
    add(path, "paused", {}, trial=0)
    with pytest.raises(NotReadyError, match=r"event 4 .* is of the kind 'paused', .*: a newer version wrote it"):
        JournalFile(path)
    with pytest.raises(NotReadyError, match=r"event 4 .* is of the kind 'paused', .*: a newer version wrote it"):
        read_outline(path.parent)


def test_a_kind_that_nobody_wrote_is_damage(path: Path) -> None:
    add(path, "reporteb", {"epochs": []}, trial=0, whole=False)
    assert problems(path) == [
        "event 4 is not what was written",
        "event 4 (reporteb) is of the kind 'reporteb', which this version does not know",
    ]


@pytest.mark.parametrize(
    ("kind", "data", "trial", "why"),
    [
        ("reported", {}, 0, "lacks epochs"),
        ("reported", {"epochs": [{"metrics": {}}]}, 0, "epochs[0] lacks epoch"),
        ("started", {}, None, "names no trial"),
        ("sweep_closed", {"reason": "finished", "totals": {}, "best": None}, 0, "names a trial"),
    ],
)
def test_an_event_that_is_none_of_its_kind_is_told(
    path: Path, kind: str, data: dict[str, Any], trial: int | None, why: str
) -> None:
    add(path, kind, data, trial)
    assert problems(path) == [f"event 4 ({kind}) cannot be read: {why}"]
