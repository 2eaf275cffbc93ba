"""A resume: what it takes from the journal, what it may change, and the event that says so."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.disk import DiskWait
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import JOURNAL, TRIALS
from orchestrator.base.removal import opened_below
from orchestrator.base.rights import granted
from orchestrator.config import resuming
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.events import SweepResumed
from orchestrator.journal.file import Journal
from orchestrator.journal.place import refuse_copy
from orchestrator.journal.record import SweepRecord, read_events, read_sweep
from orchestrator.stores.opening import store_settings
from orchestrator.stores.settling import settle_sweep
from orchestrator.sweep.resources import check_same, find_place, with_gpus_of
from orchestrator.sweep.session import (
    DriverContext,
    Result,
    Session,
    checked_tracking,
    connected_cluster,
    driving,
    make_conductor,
    spell_trials,
)


def resume(
    folder: Path,
    new: SweepPlan,
    context: DriverContext | None = None,
    *,
    more: int | None = None,
    trials: int | None = None,
    new_budget: bool = False,
) -> Result | None:
    """Goes on with the sweep in `folder`, whose driver has gone; None where there is nothing to do.

    Args:
        new: what the overrides of the start and of now together give; checked against what the sweep began with.
        more: so many configurations besides those of before.
        trials: so many configurations in all.
        new_budget: whether `time_budget_s` counts from now on, instead of what is left of it.

    Raises:
        ConfigError: something differs that may not, or the time budget is used up; nothing was changed.
        RunningElsewhereError: another driver works on it.
        CopyError: it is a copy of another sweep.
        NotReadyError, ResumableError: as for `launch`.
    """
    context = context or DriverContext()
    folder = folder.resolve()
    refuse_copy(folder.parent)
    with granted(new.rights), driving(folder):
        _check_folder(folder)
        settle_sweep(folder)
        record = read_sweep(folder)
        record.check_opened()
        old = SweepPlan.from_json(record.plan)
        plan, changes = checked(record, with_gpus_of(old.settings, new), more=more, trials=trials)
        if record.closed is not None and not changes and not new_budget:
            return None
        budget_s = plan.root.time_budget_s
        if budget_s and not new_budget and (spent := spent_s(record)) >= budget_s:
            why = f"is used up ({spent:.0f} s); say how long it may go on from now with time_budget_s=SECONDS"
            raise ConfigError(Problem("time_budget_s", why, budget_s))
        checked_tracking(plan, folder.parent, context, record.uid)
        waiting = DiskWait(plan.root.disk_wait_s, context.say)
        with (
            connected_cluster(plan, context) as cluster,
            Journal(folder / JOURNAL, disk=waiting) as journal,
        ):
            place = find_place(plan, cluster, folder)
            plan, concurrent = place.plan, place.concurrent
            changes |= check_same(place, record, old)
            first = first_config_index(record, changes)
            conductor = make_conductor(plan, folder, journal, concurrent, first)
            conductor.recall(read_events(folder), same_scheduler="scheduler" not in changes)
            resumed = SweepResumed(
                plan=plan.to_json(),
                changes=changes,
                request=context.request,
                command=shlex.join(context.command),
                host=socket.gethostname(),
                pid=os.getpid(),
                trials=plan.root.trials,
                first_config_index=first,
                new_budget=new_budget,
            )
            failpoint("resuming.before")
            journal.append(resumed, sync=True)
            failpoint("resuming.after")
            ended, open_ = sum(conductor.totals.values()), len(conductor.record.unfinished)
            context.say(
                f"sweep {folder.name} goes on: {ended} trials have ended, {open_} continue, {spell_trials(plan)} in all; "
                f"{concurrent} at a time"
            )
            tracking = store_settings(conductor.record.opened, folder)
            return Session(plan, folder, journal, conductor, tracking, context, cluster).run(concurrent)


def _check_folder(folder: Path) -> None:
    """Refuses a sweep whose `trials/` leads elsewhere, where trials would write and remove.

    Raises:
        RefusedRemovalError: it is a link, or another file system.
    """
    with opened_below(folder) as sweep, sweep.inside(TRIALS, create=True):
        pass


def checked(
    record: SweepRecord, new: SweepPlan, *, more: int | None = None, trials: int | None = None
) -> tuple[SweepPlan, dict[str, Any]]:
    """The plan with which the sweep goes on, and its changes; see `config.resuming.checked`.

    Raises:
        ConfigError: something differs that may not.
    """
    old = SweepPlan.from_json(record.plan)
    return resuming.checked(old, new, suggested=record.configurations, more=more, trials=trials)


def first_config_index(record: SweepRecord, changes: Mapping[str, Any]) -> int:
    """The first configuration that the sampler of a resumed sweep suggests itself."""
    if "space" in changes or "sampler" in changes:
        return record.configurations
    return record.resumes[-1].first_config_index if record.resumes else 0


def spent_s(record: SweepRecord) -> float:
    """How much of its time budget a sweep has used, its last session included."""
    return (record.spent_ms + record.last_ms - record.session_ms) / 1000
