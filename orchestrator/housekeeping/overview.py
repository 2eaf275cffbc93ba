"""Where sweeps stand: `orchestrator status`, as a table of all and as the details of one; and what comparisons there are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base import layout, locks
from orchestrator.base.errors import NotReadyError
from orchestrator.base.locks import Holder
from orchestrator.base.recorded import read_plan
from orchestrator.base.records import State
from orchestrator.base.secrets import redact
from orchestrator.base.text import duration, table, word
from orchestrator.housekeeping.comparisons import is_made
from orchestrator.housekeeping.disk import Disk, disk_use, size
from orchestrator.housekeeping.reading import Outline, read_outline
from orchestrator.journal.cursor import is_shipping, read_status
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.finding import runs_dir_option, sweeps_in
from orchestrator.journal.record import Score, SweepRecord, TrialRecord
from orchestrator.stores.opening import store_settings

RUNNING, INTERRUPTED, DAMAGED = "running", "interrupted", "damaged"
SHORT_ERROR = 60


@dataclass(frozen=True)
class Overview:
    """One sweep as it stands.

    Args:
        state: `running`, `interrupted`, `damaged`, or why it was closed: `finished`, `budget`, `exhausted`, `stopped`.
        outline: None where the journal is damaged; `damage` says how.
        driver: the process that works on it.
        left_s: an estimate, from what ended since the sweep was started or resumed.
    """

    folder: Path
    state: str
    outline: Outline | None
    driver: Holder | None
    disk: Disk
    left_s: float | None = None
    damage: str | None = None

    @property
    def ended(self) -> int:
        return sum(trial.ended for trial in self.outline.record.trials.values()) if self.outline else 0

    @property
    def planned(self) -> int:
        return planned_trials(self.outline.record) if self.outline else 0

    @property
    def best(self) -> Score | None:
        return self.outline.record.scores.best if self.outline and self.outline.record.scores else None


def survey(runs_dir: Path, *, now: float | None = None) -> list[Overview]:
    """All sweeps of a folder, the newest first; one that cannot be read is among them."""
    return [look(folder, now=now) for folder in sweeps_in(runs_dir)]


def look(folder: Path, *, now: float | None = None) -> Overview:
    """One sweep.

    Args:
        now: seconds since 1970.
    """
    folder = folder.absolute()
    # Asked before reading: a sweep that is closed in between is then told as closed, not as interrupted.
    driver = locks.holder(folder / layout.LOCK)
    try:
        outline = read_outline(folder)
    except NotReadyError as error:
        return Overview(folder, DAMAGED, None, driver, disk_use(folder), damage=str(error))
    state = state_of(outline.record, driver)
    left_s = _seconds_left(outline, time.time() if now is None else now) if state == RUNNING else None
    return Overview(folder, state, outline, driver, disk_use(folder), left_s)


def state_of(record: SweepRecord, driver: Holder | None) -> str:
    """How a sweep stands: why it was closed, or whether its driver lives."""
    if record.closed is not None:
        return record.closed.reason
    return RUNNING if driver else INTERRUPTED


def planned_trials(record: SweepRecord) -> int:
    """How many trials there are to be, at most; of a sweep that has come to its end those that there are."""
    if record.closed is not None and record.closed.reason in ("finished", "exhausted"):
        return len(record.trials)
    settings = plan_settings(record)
    resumed = record.resumes[-1].trials if record.resumes else None
    configurations = resumed or settings.get("trials") or (record.opening.trials if record.opening else 0)
    return record.count(int(configurations), int(settings.get("repeat") or 1)).planned


def plan_settings(record: SweepRecord) -> Mapping[str, Any]:
    """The root keys in force."""
    settings: Mapping[str, Any] = read_plan(record.plan)["settings"] if record.plan else {}
    return settings


def _seconds_left(outline: Outline, now: float) -> float | None:
    record = outline.record
    to_do = planned_trials(record) - sum(trial.ended for trial in record.trials.values())
    if outline.session_ms is None or not outline.session_ended:
        return None
    left = (now - outline.session_ms / 1000) / outline.session_ended * to_do
    if budget_s := plan_settings(record).get("time_budget_s"):
        left = min(left, outline.session_began_ms / 1000 + float(budget_s) - now)
    return max(left, 0.0)


def table_lines(sweeps: list[Overview]) -> list[str]:
    """A line a sweep."""
    header = ["sweep", "state", "trials", "best", "time left", "disk", "last error"]
    return table(header, [_row(sweep) for sweep in sweeps])


def _row(sweep: Overview) -> list[str]:
    best = sweep.best
    return [
        sweep.folder.name,
        sweep.state,
        f"{sweep.ended}/{sweep.planned}" if sweep.outline else "",
        f"{best.mean:.4f} (trial {min(best.trials)})" if best else "",
        f"about {duration(sweep.left_s)}" if sweep.left_s is not None else "",
        size(sweep.disk.total),
        short(sweep.damage or (sweep.outline.error if sweep.outline else None)),
    ]


def short(error: str | None) -> str:
    """The last line of an error, which is the one that names it, cut where it is long."""
    lines = (error or "").strip().splitlines()
    text = lines[-1] if lines else ""
    return text if len(text) <= SHORT_ERROR else text[: SHORT_ERROR - 3] + "..."


def detail_lines(sweep: Overview, *, now: float | None = None) -> list[str]:
    """One sweep in full."""
    now = time.time() if now is None else now
    rows: list[tuple[str, str]] = [("sweep", sweep.folder.name), ("state", sweep.state)]
    if sweep.driver:
        rows.append(("driver", str(sweep.driver)))
    if sweep.outline is None:
        rows += [("damage", sweep.damage or ""), ("disk", str(sweep.disk)), ("folder", str(sweep.folder))]
        return block(rows)
    outline, record = sweep.outline, sweep.outline.record
    rows += [
        ("begun", when(record.opened_ms)),
        ("last event", f"{when(outline.last_ms)}, {duration(max(now - outline.last_ms / 1000, 0))} ago"),
    ]
    if record.resumes:
        rows.append(("resumed", "once" if record.generation == 1 else f"{record.generation} times"))
    rows += [("trials", _progress(sweep)), *_unfinished(record, sweep.state)]
    if best := sweep.best:
        rows.append(("best", _best(record, best)))
    if sweep.left_s is not None:
        rows.append(("time left", f"about {duration(sweep.left_s)}"))
    if outline.error:
        rows.append(("last error", outline.error.strip().splitlines()[-1]))
    rows += [("disk", str(sweep.disk)), ("folder", str(sweep.folder)), ("MLflow", _mlflow(sweep, outline))]
    if sweep.state == INTERRUPTED:
        rows.append(("go on", f"orchestrator resume {sweep.folder.name}{runs_dir_option(sweep.folder)}"))
    return block(rows)


# Comparisons ----------------------------------------------------------------------------------------------------------


def comparison_lines(folders: list[Path]) -> list[str]:
    """A line a comparison."""
    rows = [[path.name, _made(path), size(disk_use(path).total), _page(path)] for path in folders]
    return table(["comparison", "made", "disk", "page"], rows)


def comparison_detail(folder: Path) -> list[str]:
    """One comparison: where it lies, and what finishes it where it was interrupted."""
    rows = [("comparison", folder.name), ("made", _made(folder)), ("disk", str(disk_use(folder)))]
    rows += [("folder", str(folder)), ("page", _page(folder))]
    if not is_made(folder):
        rows.append(("go on", f"orchestrator sync {folder.name}{runs_dir_option(folder.parent)}"))
    return block(rows)


def _page(folder: Path) -> str:
    page = folder / layout.COMPARISON_PAGE
    return str(page) if page.is_file() else "was not made"


def _made(folder: Path) -> str:
    return when((folder / layout.COMPARISON).stat().st_mtime_ns // 1_000_000)


# One sweep ------------------------------------------------------------------------------------------------------------


def _progress(sweep: Overview) -> str:
    assert sweep.outline is not None
    states = Counter(trial.state for trial in sweep.outline.record.trials.values() if trial.ended)
    counts = ", ".join(f"{states[state]} {state}" for state in State if states[state])
    return f"{sweep.ended} of {sweep.planned} ended" + (f": {counts}" if counts else "")


def _unfinished(record: SweepRecord, state: str) -> list[tuple[str, str]]:
    """The trials under way, a row each."""
    rows: list[tuple[str, str]] = []
    for trial in record.unfinished:
        if trial.started or trial.epoch:
            rows.append(("" if rows else RUNNING if state == RUNNING else "unfinished", _under_way(trial)))
    return rows


def _under_way(trial: TrialRecord) -> str:
    text = f"trial {trial.index}  epoch {trial.epoch} of {trial.config['epochs']}"
    return text + (f", attempt {trial.attempt}" if trial.attempt > 1 else "")


def _best(record: SweepRecord, best: Score) -> str:
    trial = record.trials[min(best.trials)]
    spread = f" ± {best.spread:.4f} over {len(best.unselected)} repeats" if best.spread is not None else ""
    if best.selected is not None:
        spread += f", without the seed that early stopping selected ({best.selected:.4f})"
    params = " ".join(f"{key}={word(value)}" for key, value in trial.params.items())
    return f"{record.opened.metric} {best.mean:.4f}{spread} (trial {trial.index})  {params}".rstrip()


NOT_TRACKED = "not used (tracking=none)"


def is_tracked(opened: SweepOpened | None, folder: Path) -> bool:
    """Whether MLflow has a sweep, or is to have it."""
    return bool(opened and opened.tracking.get("kind", "none") != "none") or bool(read_status(folder).shipped)


def _mlflow(sweep: Overview, outline: Outline) -> str:
    folder, opened = sweep.folder, outline.record.opening
    if not is_tracked(opened, folder):
        return NOT_TRACKED
    status = read_status(folder)
    where = redact(str(store_settings(opened, folder)["uri"]))
    waiting = max(outline.last_seq - status.shipped, 0)
    text = f"{where}: {status.shipped} of {outline.last_seq} events shipped"
    if waiting and not sweep.driver and not is_shipping(folder):
        text += f"; ship the rest with `orchestrator sync {folder.name}{runs_dir_option(folder)}`"
    if status.refused:
        text += f"; {status.refused} writes were refused ({layout.TRACKING}/{layout.TRACKER_LOG})"
    return text + (f"; {status.error}" if status.error else "")


def when(time_ms: int) -> str:
    """A moment in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))


def block(rows: list[tuple[str, str]]) -> list[str]:
    """Titles and texts in two columns; later lines of a text stand below its first."""
    lines = []
    for title, text in rows:
        first, *rest = text.splitlines() or [""]
        lines += [f"{title:<12}{first}".rstrip(), *(f"{'':<12}{line}".rstrip() for line in rest)]
    return lines
