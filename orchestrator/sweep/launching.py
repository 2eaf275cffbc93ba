"""A sweep from a checked plan: its identity, its folder, the first event of its journal."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.base.disk import DiskWait
from orchestrator.base.environment import environment
from orchestrator.base.errors import NotReadyError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import JOURNAL, TRIALS
from orchestrator.base.names import slug
from orchestrator.base.removal import opened_below
from orchestrator.base.rights import granted
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.events import SweepOpened
from orchestrator.journal.file import Journal
from orchestrator.journal.marking import write_mark
from orchestrator.journal.place import HERE, SQLITE, refuse_copy, written_tracking
from orchestrator.stores.settling import settle
from orchestrator.sweep.resources import COMPUTES_ON, find_place
from orchestrator.sweep.session import (
    DriverContext,
    Result,
    Session,
    checked_tracking,
    connected_cluster,
    driving,
    make_conductor,
    most_epochs,
    spell_trials,
)


def launch(plan: SweepPlan, context: DriverContext | None = None) -> Result:
    """Runs the sweep of a checked plan from its first event to its last.

    Raises:
        ConfigError, NotReadyError: nothing was created, or (NotReadyError) the journal could not be written any more.
        ResumableError: Ray failed in mid-sweep; everything up to then is kept.
    """
    with granted(plan.rights):
        return _launch(plan, context or DriverContext())


def _launch(plan: SweepPlan, context: DriverContext) -> Result:
    refuse_copy(Path(plan.root.runs_dir))
    tracking = checked_tracking(plan, Path(plan.root.runs_dir), context)
    with connected_cluster(plan, context) as cluster:
        place = find_place(plan, cluster, Path(plan.root.runs_dir))
        plan, concurrent = place.plan, place.concurrent
        uid, folder = create_folder(plan, tracking)
        waiting = DiskWait(plan.root.disk_wait_s, context.say)
        with driving(folder), Journal(folder / JOURNAL, create=True, disk=waiting) as journal:
            conductor = make_conductor(plan, folder, journal, concurrent)
            context.say(
                f"sweep {uid}: {spell_trials(plan)}, {most_epochs(plan)} epochs each at most, {concurrent} at a time"
            )
            failpoint("opening.before")
            opened = opening(plan, uid, folder, tracking, context)
            computes = {"precision": plan.base["precision"], COMPUTES_ON: list(place.computes_on)}
            opened = replace(opened, environment={**opened.environment, **computes})
            journal.append(opened, sync=True)
            failpoint("opening.after")
            return Session(plan, folder, journal, conductor, tracking, context, cluster).run(concurrent)


def create_folder(plan: SweepPlan, tracking: Mapping[str, Any]) -> tuple[str, Path]:
    """A new identity and its folder, in a runs folder that has one, too; and a folder for a store elsewhere."""
    base = slug(plan.root.name) if plan.root.name else time.strftime("sweep-%Y%m%d-%H%M%S")
    uid = f"{base}-{secrets.token_hex(4)}"
    folder = Path(plan.root.runs_dir).resolve() / uid
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        identity = settle(folder.parent)
        (folder / TRIALS).mkdir(parents=True)
        with opened_below(folder) as sweep:
            write_mark(sweep, uid, identity.id)
        if tracking["kind"] == "local":
            for path in (Path(tracking["uri"].removeprefix(SQLITE)).parent, Path(tracking["artifacts"]).parent):
                path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotReadyError(f"runs_dir={plan.root.runs_dir} cannot be written ({error}); set runs_dir") from error
    return uid, folder


def opening(
    plan: SweepPlan, uid: str, folder: Path, tracking: Mapping[str, Any], context: DriverContext
) -> SweepOpened:
    """What the journal opens with: everything that a reader, or a resume, needs to know of the sweep."""
    root = plan.root
    return SweepOpened(
        uid=uid,
        name=root.name or uid.rsplit("-", 1)[0],
        metric=plan.base["metric"],
        mode=plan.base["mode"],
        trials=root.trials,
        folder=HERE,
        plan=plan.to_json(),
        tracking=written_tracking(tracking, folder.parent),
        config=plan.base,
        space=[{"key": p.key, "domain": p.domain.describe(), "condition": p.condition} for p in plan.space.parameters],
        sampler=plan.sampler,
        scheduler=plan.scheduler,
        environment=environment() | {"command": shlex.join(context.command)},
        request=context.request,
    )
