"""Every row, column, field and file of a good sweep is changed in turn, by program, and verify has to tell.

    python -m pytest tests/verify/test_mutations.py             a bounded share of the mutations, drawn by number
    VERIFY_MUTATIONS=all python -m pytest -s tests/verify/test_mutations.py        all of them, with a count by place

A mutation of the journal gets its checksum right, so that it is a forgery and no damage. What nobody can check stands in
`LET_THROUGH`, with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator.base.errors import OrchestratorError
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.file import checksum
from orchestrator.verify import verify

ALL = os.environ.get("VERIFY_MUTATIONS") == "all"
BUDGET = 300
"""So many are tried by default, evenly spread."""

LET_THROUGH = {
    "mlflow/note/more": "a person may go on where the sweep's description ends",
    "mlflow/experiments/creation_time": "when the experiment was made is in no other record; its runs may be of other sweeps",
    "mlflow/experiments/last_update_time": "MLflow itself changes it when somebody edits the experiment",
    "mlflow/experiments/workspace": "no column of ours: MLflow's own default stands there",
    "mlflow/experiment_tags": "a person may edit the tags of an experiment, which other sweeps share",
    "mlflow/inputs/step": "no column of ours: MLflow's own default stands there, and nobody reads it",
    "mlflow/inputs/input_uuid": "leads to tags that are the same for all runs of a sweep",
    "mlflow/input_tags/input_uuid": "the same, from the other side",
    "file/store.json": "where the folder lay when it was written last; its id is compared with the sweep's mark",
    "file/runs/lock": "says who drives the sweep while a process holds it, and nothing afterwards",
    "file/runs/tracking/lock": "says who ships the sweep while a process holds it, and nothing afterwards",
    "file/runs/tracking/shipper.log": "a log for people",
    "file/runs/trials/attempt": "fences off old workers while the trial runs, and means nothing once it has ended",
}
"""Place -> why a change there, or below, is nothing that anybody could notice."""


class Mutation(NamedTuple):
    """One change, and the place that it belongs to in a count."""

    place: str
    what: str
    make: Callable[[], object]


class Sweep:
    """A good sweep that is put back as it was before every mutation."""

    def __init__(self, runs: Path, pristine: Path) -> None:
        self.runs, self.pristine = runs, pristine
        (self.folder,) = (path.parent for path in runs.glob(f"*/{JOURNAL}"))
        self.files = {path.relative_to(pristine): path.read_bytes() for path in pristine.rglob("*") if path.is_file()}
        self.touched: set[Path] = set()

    def restore(self) -> None:
        for path in self.touched:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if (kept := path.relative_to(self.runs)) in self.files:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.files[kept])
        self.touched.clear()

    def touch(self, path: Path) -> Path:
        self.touched.add(path)
        return path

    @contextlib.contextmanager
    def database(self, path: Path) -> Iterator[sqlite3.Connection]:
        for suffix in ("", "-wal", "-shm"):
            self.touch(path.with_name(path.name + suffix))
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            yield db

    def journal(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return self.database(self.folder / JOURNAL)

    def mlflow(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return self.database(self.runs / "mlflow.db")


@pytest.fixture
def sweep(good: tuple[Path, Path]) -> Sweep:
    runs, pristine = good
    shutil.rmtree(runs)
    shutil.copytree(pristine, runs)
    return Sweep(runs, pristine)


def others(value: Any) -> Iterator[tuple[str, Any]]:
    """Values in the place of this one: another of its type, one of another type, none."""
    if isinstance(value, bool):
        yield "another value", not value
    elif isinstance(value, int | float):
        yield "another value", value + 1
        yield "minus", -value - 1
    elif isinstance(value, str):
        yield "another value", value + "x"
        yield "nothing", "" if value else "x"
    elif value is None:
        yield "a value", "x"
    yield "another type", 17 if isinstance(value, str | list | dict) else "x"
    if value is not None:
        yield "null", None


# MLflow ---------------------------------------------------------------------------------------------------------------

TABLES = (
    *("experiments", "experiment_tags", "runs", "tags", "params", "metrics", "latest_metrics"),
    *("datasets", "inputs", "input_tags"),
)
OF_A_RUN = {"tags", "params", "metrics", "latest_metrics"}


def of_mlflow(sweep: Sweep) -> Iterator[Mutation]:
    """Of one row of each sort: gone, there twice, each column changed, and its value exchanged with the next row's."""
    with sweep.mlflow() as db:
        for table in TABLES:
            columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            seen: set[Any] = set()
            rows = db.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall()
            kinds = dict(db.execute("SELECT run_uuid, value FROM tags WHERE key = 'reason'"))
            default = db.execute("SELECT experiment_id FROM experiments WHERE name = 'Default'").fetchone()
            for row_id, *values in rows:
                row = dict(zip(columns, values, strict=True))
                if table.startswith("experiment") and default and row["experiment_id"] == default[0]:
                    continue
                sort = (kinds.get(row.get("run_uuid", "")), row.get("key"), table == "runs" and row["name"])
                if sort in seen:
                    continue
                seen.add(sort)
                named = f"{table} {row.get('key') or row.get('name')} of {sort[0]}"
                yield Mutation(
                    f"mlflow/{table}",
                    f"{named}: gone",
                    statement(sweep, f"DELETE FROM {table} WHERE rowid = ?", row_id),
                )
                for column in columns:
                    for what, value in others(row[column]):
                        change = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
                        more = row.get("key") == "mlflow.note.content" and column == "value" and what == "another value"
                        place = "mlflow/note/more" if more else f"mlflow/{table}/{column}"
                        yield Mutation(place, f"{named}, {column}: {what}", statement(sweep, change, value, row_id))
            for column in columns:
                yield Mutation(
                    f"mlflow/{table}/{column}", f"{table}, {column}: exchanged", exchange(sweep, table, column)
                )
            if table in OF_A_RUN:
                yield Mutation(f"mlflow/{table}", f"{table}: one more", one_more(sweep, table, columns))


