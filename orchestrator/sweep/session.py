"""One driver's time with a sweep, be it launched or resumed: from its first step to the closed journal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.claims import Verdict, verdicts
from orchestrator.analysis.findings import Findings, findings
from orchestrator.analysis.predicted import predictions_in
from orchestrator.base.errors import NotReadyError, ResumableError
from orchestrator.base.failpoints import failpoint
from orchestrator.base.layout import LOCK, STOP, TUNE, trial_folder
from orchestrator.base.locks import DRIVING, hold
from orchestrator.base.records import State
from orchestrator.base.removal import RefusedRemovalError, opened_below
from orchestrator.base.rights import in_force
from orchestrator.base.rules import repeat_seed
from orchestrator.config.machine import cpus, gpus, memory_bytes
from orchestrator.config.plan import SweepPlan, domain_max, trial_config
from orchestrator.config.resuming import placed
from orchestrator.config.rights import retyped
from orchestrator.journal.cursor import ShipStatus
from orchestrator.journal.events import SweepClosed
from orchestrator.journal.file import Journal
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.marking import is_sweep
from orchestrator.journal.parts import Best
from orchestrator.journal.place import located_tracking
from orchestrator.journal.record import Summary, SweepRecord, read_sweep
from orchestrator.stores.opening import local_path
from orchestrator.sweep.diagnoses import publish_diagnoses
from orchestrator.sweep.published import publish_model, remove_superseded
from orchestrator.sweep.reporting import Reporting
from orchestrator.sweep.resources import gpus_of
from orchestrator.sweep.retention import Retention
from orchestrator.sweep.terminal import Progress, View
from orchestrator.sweep.watching import FolderWatch, watched
from orchestrator.tracking.describe import claim_tags, note
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.supervisor import Supervisor
from orchestrator.tracking.trial_notes import trial_notes
from orchestrator.verify import Report, verify

if TYPE_CHECKING:
    from orchestrator.scheduling.conductor import Conductor
    from orchestrator.scheduling.ray.cluster import Cluster

SHIP_TIMEOUT_S = 60.0
"""How long the end of a sweep waits for MLflow; what is not shipped by then waits in the journal."""

BEST_SHOWN = 5


@dataclass(frozen=True)
class Result:
    """What a sweep came to.

    Args:
        report: what checking its records gave.
        claims: what the claims of its experiment came to.
        page: where its report for people lies; None where there is none.
        mlflow: address of the store; None where the sweep is not tracked.
        diverged: the first trial that diverged; None where none did.
    """

    uid: str
    folder: Path
    totals: Mapping[State, int]
    best: list[Summary]
    found: Findings
    mlflow: str | None
    seconds: float
    closed_for: str
    last_error: str | None
    max_failed: float
    ship: ShipStatus | None
    waiting_events: int
    report: Report
    claims: Sequence[Verdict] = ()
    page: Path | None = None
    diverged: int | None = None

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


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """The sweep is this process' own for as long as the block lasts.

    Raises:
        RunningElsewhereError: it is another's.
    """
    with hold(folder / LOCK, f"{DRIVING} {folder.name}"):
        yield


@contextlib.contextmanager
def connected_cluster(plan: SweepPlan, context: DriverContext) -> Iterator[Cluster]:
    context.import_ray()
    from orchestrator.scheduling.ray.cluster import connect

    address = getattr(plan.part("cluster"), "address", None)
    here = {} if address else {"cpus": cpus(), "gpus": gpus(), "memory_bytes": memory_bytes()}
    with connect(address, preload="orchestrator.scheduling.ray.warm", **here) as cluster:
        yield cluster


def checked_tracking(
    plan: SweepPlan, runs_dir: Path, context: DriverContext, sweep: str | None = None
) -> Mapping[str, Any]:
    """The checked settings of a sweep that is launched, or of the one with this uid that goes on."""
    tracking = context.tracking
    if tracking is None:
        tracking = check_tracking(plan.tracking, runs_dir, name=plan.root.name, sweep=sweep)
    if tracking.get("unreachable"):
        context.say(f"the sweep goes on without MLflow for now: {tracking['unreachable']}")
    return tracking


def make_conductor(plan: SweepPlan, folder: Path, journal: Journal, concurrent: int, first: int = 0) -> Conductor:
    from orchestrator.scheduling.conductor import Conductor

    root, mode, epochs = plan.root, str(plan.base["mode"]), most_epochs(plan)
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
        max_retries=root.max_retries,
        repeat=root.repeat,
        seed_of=partial(repeat_seed, rules=plan.rules),
        rungs=scheduler.rungs(epochs),
        placed=partial(placed, plan),
        fits=lambda params: not plan.space.contains(params),
    )


@dataclass
class Session:
    """One driver's time with a sweep, from its first step to the closed journal."""

    plan: SweepPlan
    folder: Path
    journal: Journal
    conductor: Conductor
    tracking: Mapping[str, Any]
    context: DriverContext
    cluster: Cluster

    def run(self, concurrent: int) -> Result:
        with watched(self.folder) as watch:
            try:
                return self._run(concurrent, watch)
            except (NotReadyError, ResumableError, OSError):
                watch.check()  # what failed may be no more than the folder that is gone
                raise

    def _run(self, concurrent: int, watch: FolderWatch) -> Result:
        if self.cluster.head:
            self.cluster.head.last_words = f"; then go on with:  {resume_command(self.folder)}"
        record, root = self.conductor.record, self.plan.root
        start = time.monotonic()
        shipping = Supervisor(
            self.folder,
            enabled=self.tracking["kind"] != "none",
            early=local_path(self.tracking) is None,
        )
        retention = Retention(self.folder, record, root.keep_weights, lambda: self.journal.durable_seq)
        retention.catch_up()
        reporting = Reporting(
            self.folder, self.journal, record, enabled=self.tracking["kind"] != "none", say=self.context.say
        )
        self.journal.subscribe(shipping)
        self.journal.subscribe(retention)
        self.journal.subscribe(reporting)
        _remove_request(self.folder)
        self.journal.append(note(record, self.folder))
        try:
            progress = self._progress(concurrent)
            with View(progress, folder=self.folder) as view:
                self.journal.subscribe(view)
                reason = self._train(concurrent, shipping, reporting, watch)
            watch.check()
            self.journal.commit()
            retention.finish()
            seconds = record.worked_ms / 1000 + time.monotonic() - start
            best = record.summaries()[:BEST_SHOWN]
            found, claims = self._close(reason, best, seconds, retention)
        except BaseException as error:
            # Not closed: what is open is marked interrupted in MLflow, and the journal says how far every trial is.
            reporting.stop()
            self._interrupted(error, shipping)
            if type(error).__module__.startswith("ray."):
                raise ResumableError(f"Ray failed ({error}); go on with:  {resume_command(self.folder)}") from error
            if isinstance(error, NotReadyError):
                raise ResumableError(f"{error}; then go on with:  {resume_command(self.folder)}") from error
            raise
        publish_diagnoses(self.folder, record, self.journal, self.context.say)
        page = reporting.finish()
        remove_superseded(self.folder, record)
        status, waiting = shipping.finish(SHIP_TIMEOUT_S)
        return Result(
            uid=record.uid,
            folder=self.folder,
            totals=dict(self.conductor.totals),
            best=best,
            found=found,
            mlflow=located_tracking(record.opened, self.folder).get("uri"),
            seconds=seconds,
            closed_for=reason,
            last_error=self.conductor.error,
            max_failed=root.max_failed,
            ship=status,
            waiting_events=waiting,
            claims=claims,
            page=page,
            diverged=min((t.index for t in record.trials.values() if t.state is State.DIVERGED), default=None),
            report=verify(self.folder, own=True),
        )

    def _close(
        self, reason: str, best: Sequence[Summary], seconds: float, retention: Retention
    ) -> tuple[Findings, list[Verdict]]:
        """Publishes what the sweep found, and closes it.

        Args:
            reason: why no more is trained.
            best: the best configurations.
            seconds: how long the sweep was worked on.
        """
        record, totals = self.conductor.record, {state.value: number for state, number in self.conductor.totals.items()}
        if failed := publish_model(self.folder, record, self.journal):
            self.context.say(f"the best trial could not be published as a model: {failed}")
        failpoint("closing.before")
        closed = SweepClosed(reason, totals, best_of(best), seconds, retention.kept())
        found = findings(record, self.folder)
        claims = self._claims(reason) if self.plan.claims else []
        self.journal.append(note(record, self.folder, closed, found, claims))
        for event in claim_tags(record.uid, claims):
            self.journal.append(event)
        for event in trial_notes(record):
            self.journal.append(event)
        self.journal.append(closed, sync=True)
        failpoint("closing.after")
        return found, claims

    def _claims(self, reason: str) -> list[Verdict]:
        record = read_sweep(self.folder, keep_epochs=True)
        return verdicts(record, closed_for=reason, predictions=predictions_in(self.folder, record))

    def _progress(self, concurrent: int) -> Progress:
        root, base = self.plan.root, self.plan.base
        rungs = self.plan.part("scheduler").rungs(most_epochs(self.plan))
        progress = Progress(
            root.trials,
            str(base["metric"]),
            str(base["mode"]),
            repeat=root.repeat,
            judged=bool(rungs),
            workers=concurrent,
        )
        progress.recall(self.conductor.record)
        if root.time_budget_s:
            progress.timing.deadline_s = time.monotonic() + self._budget_left_s
        return progress

    @property
    def _budget_left_s(self) -> float:
        root = self.plan.root
        return root.time_budget_s - self.conductor.record.spent_ms / 1000 if root.time_budget_s else float("inf")

    def _train(self, concurrent: int, shipping: Supervisor, reporting: Reporting, watch: FolderWatch) -> str:
        """Trains until the conductor is done, the time is up or a stop is asked for; returns why it ended."""
        from orchestrator.scheduling.ray.tuner import run

        root, conductor = self.plan.root, self.conductor
        deadline = time.monotonic() + self._budget_left_s
        stop_asked = False

        def step() -> None:
            nonlocal stop_asked
            watch.check()
            shipping.keep_alive()
            reporting.step()
            self.cluster.check()
            self.journal.check_disk()
            stop_asked = stop_asked or (self.folder / STOP).exists()
            self.context.on_step()

        _remove_scratch(self.folder)
        try:
            run(
                conductor,
                rungs=self.plan.part("scheduler").rungs(most_epochs(self.plan)),
                cpus_per_trial=root.cpus_per_trial,
                gpus_per_trial=gpus_of(self.plan),
                concurrent=concurrent,
                own_cluster=self.plan.part("cluster").kind == "local",
                scratch=self.folder / TUNE,
                heartbeat_timeout_s=root.heartbeat_timeout_s,
                ended=lambda: stop_asked or time.monotonic() > deadline,
                on_step=step,
            )
        finally:
            _remove_scratch(self.folder)
        _remove_request(self.folder)
        if not conductor.done:
            conductor.cancel_live("stopped" if stop_asked else "time budget")
            return "stopped" if stop_asked else "budget"
        configurations = {trial.config_index for trial in conductor.trials.values()}
        return "finished" if len(configurations) >= root.trials else "exhausted"

    def _interrupted(self, error: BaseException, shipping: Supervisor) -> None:
        with contextlib.suppress(NotReadyError):
            self.journal.commit(wait=False)
        shipped = shipping.interrupt()
        if isinstance(error, KeyboardInterrupt):
            self.context.say(f"interrupted; nothing is lost. Go on with:  {resume_command(self.folder)}")
            if not shipped:
                self.context.say(
                    f"MLflow does not know yet:  orchestrator sync {self.folder.name}{runs_dir_option(self.folder)}"
                )


def _remove_scratch(folder: Path) -> None:
    """Removes what Ray Tune keeps in the sweep's folder, as far as that is possible now."""
    with contextlib.suppress(OSError, RefusedRemovalError), opened_below(folder) as sweep:
        sweep.remove_tree(TUNE, lambda scratch: is_sweep(sweep))


def _remove_request(folder: Path) -> None:
    """Forgets that the sweep was asked to stop."""
    with contextlib.suppress(FileNotFoundError), opened_below(folder) as sweep:
        sweep.remove_file(STOP)


def resume_command(folder: Path) -> str:
    """What goes on with the sweep in `folder`."""
    return f"orchestrator resume {folder.name}{runs_dir_option(folder)}{retyped(in_force())}"


def best_of(summaries: Sequence[Summary]) -> Best | None:
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


def spell_trials(plan: SweepPlan) -> str:
    root = plan.root
    return f"{root.trials} trials" if root.repeat == 1 else f"{root.trials} configurations, {root.repeat} seeds each"


def most_epochs(plan: SweepPlan) -> int:
    """The most epochs that a trial can have."""
    return max(int(plan.base["epochs"]), domain_max(plan.space, "epochs"))
