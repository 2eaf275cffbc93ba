"""results: the trials of a sweep as a table for people, and as CSV or JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.secrets import redact
from orchestrator.base.text import duration, say, visible
from orchestrator.cli.fitting import cell, fitting, wrapped
from orchestrator.cli.parser import Parser, add_runs_dir

if TYPE_CHECKING:
    from orchestrator.analysis.findings import Findings
    from orchestrator.journal.record import SweepRecord

ROWS = 30
CAUSES_SHOWN = 8
CHUNK = 2_000
"""Lines that are printed at once."""


def results_command(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator results", description="The trials of a sweep, and what it found.")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a sweep's name, or its name with the id; the newest where it is left out",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--csv", action="store_true", help="all columns of all trials as CSV")
    how.add_argument("--json", action="store_true", help="the same as a JSON list of objects; what is missing is null")
    parser.add_argument(
        "--epochs", action="store_true", help="one row an epoch instead of a trial, as CSV, or with --json"
    )
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"of the table (default: {ROWS})")
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    if options.rows < 1:
        raise ConfigError(Problem("--rows", "must be at least 1", options.rows))
    from orchestrator.analysis.tables import epoch_rows, trial_rows
    from orchestrator.journal.finding import named_or_newest
    from orchestrator.journal.record import read_sweep

    folder = named_or_newest(options.runs_dir, options.name)
    record = read_sweep(folder, keep_epochs=options.epochs)
    record.check_opened()
    if not (options.csv or options.json or options.epochs):
        for line in table_lines(record, folder, options.rows):
            say(line)
        return errors.EXIT_OK
    rows = [_readable(row) for row in (epoch_rows(record) if options.epochs else trial_rows(record))]
    _print(as_json(rows) if options.json else as_csv(rows, _fixed_columns(options.epochs)))
    return errors.EXIT_OK


# For people -----------------------------------------------------------------------------------------------------------


def table_lines(record: SweepRecord, folder: Path, most: int) -> list[str]:
    """How the sweep stands, its trials with the best first, and what it found."""
    from orchestrator.analysis.findings import findings
    from orchestrator.analysis.tables import trial_rows
    from orchestrator.cli.closing import why_lines

    rows, found = trial_rows(record), findings(record, folder)
    lines = [f"{record.uid}: {_standing(record, rows)}"]
    if not rows:
        return lines
    ordered = sorted(rows, key=_place(record))
    lines += ["", *_table(ordered[:most], found, record)]
    if len(rows) > most:
        lines.append(f"and {len(rows) - most:,} trials more: --rows {len(rows)}, or --csv for a program")
    if why := why_lines(found, causes=CAUSES_SHOWN, choices=2 * CAUSES_SHOWN):
        lines += ["", *why]
    return lines


def _standing(record: SweepRecord, rows: Sequence[Mapping[str, Any]]) -> str:
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(sorted(states, key=_order)))
    closed = record.closed.seconds if record.closed else None
    seconds = closed if closed is not None else (record.worked_ms + record.last_ms - record.session_ms) / 1000
    end = record.closed.reason if record.closed else "not closed"
    return f"{counts or 'no trial yet'} in {duration(seconds)} ({end})"


def _order(state: str) -> int:
    from orchestrator.base.records import State

    return list(State).index(State(state))


def _place(record: SweepRecord) -> Any:
    """The order of the table: configurations as the sweep ranks them, their trials together; then the others, by state."""
    scores = record.scores.ranked() if record.scores else []
    places = {trial: place for place, score in enumerate(scores) for trial in sorted(score.trials)}
    return lambda row: (places.get(row["trial"], len(places)), _order(row["state"]), row["trial"])


def _table(rows: Sequence[Mapping[str, Any]], found: Findings, record: SweepRecord) -> list[str]:
    from orchestrator.analysis.findings import number

    winner, tied = (found.margin.winner, set(found.margin.tied)) if found.margin else (None, set[int]())
    repeated = any(trial.repeat for trial in record.trials.values())
    columns: dict[str, list[str]] = {
        "trial": [f"{row['trial']}{' =' if row['trial'] in tied else ''}" for row in rows],
        "state": [row["state"] for row in rows],
        found.metric: [number(row["value"]) for row in rows],
    }
    if any(row.get("metrics.test/accuracy") is not None for row in rows):
        columns["test/accuracy"] = [number(row.get("metrics.test/accuracy")) for row in rows]
    columns["epoch"] = ["" if row["best_epoch"] is None else str(row["best_epoch"]) for row in rows]
    if repeated:
        columns["config"] = [str(row["config_index"]) for row in rows]
    for key in found.keys:
        columns[key] = [cell(row.get(f"params.{key}")) for row in rows]
    important = [one.key for one in found.importances]
    first = dict.fromkeys([*list(columns)[:3], *important, *found.keys, *columns])
    lines, left_out = fitting(columns, list(first))
    if any(row["trial"] in tied for row in rows):
        lines.append(f"= a tie: cannot be told from trial {winner}")
    if left_out:
        lines += wrapped([f"no room for {', '.join(left_out)}; --csv has them, a wider terminal shows them"])
    return lines


# For programs ---------------------------------------------------------------------------------------------------------


def _fixed_columns(epochs: bool) -> Iterable[str]:
    from orchestrator.analysis.tables import EPOCH_COLUMNS, TRIAL_COLUMNS

    return EPOCH_COLUMNS if epochs else TRIAL_COLUMNS


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601 in UTC, which every library reads."""
    return {name: _time(value) if name in ("began", "ended", "time") else value for name, value in row.items()}


def _time(ms: int | None) -> str | None:
    if ms is None:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None  # beyond the year 9999


def as_json(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["[]"]
    texts = [json.dumps(row, allow_nan=False) for row in rows]
    return ["[", *(f"  {text}," for text in texts[:-1]), f"  {texts[-1]}", "]"]


def as_csv(rows: Sequence[Mapping[str, Any]], fixed: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys([*fixed, *(name for row in rows for name in row)]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_plain(row.get(name)) for name in names] for row in rows)
    return out.getvalue().removesuffix("\n").split("\n")


def _plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, bool | list | dict) else value


def _print(lines: Sequence[str]) -> None:
    """Data, of which a part that looks whole would be worse than none.

    Raises:
        NotReadyError: it cannot be written.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        for start in range(0, len(lines), CHUNK):
            text = visible(redact("\n".join(lines[start : start + CHUNK])))
            print(text.encode(encoding, errors="replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer is not tried again
        raise NotReadyError(f"the table could not be written in full ({error.strerror})") from error