def statement(sweep: Sweep, text: str, *values: Any) -> Callable[[], object]:
    def make() -> object:
        with sweep.mlflow() as db:
            return db.execute(text, values).rowcount

    return make


def exchange(sweep: Sweep, table: str, column: str) -> Callable[[], object]:
    """Two rows that differ in a column exchange its values."""

    def make() -> object:
        with sweep.mlflow() as db:
            before = sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            found = db.execute(f"SELECT min(rowid), {column} FROM {table} GROUP BY {column} LIMIT 2").fetchall()
            if len(found) < 2:
                return 0
            (one, first), (other, second) = found
            db.execute(
                f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (f"{second}~", one)
            )  # where it must be unique
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (first, other))
            db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (second, one))
            return before != sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr)

    return make


def one_more(sweep: Sweep, table: str, columns: list[str]) -> Callable[[], object]:
    """A row like the first one, with a key of ours that its run has not."""

    def make() -> object:
        with sweep.mlflow() as db:
            values = ["'ran_on.more'" if name == "key" else name for name in columns]
            return db.execute(f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table} LIMIT 1").rowcount

    return make


# the journal ----------------------------------------------------------------------------------------------------------


def of_journal(sweep: Sweep) -> Iterator[Mutation]:
    """Of one event of each sort: gone, there twice, each column and each field changed; and what stands beside the events."""
    with sweep.journal() as db:
        rows = db.execute("SELECT seq, time_ms, kind, trial, attempt, data FROM events ORDER BY seq").fetchall()
    seen: set[Any] = set()
    for row in rows:
        seq, _, kind, _, _, text = row
        data = json.loads(text)
        sort = (kind, tuple(sorted(data)), data.get("state"), bool(data.get("ran_on")), bool(data.get("path")))
        if sort in seen:
            continue
        seen.add(sort)
        yield Mutation(
            f"journal/{kind}", f"event {seq}: gone", rewritten(sweep, lambda rows, seq=seq: rows.pop(seq - 1))
        )
        twice = lambda rows, seq=seq: rows.insert(seq, rows[seq - 1])  # noqa: E731
        yield Mutation(f"journal/{kind}", f"event {seq}: twice", rewritten(sweep, twice))
        for place, column in ((0, "time_ms"), (2, "trial"), (3, "attempt")):
            for what, value in others(row[place + 1]):
                if isinstance(value, str):
                    continue  # the table takes none
                change = lambda rows, seq=seq, place=place, value=value: put(rows, seq, place, value)  # noqa: E731
                yield Mutation(f"journal/{kind}/{column}", f"event {seq}, {column}: {what}", rewritten(sweep, change))
        for path, value in leaves(data):
            for what, other in [*others(value), ("gone", ...)]:
                changed = json.dumps(with_leaf(data, path, other), separators=(",", ":"))
                change = lambda rows, seq=seq, changed=changed: put(rows, seq, 4, changed)  # noqa: E731
                place = f"journal/{kind}/{path[0]}"
                yield Mutation(place, f"event {seq}, {'/'.join(map(str, path))}: {what}", rewritten(sweep, change))
    for index in range(1, len(rows) - 1, 3):
        swap = lambda rows, index=index: rows.insert(index, rows.pop(index + 1))  # noqa: E731
        yield Mutation("journal/order", f"events {index + 1} and {index + 2} exchanged", rewritten(sweep, swap))
    for part in (
        "CREATE TABLE more (x)",
        "CREATE INDEX more ON events (kind)",
        "CREATE VIEW more AS SELECT * FROM events",
        "CREATE TRIGGER more AFTER INSERT ON events BEGIN DELETE FROM events; END",
        "ALTER TABLE events ADD COLUMN more TEXT",
    ):
        yield Mutation("journal/schema", part, in_journal(sweep, part))


