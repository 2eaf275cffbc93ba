"""The life of a sweep: from a checked plan to a closed journal. One of the few files that see several rooms."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.environment import environment
from orchestrator.base.errors import ConfigError, NotReadyError, Problem, ResumableError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import JOURNAL, LOCK, STOP, TRIALS, TUNE, trial_folder
from orchestrator.base.locks import DRIVING, hold
from orchestrator.base.names import slug
from orchestrator.base.records import State
from orchestrator.base.rules import repeat_seed
from orchestrator.config.machine import cpus, gpus, memory_bytes
from orchestrator.config.plan import SweepPlan, domain_max, trial_config
from orchestrator.config.resuming import placed
from orchestrator.journal.cursor import ShipStatus
from orchestrator.journal.events import Best, SweepClosed, SweepOpened, SweepResumed
from orchestrator.journal.file import Journal
from orchestrator.journal.finding import find_sweep, runs_dir_option, sweeps_in, tracked_in
from orchestrator.journal.record import Summary, SweepRecord, read_events, read_sweep
from orchestrator.stores.opening import local_path
from orchestrator.sweep.resources import COMPUTES_ON, check_same, find_place, gpus_of, with_gpus_of
from orchestrator.sweep.resuming import checked, first_config_index, spent_s
from orchestrator.sweep.retention import Retention
from orchestrator.sweep.terminal import Progress, View
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.supervisor import Supervisor
from orchestrator.verify import Report, verify

if TYPE_CHECKING:
    from orchestrator.scheduling.conductor import Conductor
    from orchestrator.scheduling.ray.cluster import Cluster

__all__ = ["Result", "find_sweep", "launch", "resume", "sweeps_in", "tracked_in"]

SHIP_TIMEOUT_S = 60.0
"""How long the end of a sweep waits for MLflow; what is not shipped by then waits in the journal."""

BEST_SHOWN = 5


@dataclass(frozen=True)
class Result:
    """What a sweep came to."""

    uid: str
    folder: Path
    totals: Mapping[State, int]
    best: list[Summary]
    seconds: float
    closed_for: str
    last_error: str | None
    max_failed: float
    ship: ShipStatus | None
    waiting_events: int
    report: Report

    @property
    def has_result(self) -> bool:
        """Whether any trial gave a value that can be the best."""
        return bool(self.best)

    @property
    def failed_share(self) -> float:
        """The share of the ended trials that failed; one that diverged, or proved infeasible, has given a result."""
        return self.totals.get(State.FAILED, 0) / max(sum(self.totals.values()), 1)

    @property
    def too_many_failed(self) -> bool:
        """Whether more trials failed than `max_failed` allows."""
        return self.failed_share > self.max_failed


@dataclass(frozen=True)
class DriverContext:
    """What the caller gives a driver.

    Args:
        command: what the user typed, for the record.
        request: the overrides, where they were given and the configuration folder: what a resume plans from.
        tracking: the checked tracking settings; they are checked here where absent.
        say: takes a line for people.
        import_ray: waits for an import of Ray that was begun earlier.
        on_step: called several times a second in this thread; what it raises ends the sweep.
    """

    command: Sequence[str] = ()
    request: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, Any] | None = None
    say: Callable[[str], None] = print
    import_ray: Callable[[], None] = lambda: None
    on_step: Callable[[], None] = lambda: None


def launch(plan: SweepPlan, context: DriverContext | None = None) -> Result:
    """Runs the sweep of a checked plan from its first event to its last.

    Raises:
        ConfigError, NotReadyError: nothing was created, or (NotReadyError) the journal could not be written any more.
        ResumableError: Ray failed in mid-sweep; everything up to then is kept.
    """
    context = context or DriverContext()
    tracking = _checked_tracking(plan, Path(plan.root.runs_dir), context)
    with _cluster(plan, context) as cluster:
        place = find_place(plan, cluster, Path(plan.root.runs_dir))
        plan, concurrent = place.plan, place.concurrent
        uid, folder = _create_folder(plan)
        with _driving(folder), contextlib.closing(Journal(folder / JOURNAL, create=True)) as journal:
            conductor = _conductor(plan, folder, journal, concurrent)
            context.say(f"sweep {uid}: {_trials(plan)}, {_epochs(plan)} epochs each at most, {concurrent} at a time")
            failpoint("opening.before")
            opening = _opening(plan, uid, folder, tracking, context)
            computes = {"precision": plan.base["precision"], COMPUTES_ON: list(place.computes_on)}
            opening = replace(opening, environment={**opening.environment, **computes})
            journal.append(opening, sync=True)
            failpoint("opening.after")
            return _Session(plan, folder, journal, conductor, tracking, context, cluster).run(concurrent)


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
        NotReadyError, ResumableError: as for `launch`.
    """
    context = context or DriverContext()
    folder = folder.resolve()
    with _driving(folder):
        record = read_sweep(folder)
        old = SweepPlan.from_json(record.plan)
        plan, changes = checked(record, with_gpus_of(old.settings, new), more=more, trials=trials)
        if record.closed is not None and not changes and not new_budget:
            return None
        budget_s = plan.root.time_budget_s
        if budget_s and not new_budget and (spent := spent_s(record)) >= budget_s:
            why = f"is used up ({spent:.0f} s); say how long it may go on from now with time_budget_s=SECONDS"
            raise ConfigError(Problem("time_budget_s", why, budget_s))
        _checked_tracking(plan, folder.parent, context)
        with _cluster(plan, context) as cluster, contextlib.closing(Journal(folder / JOURNAL)) as journal:
            place = find_place(plan, cluster, folder)
            plan, concurrent = place.plan, place.concurrent
            changes |= check_same(place, record, old)
            first = first_config_index(record, changes)
            conductor = _conductor(plan, folder, journal, concurrent, first)
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
                f"sweep {folder.name} goes on: {ended} trials have ended, {open_} continue, {_trials(plan)} in all; "
                f"{concurrent} at a time"
            )
            tracking = conductor.record.opened.tracking
            return _Session(plan, folder, journal, conductor, tracking, context, cluster).run(concurrent)


