"""The life of a sweep: from a checked plan to a closed journal. One of the few files that see several rooms."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, NotReadyError, Problem
from orchestrator.journal import FILE_NAME, Event, Journal
from orchestrator.names import slug
from orchestrator.plan import SweepPlan, domain_max, trial_config
from orchestrator.progress import Progress, View
from orchestrator.records import CAN_BE_BEST, State
from orchestrator.tracking.preflight import check_tracking
from orchestrator.tracking.status import ShipStatus, start_shipper, wait_until_shipped

SHIP_TIMEOUT_S = 60.0
"""How long the end of a sweep waits for MLflow; what is not shipped by then waits in the journal."""

SHIPPER_RESTARTS = 5


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
        return any(self.totals.get(state) for state in CAN_BE_BEST)


def launch(
    plan: SweepPlan,
    *,
    command: Sequence[str] = (),
    say: Callable[[str], None] = print,
    import_ray: Callable[[], None] | None = None,
) -> Result:
    """Runs the sweep of a checked plan from its first event to its last.

    Args:
        command: what the user typed, for the record.
        import_ray: waits for an import of Ray that was begun earlier.

    Raises:
        ConfigError, NotReadyError: nothing was created.
    """
    tracking = check_tracking(plan.tracking, Path(plan.root.runs_dir), name=plan.root.name)
    cluster = plan.part("cluster")
    uid, folder = _create_folder(plan)
    say(f"sweep {uid}: {plan.root.trials} trials, {plan.base['epochs']} epochs each at most")
    if import_ray:
        import_ray()
    from orchestrator.scheduling.cluster import connect

    journal = Journal(folder / FILE_NAME, create=True)
    try:
        journal.append("sweep_opened", _opening(plan, uid, folder, tracking, command), sync=True)
        with connect(getattr(cluster, "address", None), preload="orchestrator.scheduling.warm") as resources:
            say(f"ray is up: {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
            return _run(plan, uid, folder, journal, tracking, resources)
    except NotReadyError:
        journal.append("sweep_closed", {"reason": "failed", "totals": {}, "best": None, "seconds": 0.0})
        raise
    finally:
        journal.close()


def trials_at_a_time(plan: SweepPlan, cpus: float, gpus: float) -> int:
    """How many trials the resources hold, and the plan allows.

    Raises:
        NotReadyError: not even one fits.
    """
    root = plan.root
    fits = [cpus / root.cpus_per_trial]
    if root.gpus_per_trial:
        fits.append(gpus / root.gpus_per_trial)
    room = int(min(fits) + 1e-9)
    if room < 1:
        raise NotReadyError(
            f"a trial asks for {root.cpus_per_trial:g} CPUs and {root.gpus_per_trial:g} GPUs, "
            f"the cluster has {cpus:g} and {gpus:g}; lower cpus_per_trial or gpus_per_trial"
        )
    return min(room, root.max_concurrent or room, root.trials)


def _run(
    plan: SweepPlan, uid: str, folder: Path, journal: Journal, tracking: Mapping[str, Any], resources: Any
) -> Result:
    from orchestrator.scheduling.conductor import Conductor
    from orchestrator.scheduling.tuner import run

    root = plan.root
    metric, mode = str(plan.base["metric"]), str(plan.base["mode"])
    concurrent = trials_at_a_time(plan, resources.cpus, resources.gpus)
    conductor = Conductor(
        uid=uid,
        journal=journal,
        sampler=plan.part("sampler").start(plan.space, seed=root.seed, mode=mode),
        limit=root.trials,
        configure=lambda params: trial_config(plan, params),
        folder=lambda index: str(folder / "trials" / f"{index:05d}"),
        concurrent=concurrent,
        metric=metric,
        mode=mode,
    )
    start = time.monotonic()
    deadline = start + root.time_budget_s if root.time_budget_s else float("inf")
    shipper = _Shipper(folder, enabled=tracking["kind"] != "none")
    best = _BestTrials(mode)
    journal.subscribe(shipper)
    journal.subscribe(best)
    reason = "failed"
    try:
        with View(Progress(root.trials, metric, mode)) as view:
            journal.subscribe(view)
            run(
                conductor,
                scheduler=plan.part("scheduler"),
                mode=mode,
                epochs=max(int(plan.base["epochs"]), domain_max(plan.space, "epochs")),
                cpus_per_trial=root.cpus_per_trial,
                gpus_per_trial=root.gpus_per_trial,
                concurrent=concurrent,
                max_retries=root.max_retries,
                own_cluster=plan.part("cluster").kind == "local",
                out_of_time=lambda: time.monotonic() > deadline,
                on_step=shipper.keep_alive,
            )
            reason = "finished" if conductor.done else "budget"
            conductor.cancel_live("time budget")
        if reason == "finished" and sum(conductor.totals.values()) < root.trials:
            reason = "exhausted"
    except KeyboardInterrupt:
        reason = "interrupted"
        raise
    finally:
        seconds = time.monotonic() - start
        closing = {
            "reason": reason,
            "totals": {state.value: number for state, number in conductor.totals.items()},
            "best": best.first(),
            "seconds": seconds,
        }
        if reason != "interrupted":
            journal.append("sweep_closed", closing)
        journal.commit()
        if reason == "interrupted":
            shipper.stop()
    status, waiting = shipper.finish(SHIP_TIMEOUT_S)
    return Result(uid, folder, dict(conductor.totals), best.rows, seconds, reason, conductor.error, status, waiting)


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


def environment() -> dict[str, Any]:
    """Code version, library versions and hardware."""
    libraries = ("torch", "torchvision", "ray", "mlflow", "hydra-core", "optuna", "numpy")
    versions = {name: importlib.metadata.version(name) for name in libraries}
    return {
        "code": _code_version(),
        "python": platform.python_version(),
        "libraries": versions,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def _code_version() -> str:
    """The package's version, with the commit where it runs from a git checkout."""
    version = importlib.metadata.version("orchestrator")
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return version
    described = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return f"{version}+{described.stdout.strip()}" if described.returncode == 0 else version


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


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


