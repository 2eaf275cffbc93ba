"""A resume: what it takes from the journal, what it may change, and the event that says so."""

from __future__ import annotations

import os
import shlex
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.disk import DiskWait
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import JOURNAL, TRIALS
from orchestrator.base.records import State
from orchestrator.base.removal import opened_below
from orchestrator.base.rights import granted
from orchestrator.config import resuming
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.events import MOST_REPEATS, SweepResumed
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
    seeds: Mapping[int, int] | None = None,
) -> Result | None:
    """Goes on with the sweep in `folder`, whose driver has gone; None where there is nothing to do.

    Args:
        new: what the overrides of the start and of now together give; checked against what the sweep began with.
        more: so many configurations besides those of before.
        trials: so many configurations in all.
        new_budget: whether `time_budget_s` counts from now on, instead of what is left of it.
        seeds: trial -> with how many seeds its configuration is to be trained in all.

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
        repeats_of = asked_repeats(record, plan, seeds or {})
        changes |= {f"seeds of configuration {key}": [before, now] for key, before, now in repeats_of}
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
            conductor.deepen({**record.repeats_of, **{key: now for key, _, now in repeats_of}})
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
                repeats_of={str(key): now for key, _, now in repeats_of},
            )
            failpoint("resuming.before")
            journal.append(resumed, sync=True)
            failpoint("resuming.after")
            ended, open_ = sum(conductor.totals.values()), len(conductor.record.unfinished)
            further = conductor.record.count(plan.root.trials, plan.root.repeat).more
            planned = f"{spell_trials(plan)}{f' and {further} more seeds of some' if further else ''} in all"
            context.say(
                f"sweep {folder.name} goes on: {ended} trials have ended, {open_} continue, {planned}; {concurrent} at a time"
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


def asked_repeats(record: SweepRecord, plan: SweepPlan, seeds: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """The configurations that are to have more trials than there are: (configuration, trials that there are, trials to be).

    Args:
        seeds: trial -> with how many seeds its configuration is to be trained in all.

    Raises:
        ConfigError: there is no such trial, it did not complete, or the seed is searched.
    """
    problems: list[Problem] = []
    found: dict[int, int] = {}
    if seeds and "seed" in plan.space.keys:
        problems.append(Problem("--seeds", "the seed is searched in this sweep, so that no configuration has several"))
    for index, count in seeds.items():
        trial = record.trials.get(index)
        if trial is None:
            problems.append(Problem("--seeds", f"there is no such trial; the sweep has {len(record.trials)}", index))
        elif record.trials[index].state is not State.COMPLETED:
            state = record.trials[index].state or "not ended"
            problems.append(
                Problem("--seeds", f"only what has completed is trained with more seeds; it is {state}", index)
            )
        elif not 1 <= count <= MOST_REPEATS:
            problems.append(Problem("--seeds", f"from 1 to {MOST_REPEATS} of a configuration", f"{index}={count}"))
        else:
            found[trial.config_index] = max(count, found.get(trial.config_index, 0))
    if problems:
        raise ConfigError(problems)
    there = Counter(trial.config_index for trial in record.trials.values())
    return [(key, there[key], count) for key, count in found.items() if count > there[key]]


def first_config_index(record: SweepRecord, changes: Mapping[str, Any]) -> int:
    """The first configuration that the sampler of a resumed sweep suggests itself."""
    if "space" in changes or "sampler" in changes:
        return record.configurations
    return record.resumes[-1].first_config_index if record.resumes else 0


def spent_s(record: SweepRecord) -> float:
    """How much of its time budget a sweep has used, its last session included."""
    return (record.spent_ms + record.last_ms - record.session_ms) / 1000