@contextlib.contextmanager
def _driving(folder: Path) -> Iterator[None]:
    """The sweep is this process' own for as long as the block lasts.

    Raises:
        RunningElsewhereError: it is another's.
    """
    with hold(folder / LOCK, f"{DRIVING} {folder.name}"):
        yield


@contextlib.contextmanager
def _cluster(plan: SweepPlan, context: DriverContext) -> Iterator[Cluster]:
    context.import_ray()
    from orchestrator.scheduling.ray.cluster import connect

    address = getattr(plan.part("cluster"), "address", None)
    here = {} if address else {"cpus": cpus(), "gpus": gpus(), "memory_bytes": memory_bytes()}
    with connect(address, preload="orchestrator.scheduling.ray.warm", **here) as cluster:
        yield cluster


def _checked_tracking(plan: SweepPlan, runs_dir: Path, context: DriverContext) -> Mapping[str, Any]:
    tracking = context.tracking
    if tracking is None:
        tracking = check_tracking(plan.tracking, runs_dir, name=plan.root.name)
    if tracking.get("unreachable"):
        context.say(f"the sweep goes on without MLflow for now: {tracking['unreachable']}")
    return tracking


def _conductor(plan: SweepPlan, folder: Path, journal: Journal, concurrent: int, first: int = 0) -> Conductor:
    from orchestrator.scheduling.conductor import Conductor

    root, mode, epochs = plan.root, str(plan.base["mode"]), _epochs(plan)
    scheduler = plan.part("scheduler")
    return Conductor(
        record=SweepRecord(),
        journal=journal,
        sampler=plan.part("sampler").start(plan.space, seed=root.seed, mode=mode, first=first),
        scheduler=scheduler.start(mode=mode, epochs=epochs),
        limit=root.trials,
        configure=lambda params: trial_config(plan, params),
        folder=lambda index: str(trial_folder(folder, index)),
        concurrent=concurrent,
        prepare=plan.part("cluster").kind == "local",
        max_retries=root.max_retries,
        repeat=root.repeat,
        seed_of=partial(repeat_seed, rules=plan.rules),
        rungs=scheduler.rungs(epochs),
        placed=partial(placed, plan),
        fits=lambda params: not plan.space.contains(params),
    )


