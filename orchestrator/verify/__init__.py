"""Checks the three records of a sweep against each other: the journal, MLflow and the files. Nothing is changed by it.

Needs neither torch nor, for the local store, MLflow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.errors import RunningElsewhereError
from orchestrator.base.layout import JOURNAL, LOCK
from orchestrator.base.locks import holder
from orchestrator.base.secrets import redact
from orchestrator.journal.cursor import read_status
from orchestrator.stores.opening import open_reader, store_settings
from orchestrator.stores.runs import RefusedError, UnavailableError
from orchestrator.verify.checking import UNTRACKED, Checks, lines_of
from orchestrator.verify.deep import DEEP
from orchestrator.verify.evidence import SweepEvidence
from orchestrator.verify.invariants import INVARIANTS
from orchestrator.verify.journal_file import JournalFile
from orchestrator.verify.rules import Report, Violation

__all__ = ["INVARIANTS", "Report", "Violation", "verify"]


def verify(folder: Path, *, say: Callable[[str], None] | None = None, own: bool = False, deep: bool = False) -> Report:
    """Checks every invariant of the sweep in `folder`, and tells each one's result as a line.

    Args:
        own: the caller is the sweep's driver, so that its lock is no reason to refuse.
        deep: also evaluate the kept weights again, which takes torch and time.

    Unless the caller is the driver, also what does not concern this sweep alone (the whole database), or takes long (the data
    set), is looked at.

    Raises:
        RunningElsewhereError: the sweep is running.
        NotReadyError: there is no journal, or it cannot be read.
    """
    if not own and (driver := holder(folder / LOCK)):
        raise RunningElsewhereError(f"{driver} runs {folder.name} now; verify it when it has ended")
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(contextlib.closing(JournalFile(folder / JOURNAL)))
        sweep = SweepEvidence(folder, journal, thorough=not own)
        why_not = _look_at_store(sweep, stack)
        invariants = (*INVARIANTS, DEEP) if deep else INVARIANTS
        if say:
            runs = "not looked at" if sweep.runs is None else f"{len(sweep.runs)} runs"
            say(f"{sweep.uid}: {len(sweep.journal.entries)} events, {len(sweep.files)} files, MLflow: {runs}")
        try:
            report = Checks(sweep, why_not, invariants).report
        except UnavailableError as error:  # the store went away meanwhile
            alone = SweepEvidence(folder, sweep.journal, thorough=sweep.thorough)
            report = Checks(alone, redact(str(error)), invariants).report
    report.wanted = frozenset({DEEP.number} if deep else ())
    if say:
        for line in lines_of(report, invariants):
            say(line)
    return report


def _look_at_store(sweep: SweepEvidence, stack: contextlib.ExitStack) -> str | None:
    """Opens the store and reads the sweep's runs; why it is not looked at, where it is not."""
    status = read_status(sweep.folder)
    if sweep.opened.tracking.get("kind") == "none" and not status.shipped:
        return UNTRACKED
    waiting = sweep.journal.entries[-1].seq - status.shipped
    if waiting > 0 or (sweep.closed is None and not status.ended):
        what = f"{waiting} events wait for MLflow" if waiting > 0 else "MLflow has open runs of the sweep"
        return f"{what}; run `orchestrator sync {sweep.folder.name}`"
    settings = store_settings(sweep.opened, sweep.folder)
    try:
        reader = open_reader(settings, settings.get("experiment") or sweep.opened.name)
        sweep.reader = stack.enter_context(contextlib.closing(reader))
        sweep.runs = reader.runs(sweep.uid, whole_store=sweep.thorough)
        if sweep.parent is not None:
            sweep.rows = reader.rows([sweep.parent])[sweep.parent.run_id]
    except (UnavailableError, RefusedError) as error:
        sweep.runs = None
        return redact(str(error))
    return None
