"""What can be set about a sweep besides its trials: the root keys, and the choices of sampler, scheduler, tracking and
cluster.

Each choice is a frozen dataclass that a YAML in `conf/<group>` names as `_target_`; its fields are what may be set, and
it raises ValueError for a value that is no use. The defaults of the root keys are in `conf/launch.yaml`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from orchestrator.errors import Problem
from orchestrator.names import check_name
from orchestrator.records import METRICS

MAX_SEED = 2**32 - 1
GRID_LIMIT = 10_000


@dataclass(frozen=True)
class Settings:
    """The root keys of a sweep.

    Args:
        name: of the sweep; by time where absent.
        trials: at most; a grid has as many as it has points.
        max_concurrent: trials at a time; as many as fit where absent.
        gpus_per_trial: may be a fraction.
        report_every_s: epochs shorter than this are reported together.
        max_retries: of a trial whose process died.
        debug: tracebacks with the messages.
    """

    name: str | None
    trials: int = field(metadata={"least": 1, "most": 1_000_000})
    epochs: int = field(metadata={"least": 1, "most": 1_000_000})
    batch_size: int = field(metadata={"least": 1, "most": 1_000_000})
    seed: int = field(metadata={"least": 0, "most": MAX_SEED})
    metric: str
    mode: Literal["max", "min"] | None
    max_concurrent: int | None = field(metadata={"least": 1})
    cpus_per_trial: float = field(metadata={"above": 0})
    gpus_per_trial: float = field(metadata={"least": 0})
    time_budget_s: float | None = field(metadata={"above": 0})
    runs_dir: str
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    device: str
    report_every_s: float = field(metadata={"least": 0})
    max_retries: int = field(metadata={"least": 0, "most": 100})
    data_cache: str | None
    allowed_targets: list[str]
    allow_huge_grid: bool
    debug: bool


def settings_problems(values: dict[str, Any]) -> list[Problem]:
    """What is wrong with root keys of the right types, beyond their types."""
    problems = []
    for name, declared in Settings.__dataclass_fields__.items():
        value = values[name]
        if value is not None and (why := _out_of_bounds(value, **declared.metadata)):
            problems.append(Problem(name, why, value))
    if values["name"] is not None and (why := check_name(values["name"])):
        problems.append(Problem("name", why, repr(values["name"])))
    if values["metric"] not in METRICS:
        problems.append(Problem("metric", f"must be one of {', '.join(METRICS)}", values["metric"]))
    elif values["mode"] not in (None, METRICS[values["metric"]]):
        problems.append(
            Problem("mode", f"{values['metric']} is better when {_DIRECTION[values['metric']]}", values["mode"])
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", values["device"]):
        problems.append(Problem("device", "must be auto, cpu, cuda or cuda:N", values["device"]))
    for name in ("cpus_per_trial", "gpus_per_trial"):
        if values[name] > 1 and values[name] != int(values[name]):
            problems.append(Problem(name, "must be whole above 1, or a fraction below", values[name]))
    if (concurrent := values["max_concurrent"]) is not None and concurrent > values["trials"] >= 1:
        problems.append(Problem("max_concurrent", f"is more than there are trials ({values['trials']})", concurrent))
    return problems


_DIRECTION = {metric: {"max": "higher (mode=max)", "min": "lower (mode=min)"}[mode] for metric, mode in METRICS.items()}


def _out_of_bounds(
    value: float, least: float | None = None, most: float | None = None, above: float | None = None
) -> str | None:
    if least is not None and value < least:
        return f"must be at least {least}"
    if above is not None and value <= above:
        return f"must be above {above}"
    if most is not None and value > most:
        return f"must be at most {most:,}"
    return None


# samplers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Random:
    """Independent uniform draws; on a log scale where the domain says so."""

    kind: ClassVar[str] = "random"


@dataclass(frozen=True)
class Grid:
    """Every combination. `points` for each interval; an interval without it is refused."""

    kind: ClassVar[str] = "grid"
    points: int | None = None

    def __post_init__(self) -> None:
        _at_least(1, points=self.points)


@dataclass(frozen=True)
class Sobol:
    """A scrambled Sobol sequence: as random, but evenly spread over the space."""

    kind: ClassVar[str] = "sobol"


@dataclass(frozen=True)
class Tpe:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), after `startup_trials` random ones."""

    kind: ClassVar[str] = "tpe"
    startup_trials: int = 10
    candidates: int = 24

    def __post_init__(self) -> None:
        _at_least(1, startup_trials=self.startup_trials, candidates=self.candidates)