@dataclass
class _Session:
    """One driver's time with a sweep, from its first step to the closed journal."""

    plan: SweepPlan
    folder: Path
    journal: Journal
    conductor: Conductor
    tracking: Mapping[str, Any]
    context: DriverContext
    cluster: Cluster

    def run(self, concurrent: int) -> Result:
        if self.cluster.head:
            self.cluster.head.last_words = f"; then go on with:  {resume_command(self.folder)}"
        record, root = self.conductor.record, self.plan.root
        start = time.monotonic()
        shipping = Supervisor(
            self.folder,
            enabled=self.tracking["kind"] != "none",
            early=self.tracking["kind"] == "local" and local_path(self.tracking) is None,
        )
        retention = Retention(self.folder, record, root.keep_weights, lambda: self.journal.durable_seq)
        retention.catch_up()
        self.journal.subscribe(shipping)
        self.journal.subscribe(retention)
        (self.folder / STOP).unlink(missing_ok=True)
        try:
            progress = Progress(root.trials * root.repeat, str(self.plan.base["metric"]), str(self.plan.base["mode"]))
            progress.recall(record)
            with View(progress) as view:
                self.journal.subscribe(view)
                reason = self._train(concurrent, shipping)
        except BaseException as error:
            # Not closed: what is open is marked interrupted in MLflow, and the journal says how far every trial is.
            self._interrupted(error, shipping)
            if type(error).__module__.startswith("ray."):
                raise ResumableError(f"Ray failed ({error}); go on with:  {resume_command(self.folder)}") from error
            if isinstance(error, NotReadyError):
                raise ResumableError(f"{error}; then go on with:  {resume_command(self.folder)}") from error
            raise
        self.journal.commit()
        retention.finish()
        seconds = record.worked_ms / 1000 + time.monotonic() - start
        totals = {state.value: number for state, number in self.conductor.totals.items()}
        best = record.summaries()[:BEST_SHOWN]
        failpoint("closing.before")
        self.journal.append(SweepClosed(reason, totals, _best_of(best), seconds, retention.kept()), sync=True)
        failpoint("closing.after")
        status, waiting = shipping.finish(SHIP_TIMEOUT_S)
        return Result(
            uid=record.uid,
            folder=self.folder,
            totals=dict(self.conductor.totals),
            best=best,
            seconds=seconds,
            closed_for=reason,
            last_error=self.conductor.error,
            max_failed=root.max_failed,
            ship=status,
            waiting_events=waiting,
            report=verify(self.folder, own=True),
        )

    def _train(self, concurrent: int, shipping: Supervisor) -> str:
        """Trains until the conductor is done, the time is up or a stop is asked for; returns why it ended."""
        from orchestrator.scheduling.ray.tuner import run

        root, conductor = self.plan.root, self.conductor
        left_s = root.time_budget_s - conductor.record.spent_ms / 1000 if root.time_budget_s else float("inf")
        deadline = time.monotonic() + left_s
        stop_asked = False

        def step() -> None:
            nonlocal stop_asked
            shipping.keep_alive()
            self.cluster.check()
            stop_asked = stop_asked or (self.folder / STOP).exists()
            self.context.on_step()

        scratch = self.folder / TUNE
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            run(
                conductor,
                rungs=self.plan.part("scheduler").rungs(_epochs(self.plan)),
                cpus_per_trial=root.cpus_per_trial,
                gpus_per_trial=gpus_of(self.plan),
                concurrent=concurrent,
                own_cluster=self.plan.part("cluster").kind == "local",
                scratch=scratch,
                heartbeat_timeout_s=root.heartbeat_timeout_s,
                ended=lambda: stop_asked or time.monotonic() > deadline,
                on_step=step,
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        (self.folder / STOP).unlink(missing_ok=True)
        if not conductor.done:
            conductor.cancel_live("stopped" if stop_asked else "time budget")
            return "stopped" if stop_asked else "budget"
        configurations = {trial.config_index for trial in conductor.trials.values()}
        return "finished" if len(configurations) >= root.trials else "exhausted"

    def _interrupted(self, error: BaseException, shipping: Supervisor) -> None:
        with contextlib.suppress(NotReadyError):
            self.journal.commit()
        shipped = shipping.interrupt()
        if isinstance(error, KeyboardInterrupt):
            self.context.say(f"interrupted; nothing is lost. Go on with:  {resume_command(self.folder)}")
            if not shipped:
                self.context.say(
                    f"MLflow does not know yet:  orchestrator sync {self.folder.name}{runs_dir_option(self.folder)}"
                )


def resume_command(folder: Path) -> str:
    """What goes on with the sweep in `folder`."""
    return f"orchestrator resume {folder.name}{runs_dir_option(folder)}"


def _best_of(summaries: Sequence[Summary]) -> Best | None:
    """What the closing says of the best configuration."""
    if not summaries:
        return None
    first = summaries[0]
    return {
        "trial": first["trial"],
        "value": first["value"],
        "params": first["params"],
        "spread": first["spread"],
        "repeats": first["repeats"],
        "selected": first["selected"],
    }


def _trials(plan: SweepPlan) -> str:
    root = plan.root
    return f"{root.trials} trials" if root.repeat == 1 else f"{root.trials} configurations, {root.repeat} seeds each"


def _epochs(plan: SweepPlan) -> int:
    """The most epochs that a trial can have."""
    return max(int(plan.base["epochs"]), domain_max(plan.space, "epochs"))


def _create_folder(plan: SweepPlan) -> tuple[str, Path]:
    """A new identity and its folder."""
    base = slug(plan.root.name) if plan.root.name else time.strftime("sweep-%Y%m%d-%H%M%S")
    uid = f"{base}-{secrets.token_hex(4)}"
    folder = Path(plan.root.runs_dir).resolve() / uid
    try:
        (folder / TRIALS).mkdir(parents=True)
    except OSError as error:
        raise NotReadyError(f"runs_dir={plan.root.runs_dir} cannot be written ({error}); set runs_dir") from error
    return uid, folder


def _opening(
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
        folder=str(folder),
        plan=plan.to_json(),
        tracking=tracking,
        config=plan.base,
        space=[{"key": p.key, "domain": p.domain.describe(), "condition": p.condition} for p in plan.space.parameters],
        sampler=plan.sampler,
        scheduler=plan.scheduler,
        environment=environment() | {"command": shlex.join(context.command)},
        request=context.request,
    )
