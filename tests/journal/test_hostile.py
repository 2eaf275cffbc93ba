"""Journals that somebody forged: every field of every event with a value of another type, depth or size.

A command on such a sweep, or on all sweeps, says what is wrong with the journal. It ends in no traceback, and never hangs.
"""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from tests.test_golden import INTERRUPTED, place

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, -1, 0, 2**70, 1.5, "", "x", "../../../etc/passwd", "\x1b[2J\u202e", [], {}, [[]], {"_target_": 3},
    {"_target_": "os.system", "command": "touch hostile"}, ["a", 1, None], DEEP,
]  # fmt: skip


def paths(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in plain data."""
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:2]) if isinstance(tree, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def put(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """The same data with another value in one place; `...` takes it away."""
    if not at:
        return value
    tree = copy.deepcopy(tree)
    found = tree
    for key in at[:-1]:
        found = found[key]
    if value is ...:
        del found[at[-1]]
    else:
        found[at[-1]] = value
    return tree


def forged(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The data of an event, each time with one value replaced or taken away; the plan within it likewise."""
    for at in paths(data):
        for value in [*VALUES, ...] if at else VALUES:
            yield f"{'.'.join(map(str, at)) or 'all'} = {value!r:.30}", put(data, at, value)
    if data.get("plan"):
        plan = json.loads(data["plan"])
        for at in paths(plan):
            for value in [*VALUES, ...] if at else VALUES:
                yield (
                    f"plan {'.'.join(map(str, at))} = {value!r:.30}",
                    {**data, "plan": json.dumps(put(plan, at, value))},
                )
        yield "plan cut off", {**data, "plan": data["plan"][:-9]}


def all_forgeries(journal: Path) -> list[tuple[str, int, str]]:
    """(what, event, text) of each forgery of the first event of every kind."""
    with sqlite3.connect(journal) as db:
        rows = db.execute("SELECT min(seq), kind, data FROM events GROUP BY kind ORDER BY 1").fetchall()
    db.close()
    found = []
    for seq, kind, text in rows:
        for what, data in forged(json.loads(text)):
            found.append((f"{kind} {what}", seq, json.dumps(data)))
        found += [(f"{kind} {what}", seq, bad) for what, bad in BAD_TEXTS.items()]
    return found


BAD_TEXTS = {
    "no JSON": "{",
    "nothing": "",
    "very deep": "[" * 100_000 + "]" * 100_000,
    "5,000 digits": "9" * 5_000,
    "not a number": '{"value": NaN}',
}


def write(journal: Path, seq: int, text: str) -> None:
    with sqlite3.connect(journal) as db:
        row = list(db.execute("SELECT seq, time_ms, kind, trial, attempt FROM events WHERE seq = ?", (seq,)).fetchone())
        crc = zlib.crc32(" ".join(map(str, [*row, text])).encode())
        db.execute("UPDATE events SET data = ?, crc = ? WHERE seq = ?", (text, crc, seq))
    db.close()


COMMANDS: list[list[str]] = [
    ["status"],
    ["status", INTERRUPTED],
    ["show", f"{INTERRUPTED}/0"],
    ["verify", INTERRUPTED],
    ["train", f"from={INTERRUPTED}/0", "epochs=-1"],
    ["resume", INTERRUPTED, "trials=-1"],
    ["sync", INTERRUPTED],
    ["delete", INTERRUPTED],
]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return place(tmp_path)


def check_forgeries(
    runs: Path, chosen: Callable[[int], bool], capfd: pytest.CaptureFixture[str], commands: list[list[str]] = COMMANDS
) -> int:
    journal = runs / INTERRUPTED / "journal.sqlite"
    kept = journal.with_suffix(".kept")
    shutil.copy(journal, kept)
    wrong, tried = [], 0
    for number, (what, seq, text) in enumerate(all_forgeries(journal)):
        if not chosen(number):
            continue
        for companion in ("-wal", "-shm"):
            journal.with_name(journal.name + companion).unlink(missing_ok=True)
        shutil.copy(kept, journal)
        write(journal, seq, text)
        command = commands[tried % len(commands)]
        code = main(command)
        said = "".join(capfd.readouterr())
        tried += 1
        if "Traceback" in said or code == 1 or "\x1b" in said or "\u202e" in said:
            wrong.append((what, command, said[-300:]))
    assert not wrong, "\n".join(map(str, wrong[:10])) + f"\n{len(wrong)} of {tried}"
    return tried


def test_forged_journals_are_told_and_end_in_no_traceback(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check_forgeries(runs, lambda number: number % 307 == 7, capfd) > 20


@pytest.mark.parametrize("newer", ["format", "kind"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_a_newer_version_wrote_is_refused_by_every_command(
    runs: Path, newer: str, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    journal = runs / INTERRUPTED / "journal.sqlite"
    with sqlite3.connect(journal) as db:
        if newer == "format":
            db.execute("PRAGMA user_version = 9")
        else:
            db.execute("UPDATE events SET kind = 'paused' WHERE seq = 3")
            row = db.execute("SELECT seq, time_ms, kind, trial, attempt, data FROM events WHERE seq = 3").fetchone()
            db.execute("UPDATE events SET crc = ? WHERE seq = 3", (zlib.crc32(" ".join(map(str, row)).encode()),))
    db.close()
    before = sorted((path, path.stat().st_size) for path in (runs / INTERRUPTED).rglob("*.safetensors"))
    code = main([*command, "--yes"] if command[0] == "delete" else command)
    said = "".join(capfd.readouterr())
    if command == ["status"]:
        assert code == 0
        assert f"{INTERRUPTED}  damaged" in said
    else:
        assert code == 3 or command[0] == "status", said
        assert "use the version that wrote it" in said or "a newer version wrote it" in said, said
    assert before == sorted((path, path.stat().st_size) for path in (runs / INTERRUPTED).rglob("*.safetensors"))
