"""Runs as MLflow keeps them: what is written to one, what is read back, and the rules for names and values."""

from __future__ import annotations

import functools
import getpass
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard, TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")

MAX_PARAM_LENGTH = 6_000
MAX_TAG_LENGTH = 8_000
MAX_NAME_LENGTH = 250
MAX_DIGEST_LENGTH = 36
MAX_DATASET_NAME_LENGTH = 500

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's UI then opens the experiment on its runs; without it, on what it has for language models."""

STORE_ID_TAG = "orchestrator.store_id"
"""A tag of the experiments in the local store of a runs folder: the id that both carry."""

VIEW_TAG = "mlflow.sharedViewState."
"""What the tag of an experiment begins with that holds a view of its page; the key of the view follows."""

CONTEXT_TAG = "mlflow.data.context"
"""A tag of a run's data set: what it is for."""

HOLDER_TAG = "orchestrator.holder"
"""A tag of a sweep's run in any other store: the runs folder that ships the sweep, see `stores.holding`."""

REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""MLflow's error codes that a repetition does not change. BAD_REQUEST is none: it stands for most errors of the database."""


class UnavailableError(Exception):
    """The store cannot take the write now (unreachable, locked, disk full): try the same write again."""


class RefusedError(Exception):
    """The store will never take the write (a deleted run, a value against its rules): do not try again."""


class Metric(NamedTuple):
    """One number. MLflow stores an equal (key, step, time, value) once, so it may be sent again.

    A value that was read back is NaN where the store says so; none is ever written.
    """

    key: str
    step: int
    time_ms: int
    value: float


@dataclass(frozen=True)
class Artifact:
    """A file of a run: a copy of `path`, or `text`.

    Args:
        is_replaced: whether a later version takes its place, so that nothing is wrong where the file is gone.
    """

    name: str
    path: Path | None = None
    text: str | None = None
    is_replaced: Callable[[], bool] = field(default=lambda: False, compare=False)

    @property
    def is_gone(self) -> bool:
        """Whether the file that was to be copied is not there any more."""
        return self.path is not None and not self.path.is_file()


@dataclass(frozen=True)
class Dataset:
    """The data set that a run was given, in the words of MLflow's table of them.

    Args:
        digest: at most `MAX_DIGEST_LENGTH` letters.
        source, schema, profile: JSON.
        context: what it is for.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str
    context: str


@dataclass
class RunWrite:
    """Everything that a batch of events changes in one run.

    Args:
        uid: `<sweep>` or `<sweep>/<index>`; `<comparison>` or `<comparison>/<method>`.
        kind: `sweep` or `trial`; `comparison` or `ensemble`.
        create: create the run with `name` and `start_ms`, unless the store has one with this uid.
        name: what the run is called from now on; "" leaves it.
        dataset: what it is given.
        refused: what was refused of it, once a store that writes run by run has written it; when the batch is repeated it
            passes over this run.
    """

    uid: str
    kind: str
    create: bool = False
    name: str = ""
    start_ms: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    dataset: Dataset | None = None
    status: str | None = None
    end_ms: int | None = None
    refused: list[str] | None = None


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    Args:
        latest: the newest number of each metric.
        user: who made it.
        datasets: what it was given; empty where the reader does not look at them.
        columns: what else a local database says of it.
    """

    run_id: str
    name: str
    status: str
    start_ms: int | None
    end_ms: int | None
    deleted: bool
    artifact_uri: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    latest: tuple[Metric, ...] = ()
    user: str = ""
    experiment_id: str = ""
    datasets: tuple[Dataset, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> str | None:
        """`<sweep>/<index>` of a trial's run, `<sweep>` of a sweep's."""
        return self.tags.get("sweep_uid" if self.tags.get("kind") == "sweep" else "trial_uid")


@dataclass(frozen=True)
class StoredExperiment:
    """The experiment as the store has it.

    Args:
        artifact_location: the runs that are made in it keep their artifacts below.
        stage: `active`, or `deleted`.
    """

    experiment_id: str
    name: str
    artifact_location: str
    stage: str
    created_ms: int | None
    updated_ms: int | None
    tags: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """One experiment that is written to. Writes are idempotent: after an `UnavailableError` the same ones are given again."""

    def open(self) -> None:
        """Finds the experiment, or creates it.

        Raises:
            UnavailableError: the store is not reachable, or the experiment is deleted.
        """

    def find(self, sweep_uid: str) -> set[str]:
        """The uids of the sweep's runs that the store has; later writes go to these runs."""

    def tag(self, uid: str, key: str) -> str | None:
        """A tag of a run that `find` has found; None where it has none."""

    def tag_experiment(self, key: str, value: str) -> None:
        """Sets a tag of the experiment.

        Raises:
            UnavailableError: not now.
        """

    def write(self, writes: Sequence[RunWrite]) -> list[str]:
        """Stores all writes and returns a sentence for each that was refused; a sweep's run comes before its trials."""

    def close(self) -> None: ...


class RunReader(Protocol):
    """One experiment that is only read. Every method raises `UnavailableError` where the store does not answer.

    Attributes:
        problems: what was found in rows that cannot have been written so, one sentence each; such a row is left out.
    """

    problems: list[str]

    def runs(self, sweep_uid: str, *, whole_store: bool = True) -> list[StoredRun]:
        """The sweep's own run and those of its trials, deleted ones too.

        Args:
            whole_store: also trials' runs that name no sweep, wherever they are. Without it the time does not depend on how many
                runs of others the store holds.
        """

    def experiment(self) -> StoredExperiment | None:
        """The experiment; None where there is none of its name."""

    def rows(self, runs: Sequence[StoredRun]) -> dict[str, list[Metric]]:
        """The whole history of each run, by run id, in the order of key and step."""

    def integrity(self) -> list[str] | None:
        """What the database finds wrong with itself; None where it cannot be asked."""

    def foreign_parts(self) -> list[str]:
        """What acts by itself in the database, and is none of MLflow's; nothing where it cannot be asked."""

    def changed(self) -> bool | None:
        """Whether reading again would give something else; None where that cannot be told."""

    def close(self) -> None: ...


def deleted_experiment(name: str, experiment_id: str) -> str:
    """Tells a user how to restore a deleted experiment."""
    return (
        f"the MLflow experiment {name!r} (id {experiment_id}) is deleted; restore it "
        f"(mlflow experiments restore --experiment-id {experiment_id}) or use another (tracking.experiment=NAME)"
    )


@functools.lru_cache(4096)
def safe_name(name: str) -> str:
    """The name of a metric, param or tag with everything that MLflow does not allow replaced by `_`."""
    kept = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:MAX_NAME_LENGTH]
    return re.sub(r"(^|/)(?=/|$|\.{1,2}(/|$))", r"\1_", kept)


def text_of(value: Any) -> str:
    """A value as YAML shows it: true, null, 0.1, batch."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether the journal's value is a number that a store can hold; the journal has others as "nan", "inf", "-inf"."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def current_user() -> str:
    """The name of the user, or "unknown" where the user number has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def local_folder(artifact_uri: str) -> Path | None:
    """The folder of this machine that a run's artifact address names; None for any other address."""
    parts = urlsplit(artifact_uri)
    if parts.scheme == "":
        return Path(artifact_uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return None


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