# schedulers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoScheduler:
    """Every trial runs to its last epoch."""

    kind: ClassVar[str] = "none"

    def rungs(self, epochs: int) -> list[int]:
        return []


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2018): at each rung the best 1/reduction_factor of the trials go on.

    Args:
        grace_epochs: the first rung; no trial stops before it.
    """

    kind: ClassVar[str] = "asha"
    grace_epochs: int = 1
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        _at_least(1, grace_epochs=self.grace_epochs)
        _at_least(2, reduction_factor=self.reduction_factor)

    def rungs(self, epochs: int) -> list[int]:
        """The epochs below `epochs` at which trials are compared."""
        found, rung = [], self.grace_epochs
        while rung < epochs:
            found.append(rung)
            rung *= self.reduction_factor
        return found


# tracking ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalTracking:
    """MLflow on a database of its own.

    Args:
        uri: `sqlite:///<absolute path>`; mlflow.db in runs_dir where absent.
        artifacts: the absolute folder of the artifacts; beside the database where absent.
        experiment: the name of the MLflow experiment; the sweep's where absent.
    """

    kind: ClassVar[str] = "local"
    uri: str | None = None
    artifacts: str | None = None
    experiment: str | None = None

    def __post_init__(self) -> None:
        if self.uri is not None:
            check_database_uri(self.uri)
        if self.artifacts is not None and not self.artifacts.startswith("/"):
            raise ValueError(f"artifacts must be an absolute folder, got {self.artifacts}")


@dataclass(frozen=True)
class ServerTracking:
    """An MLflow server that runs already.

    Args:
        required: an unreachable server at the start is an error; otherwise what waits is shipped later.
    """

    kind: ClassVar[str] = "server"
    uri: str
    required: bool = True
    experiment: str | None = None

    def __post_init__(self) -> None:
        check_server_uri(self.uri)


@dataclass(frozen=True)
class NoTracking:
    """The journal alone; `orchestrator sync` can ship it later."""

    kind: ClassVar[str] = "none"


def check_server_uri(uri: str) -> None:
    """Raise ValueError unless `uri` is `http(s)://host[:port]`."""
    parts = _split(uri)
    if parts.scheme in ("sqlite", "file", "postgresql", "mysql", "mssql", "postgres"):
        raise ValueError(
            f"uri must be the address of an MLflow server (http://host:5000), got {masked(uri)}; a database is"
            " tracking=local, or what the server itself is started with"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"uri must start with http:// or https:// and name a host, got {masked(uri)}")


def check_database_uri(uri: str) -> None:
    """Raise ValueError unless `uri` is a SQLite file with an absolute path."""
    parts = _split(uri)
    if parts.scheme in ("http", "https"):
        raise ValueError(f"uri is a server's: use tracking=server tracking.uri={masked(uri)}")
    if parts.scheme != "sqlite":
        raise ValueError(f"uri must be sqlite:///<absolute path>, got {masked(uri)} (MLflow's file store is gone)")
    if not uri.startswith("sqlite:////") or not parts.path.strip("/"):
        raise ValueError(f"uri must name an absolute path, with four slashes: sqlite:////path/mlflow.db, got {uri}")


def masked(uri: str) -> str:
    """A URI without the password that it may carry."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", uri)


def _split(uri: str) -> Any:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"uri {masked(uri)} cannot be read: {error}") from error
    return parts


# clusters ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalCluster:
    """This machine, with all its processors or `cpus` of them."""

    kind: ClassVar[str] = "local"
    cpus: int | None = None

    def __post_init__(self) -> None:
        _at_least(1, cpus=self.cpus)


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that runs already; `address` is `host:port` of its head, or `auto` on one of its nodes."""

    kind: ClassVar[str] = "ray"
    address: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|(ray://)?[\w.-]+:\d{1,5}", self.address):
            raise ValueError(f"address must be host:port or auto, got {self.address}")


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
