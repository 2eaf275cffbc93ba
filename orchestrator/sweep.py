"""The life of a sweep: from a checked plan to a closed journal. One of the few files that see several rooms."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.environment import environment
from orchestrator.errors import ConfigError, NotReadyError, Problem, ResumableError
from orchestrator.journal import FILE_NAME, Event, Journal, Reader
from orchestrator.names import slug
from orchestrator.plan import SweepPlan, domain_max, trial_config
from orchestrator.progress import Progress, View
from orchestrator.records import CAN_BE_BEST, State
from orchestrator.tracking.keeper import Keeper
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.status import ShipStatus

if TYPE_CHECKING:
    from orchestrator.scheduling.cluster import Node
    from orchestrator.scheduling.conductor import Conductor

SHIP_TIMEOUT_S = 60.0
"""How long the end of a sweep waits for MLflow; what is not shipped by then waits in the journal."""


@dataclass(frozen=True)
class Result:
    """What a sweep came to."""

    uid: str
    folder: Path
    totals: Mapping[State, int]
    best: list[dict[str, Any]]
    seconds: float
    closed_for: str
    last_error: str | None
    ship: ShipStatus | None
    waiting_events: int

    @property
    def has_result(self) -> bool:
        """Whether any trial gave a value that can be the best."""
        return bool(self.best)


def launch(
    plan: SweepPlan,
    *,
    command: Sequence[str] = (),
    tracking: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    import_ray: Callable[[], None] | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Result:
    """Runs the sweep of a checked plan from its first event to its last.

    Args:
        command: what the user typed, for the record.
        tracking: the checked tracking settings; they are checked here where absent.
        import_ray: waits for an import of Ray that was begun earlier.
        on_step: called several times a second in this thread; what it raises ends the sweep.

    Raises:
        ConfigError, NotReadyError: nothing was created, or (NotReadyError) the journal could not be written any more.
        ResumableError: Ray failed in mid-sweep; everything up to then is kept.
    """
    if tracking is None:
        tracking = check_tracking(plan.tracking, Path(plan.root.runs_dir), name=plan.root.name)
    if tracking.get("unreachable"):
        say(f"the sweep goes on without MLflow for now: {tracking['unreachable']}")
    if import_ray:
        import_ray()
    from orchestrator.scheduling.cluster import connect

    address = getattr(plan.part("cluster"), "address", None)
    with connect(address, preload="orchestrator.scheduling.warm") as nodes:
        concurrent = trials_at_a_time(plan, nodes)
        uid, folder = _create_folder(plan)
        say(f"sweep {uid}: {plan.root.trials} trials, {_epochs(plan)} epochs each at most, {concurrent} at a time")
        journal = Journal(folder / FILE_NAME, create=True)
        try:
            journal.append("sweep_opened", _opening(plan, uid, folder, tracking, command), sync=True)
            return _run(plan, uid, folder, journal, tracking, concurrent, on_step)
        except KeyboardInterrupt:
            say(f"stopped; what was trained is kept in {folder}")
            raise
        finally:
            journal.close()


def trials_at_a_time(plan: SweepPlan, nodes: Sequence[Node]) -> int:
    """How many trials the nodes hold, each as a whole on one of them, and the plan allows.

    Raises:
        NotReadyError: not even one fits.
    """
    root = plan.root
    room = sum(node.holds(root.cpus_per_trial, root.gpus_per_trial) for node in nodes)
    if room < 1:
        there = "; ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes) or "nothing"
        raise NotReadyError(
            f"a trial asks for {root.cpus_per_trial:g} CPUs and {root.gpus_per_trial:g} GPUs on one node, "
            f"the cluster has {there}; lower cpus_per_trial or gpus_per_trial"
        )
    return min(room, root.max_concurrent or room, root.trials)


def _run(
    plan: SweepPlan,
    uid: str,
    folder: Path,
    journal: Journal,
    tracking: Mapping[str, Any],
    concurrent: int,
    on_step: Callable[[], None],
) -> Result:
    from orchestrator.scheduling.conductor import Conductor

    root = plan.root
    metric, mode = str(plan.base["metric"]), str(plan.base["mode"])
    conductor = Conductor(
        uid=uid,
        journal=journal,
        sampler=plan.part("sampler").start(plan.space, seed=root.seed, mode=mode),
        limit=root.trials,
        configure=lambda params: trial_config(plan, params),
        folder=lambda index: str(folder / "trials" / f"{index:05d}"),
        concurrent=concurrent,
        prepare=plan.part("cluster").kind == "local",
        metric=metric,
        mode=mode,
    )
    start = time.monotonic()
    keeper = Keeper(folder, enabled=tracking["kind"] != "none")
    best = _BestTrials(mode)
    journal.subscribe(keeper)
    journal.subscribe(best)

    def step() -> None:
        keeper.keep_alive()
        on_step()

    try:
        with View(Progress(root.trials, metric, mode)) as view:
            journal.subscribe(view)
            reason = _train(plan, conductor, concurrent, mode, on_step=step)
    except BaseException as error:
        # Not closed: what is open is marked interrupted in MLflow, and the journal says how far every trial is.
        with contextlib.suppress(NotReadyError):
            journal.commit()
        keeper.interrupt()
        if type(error).__module__.startswith("ray."):
            raise ResumableError(f"Ray failed ({error}); what was trained until then is kept in {folder}") from error
        raise
    seconds = time.monotonic() - start
    totals = {state.value: number for state, number in conductor.totals.items()}
    closing = {"reason": reason, "totals": totals, "best": best.first(), "seconds": seconds}
    journal.append("sweep_closed", closing, sync=True)
    status, waiting = keeper.finish(SHIP_TIMEOUT_S)
    return Result(uid, folder, dict(conductor.totals), best.rows, seconds, reason, conductor.error, status, waiting)


def _train(plan: SweepPlan, conductor: Conductor, concurrent: int, mode: str, *, on_step: Callable[[], None]) -> str:
    """Trains until the conductor is done or the time is up; returns why it ended."""
    from orchestrator.scheduling.tuner import run

    root = plan.root
    deadline = time.monotonic() + root.time_budget_s if root.time_budget_s else float("inf")
    run(
        conductor,
        scheduler=plan.part("scheduler"),
        mode=mode,
        epochs=_epochs(plan),
        cpus_per_trial=root.cpus_per_trial,
        gpus_per_trial=root.gpus_per_trial,
        concurrent=concurrent,
        max_retries=root.max_retries,
        own_cluster=plan.part("cluster").kind == "local",
        out_of_time=lambda: time.monotonic() > deadline,
        on_step=on_step,
    )
    if not conductor.done:
        conductor.cancel_live("time budget")
        return "budget"
    return "finished" if sum(conductor.totals.values()) == root.trials else "exhausted"


def _epochs(plan: SweepPlan) -> int:
    """The most epochs that a trial can have."""
    return max(int(plan.base["epochs"]), domain_max(plan.space, "epochs"))


def _create_folder(plan: SweepPlan) -> tuple[str, Path]:
    """A new identity and its folder."""
    base = slug(plan.root.name) if plan.root.name else time.strftime("sweep-%Y%m%d-%H%M%S")
    uid = f"{base}-{secrets.token_hex(4)}"
    folder = Path(plan.root.runs_dir).resolve() / uid
    try:
        (folder / "trials").mkdir(parents=True)
    except OSError as error:
        raise NotReadyError(f"runs_dir={plan.root.runs_dir} cannot be written ({error}); set runs_dir") from error
    return uid, folder


def _opening(
    plan: SweepPlan, uid: str, folder: Path, tracking: Mapping[str, Any], command: Sequence[str]
) -> dict[str, Any]:
    """What the journal opens with: everything that a reader, or a resume, needs to know of the sweep."""
    root = plan.root
    return {
        "uid": uid,
        "name": root.name or uid.rsplit("-", 1)[0],
        "metric": plan.base["metric"],
        "mode": plan.base["mode"],
        "trials": root.trials,
        "folder": str(folder),
        "config": dict(plan.base),
        "space": [
            {"key": p.key, "domain": p.domain.describe(), "condition": p.condition} for p in plan.space.parameters
        ],
        "sampler": dict(plan.sampler),
        "scheduler": dict(plan.scheduler),
        "tracking": dict(tracking),
        "environment": environment() | {"command": shlex.join(command)},
        "plan": plan.to_json(),
    }


class _BestTrials:
    """Keeps the best trials of the events that it hears; ties go to the lower index."""

    def __init__(self, mode: str, keep: int = 5) -> None:
        self._sign = -1.0 if mode == "max" else 1.0
        self._keep = keep
        self._params: dict[int, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        if event.kind == "suggested" and event.trial is not None:
            self._params[event.trial] = event.data["params"]
        if event.kind != "terminal" or event.trial is None:
            return
        params = self._params.pop(event.trial, {})
        value = event.data["value"]
        if State(event.data["state"]) in CAN_BE_BEST and isinstance(value, float):
            self.rows.append(
                {
                    "trial": event.trial,
                    "value": value,
                    "epoch": event.data["best_epoch"],
                    "params": params,
                    "metrics": event.data["metrics"],
                }
            )
            self.rows.sort(key=lambda row: (self._sign * row["value"], row["trial"]))
            del self.rows[self._keep :]

    def first(self) -> dict[str, Any] | None:
        return {k: self.rows[0][k] for k in ("trial", "value", "params")} if self.rows else None


def find_sweep(runs_dir: Path, name: str) -> Path:
    """The folder of the sweep with the identity `name`, or of the newest one of that name.

    Raises:
        ConfigError: none is; lists the nearest.
    """
    folders = sweeps_in(runs_dir)
    exact = [path for path in folders if path.name == name]
    named = [path for path in folders if path.name.rsplit("-", 1)[0] in (name, slug(name))]
    if found := exact or named:
        return found[0]
    there = ", ".join(path.name for path in folders[:5]) or "none"
    raise ConfigError(Problem("NAME", f"no sweep of that name in {runs_dir}; newest there: {there}", name))


def sweeps_in(runs_dir: Path) -> list[Path]:
    """The folders of all sweeps there, the newest first."""
    folders = [path for path in runs_dir.glob("*") if (path / FILE_NAME).is_file()] if runs_dir.is_dir() else []
    return sorted(folders, key=lambda path: (path / FILE_NAME).stat().st_mtime, reverse=True)


def tracked_in(runs_dir: Path) -> Mapping[str, Any]:
    """The tracking settings of the newest sweep there; empty where there is none."""
    for folder in sweeps_in(runs_dir):
        with contextlib.closing(Reader(folder / FILE_NAME)) as reader:
            for event in reader.events(limit=1):
                settings: Mapping[str, Any] = event.data["tracking"]
                if settings.get("uri"):
                    return settings
    return {}
