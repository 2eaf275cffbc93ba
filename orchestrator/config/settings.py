"""What can be set about a sweep besides its trials: the root keys, tracking and cluster.

Each choice is a frozen dataclass that a YAML in `conf/<group>` names as `_target_`; its fields are what may be set, and
it raises ValueError for a value that is no use. The defaults of the root keys are in `conf/launch.yaml`. Samplers and
schedulers bring their own settings (orchestrator.scheduling).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from orchestrator.base.errors import Problem, nearest
from orchestrator.base.names import check_name
from orchestrator.base.records import METRICS

MAX_SEED = 2**32 - 1
PARTS = ("sampler", "scheduler", "tracking", "cluster")
"""The groups that say how a sweep runs, beside `records.GROUPS`, which say what a trial trains."""

SEARCHABLE = ("epochs", "batch_size", "seed", "precision")
"""The root keys that a search space may hold."""

TRIAL_KEYS = (
    "epochs", "batch_size", "seed", "metric", "mode", "precision", "device", "cpus_per_trial", "gpus_per_trial",
    "report_every_s", "data_cache", "allowed_targets",
)  # fmt: skip
"""The root keys that a trial's configuration holds."""


@dataclass(frozen=True)
class Settings:
    """The root keys of a sweep.

    Args:
        name: of the sweep; by time where absent.
        trials: at most; a grid has as many as it has points.
        max_concurrent: trials at a time; as many as fit where absent.
        gpus_per_trial: may be a fraction below 1; where absent one on a cluster with GPUs, unless `device` is the CPU, and none
            elsewhere.
        report_every_s: epochs shorter than this are reported together.
        max_retries: of a trial whose process died.
        repeat: so many trials of each configuration: the first with `seed`, the others with seeds derived from it.
        heartbeat_timeout_s: a trial without a heartbeat for this many seconds is killed and continues from its checkpoint; never
            where absent.
        keep_weights: the best weights of so many trials are kept, the best ones.
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
    gpus_per_trial: float | None = field(metadata={"least": 0})
    time_budget_s: float | None = field(metadata={"above": 0})
    runs_dir: str
    precision: Literal["auto", "fp32", "tf32", "bf16"]
    device: str
    report_every_s: float = field(metadata={"least": 0})
    max_retries: int = field(metadata={"least": 0, "most": 100})
    repeat: int = field(metadata={"least": 1, "most": 1_000})
    heartbeat_timeout_s: float | None = field(metadata={"above": 0})
    keep_weights: int = field(metadata={"least": 0, "most": 1_000_000})
    data_cache: str | None
    allowed_targets: list[str]


def settings_problems(values: Mapping[str, Any], wrong: Collection[str] = ()) -> list[Problem]:
    """What is wrong with root keys beyond their types; those in `wrong` have the wrong type and are left out."""
    sound = {name: value for name, value in values.items() if name not in wrong and value is not None}
    problems = []
    for name, declared in Settings.__dataclass_fields__.items():
        if name in sound and (why := _out_of_bounds(sound[name], **declared.metadata)):
            problems.append(Problem(name, why, sound[name]))
    if "name" in sound and (why := check_name(sound["name"])):
        problems.append(Problem("name", why, repr(sound["name"])))
    if (metric := sound.get("metric")) is not None:
        if metric not in METRICS:
            problems.append(Problem("metric", f"must be one of {', '.join(METRICS)}", metric, nearest(metric, METRICS)))
        elif sound.get("mode", METRICS[metric]) != METRICS[metric]:
            problems.append(Problem("mode", f"{metric} is better when {_DIRECTION[metric]}", sound["mode"]))
    if "device" in sound and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", sound["device"]):
        problems.append(Problem("device", "must be auto, cpu, cuda or cuda:N", sound["device"]))
    for name in ("cpus_per_trial", "gpus_per_trial"):
        if name in sound and sound[name] > 1 and sound[name] != int(sound[name]):
            problems.append(Problem(name, "must be whole above 1, or a fraction below", sound[name]))
    together = sound.get("trials", 0) * max(1, sound.get("repeat", 1))
    if "max_concurrent" in sound and sound["max_concurrent"] > together >= 1:
        why = f"is more than there are trials ({together})"
        problems.append(Problem("max_concurrent", why, sound["max_concurrent"]))
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
    """This machine."""

    kind: ClassVar[str] = "local"


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that runs already; `address` is `host:port` of its head, or `auto` on one of its nodes."""

    kind: ClassVar[str] = "ray"
    address: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|(ray://)?[\w.-]+:\d{1,5}", self.address):
            raise ValueError(f"address must be host:port or auto, got {self.address}")