class _Shipper:
    """The process that ships the journal to MLflow: started with the first result, started again when it dies.

    Nothing of the sweep waits for it until the end.
    """

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self._folder, self._enabled = folder, enabled
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def __call__(self, event: Event) -> None:
        if event.kind in ("reported", "terminal") and self._process is None:
            self._start()

    def keep_alive(self) -> None:
        """Starts the process again where it died."""
        if self._process is not None and self._process.poll() is not None and self._starts <= SHIPPER_RESTARTS:
            self._start()

    def stop(self) -> None:
        """Lets it ship what is committed, and mark what is open as interrupted."""
        if self._process:
            self._process.terminate()

    def finish(self, timeout_s: float) -> tuple[ShipStatus | None, int]:
        """How far MLflow is once everything is shipped or the time is up, and how many events wait."""
        if not self._enabled:
            return None, 0
        if self._process is None or self._process.poll() is not None:
            self._start()
        status = wait_until_shipped(self._folder, timeout_s)
        waiting = _last_seq(self._folder) - status.shipped
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return status, waiting

    def _start(self) -> None:
        if self._enabled:
            self._starts += 1
            self._process = start_shipper(self._folder)


def _last_seq(folder: Path) -> int:
    from orchestrator.journal import Reader

    reader = Reader(folder / FILE_NAME)
    try:
        return reader.last_seq()
    finally:
        reader.close()


def find_sweep(runs_dir: Path, name: str) -> Path:
    """The folder of the newest sweep that is called `name`, or of the one whose identity begins with it.

    Raises:
        ConfigError: none is; lists the nearest.
    """
    folders = [path for path in runs_dir.glob("*") if (path / FILE_NAME).is_file()] if runs_dir.is_dir() else []
    exact = [path for path in folders if path.name == name]
    named = [path for path in folders if path.name.rsplit("-", 1)[0] in (name, slug(name))]
    if found := exact or named:
        return max(found, key=lambda path: (path / FILE_NAME).stat().st_mtime)
    newest = sorted(folders, key=lambda path: (path / FILE_NAME).stat().st_mtime, reverse=True)[:5]
    there = ", ".join(path.name for path in newest) or "none"
    raise ConfigError(Problem("NAME", f"no sweep of that name in {runs_dir}; newest there: {there}", name))