def put(rows: list[list[Any]], seq: int, place: int, value: Any) -> None:
    rows[seq - 1] = [*rows[seq - 1][:place], value, *rows[seq - 1][place + 1 :]]


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every field, and below it every key, each once however many elements a list has."""
    if path:
        yield path, data
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list) and data:
        yield from leaves(data[0], (*path, 0))


def with_leaf(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(data))
    inside = copy
    for key in path[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return copy


def rewritten(sweep: Sweep, change: Callable[[list[list[Any]]], object]) -> Callable[[], object]:
    """The journal with other rows, numbered without gaps and with the checksums that belong to them."""

    def make() -> object:
        with sweep.journal() as db:
            query = "SELECT time_ms, kind, trial, attempt, data FROM events ORDER BY seq"
            rows = [list(row) for row in db.execute(query)]
            change(rows)
            db.execute("DELETE FROM events")
            whole = [(seq, *row, checksum(seq, *row)) for seq, row in enumerate(rows, start=1)]
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", whole)
        return 1

    return make


def in_journal(sweep: Sweep, text: str) -> Callable[[], object]:
    def make() -> object:
        with sweep.journal() as db:
            db.execute(text)
        return 1

    return make


# files ----------------------------------------------------------------------------------------------------------------


def of_files(sweep: Sweep) -> Iterator[Mutation]:
    """Every file: gone, empty, cut, longer, a byte flipped, a link to another file."""
    for name in sorted(sweep.files):
        if name.name.startswith(
            (JOURNAL, "mlflow.db")
        ):  # row by row above; what SQLite keeps beside them comes and goes
            continue
        path, contents = sweep.runs / name, sweep.files[name]
        middle = bytearray(contents)
        if middle:
            middle[len(middle) // 2] ^= 1
        for what, new in (
            ("gone", None),
            ("empty", b""),
            ("cut", contents[: len(contents) // 2]),
            ("longer", contents + b"x"),
            ("a byte flipped", bytes(middle)),
            ("another file", b"something else\n"),
        ):
            if new != contents:
                yield Mutation(sort_of(name), f"{name}: {what}", replaced(sweep, path, new))


def sort_of(name: Path) -> str:
    """The place of a file in a count, without the numbers of sweeps, runs and trials."""
    if name.parts[0] == "artifacts":
        return f"file/artifacts/{name.name}"
    if len(name.parts) == 1:
        return f"file/{name}"
    return "/".join(("file/runs", *(part for part in name.parts[1:] if not part.isdecimal())))


def replaced(sweep: Sweep, path: Path, contents: bytes | None) -> Callable[[], object]:
    def make() -> object:
        sweep.touch(path).unlink()
        if contents is not None:
            path.write_bytes(contents)
        return 1

    return make


# the test -------------------------------------------------------------------------------------------------------------


def verdict(sweep: Sweep) -> str:
    """`told` of a violation, an error with a message, or a store that cannot be looked at; else what verify says."""
    try:
        report = verify(sweep.folder)
    except OrchestratorError:
        return "told"
    if report.failures:
        return "; ".join(report.failures)
    return "told" if report.exit_code else report.summary


def let_through(place: str) -> bool:
    return any(place == known or place.startswith(f"{known}/") for known in LET_THROUGH)


@pytest.mark.parametrize("generate", [of_mlflow, of_journal, of_files])
def test_no_change_goes_unseen(sweep: Sweep, generate: Callable[[Sweep], Iterator[Mutation]]) -> None:
    mutations = list(generate(sweep))
    if not ALL:
        step = max(1, len(mutations) * 3 // BUDGET)
        mutations = mutations[::step]
    sweep.touched |= {sweep.runs / "mlflow.db", sweep.folder / JOURNAL}
    made: Counter[str] = Counter()
    told: Counter[str] = Counter()
    missed, wrong = [], []
    for mutation in mutations:
        sweep.restore()
        try:
            if not mutation.make():
                continue
        except sqlite3.IntegrityError:
            continue  # the database itself refuses it
        place = mutation.place
        made[place] += 1
        came_to = verdict(sweep)
        if came_to == "told":
            told[place] += 1
        elif "in check" in came_to:
            wrong.append(f"{place}: {mutation.what}: {came_to}")
        elif not let_through(place):
            missed.append(f"{place}: {mutation.what}: {came_to}")
    sweep.restore()
    print(f"\n{generate.__name__}: {made.total()} made, {told.total()} told, {made.total() - told.total()} let through")
    if ALL:
        for place in sorted(made):
            print(f"  {place}: {told[place]} of {made[place]}")
    assert wrong == []
    assert missed == []
    assert verdict(sweep).startswith("verified: 26/26")


def test_every_reason_names_a_place_that_there_is(sweep: Sweep) -> None:
    places = {mutation.place for generate in (of_mlflow, of_journal, of_files) for mutation in generate(sweep)}
    for known in LET_THROUGH:
        assert any(place == known or place.startswith(f"{known}/") for place in places), known
