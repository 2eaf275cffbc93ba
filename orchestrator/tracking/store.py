"""What the shipper asks of an MLflow store, whichever way it is reached: runs are found by our uid and written in batches."""

from __future__ import annotations

import functools
import getpass
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard
from urllib.parse import unquote, urlsplit

MAX_PARAM_LENGTH = 6_000
MAX_TAG_LENGTH = 8_000
MAX_NAME_LENGTH = 250

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's UI then opens the experiment on its runs; without it, on what it has for language models."""

UID_TAGS = {"sweep": "sweep_uid", "trial": "trial_uid"}


class UnavailableError(Exception):
    """The store cannot take it now: unreachable, locked, disk full. The same write is to be tried again."""


class RefusedError(Exception):
    """The store will never take it: a deleted run, a value against its rules. Trying again does not help."""


class Metric(NamedTuple):
    """One number. MLflow stores the same (key, time, step, value) once, so it may be sent again."""

    key: str
    value: float
    time_ms: int
    step: int


@dataclass(frozen=True)
class Artifact:
    """A file of a run: copied from `path`, or holding `text`."""

    name: str
    path: Path | None = None
    text: str | None = None


@dataclass
class RunWrite:
    """Everything that a batch of events changes in one run.

    Args:
        uid: `<sweep>` or `<sweep>/<index>`.
        kind: `sweep` or `trial`.
        create: the run may have to be created (found by its uid first), with `name` and `start_ms`.
        written: a store that writes runs one by one has taken it; it is passed over when the batch is given again.
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
    status: str | None = None
    end_ms: int | None = None
    written: bool = False


class Store(Protocol):
    """An MLflow store. `write` is idempotent: after an `UnavailableError` the same writes are given again."""

    def open(self, experiment: str) -> None:
        """Finds the experiment, or creates it.

        Raises:
            UnavailableError: not reachable, or the experiment is deleted.
        """

    def find(self, sweep_uid: str) -> set[str]:
        """The uids of this sweep's runs that are in the store; later writes go to these runs."""

    def write(self, writes: Sequence[RunWrite]) -> list[str]:
        """Stores all of it and returns what was refused, in words; a sweep's run comes before its trials."""

    def close(self) -> None: ...


def deleted_experiment(name: str, experiment_id: str) -> str:
    """What to tell a user whose experiment lies in MLflow's bin."""
    return (
        f"the MLflow experiment {name!r} (id {experiment_id}) is deleted; restore it "
        f"(mlflow experiments restore --experiment-id {experiment_id}) or use another (tracking.experiment=NAME)"
    )


@functools.lru_cache(4096)
def safe_name(name: str) -> str:
    """The name of a metric, param or tag with what MLflow does not allow replaced by `_`."""
    kept = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:MAX_NAME_LENGTH]
    return re.sub(r"(^|/)(?=/|$|\.{1,2}(/|$))", r"\1_", kept)


def text_of(value: Any) -> str:
    """A value as YAML would show it: true, null, 0.1, batch."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether the journal's value is a number that a store can hold; it writes others as "nan", "inf", "-inf"."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def without_credentials(text: str) -> str:
    """The same text with the `user:password@` of every address in it masked."""
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def current_user() -> str:
    """Who runs this, "unknown" for a user number without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def local_folder(artifact_uri: str) -> Path | None:
    """The folder that a run's artifact address names on this machine, None where it is elsewhere."""
    parts = urlsplit(artifact_uri)
    if parts.scheme == "":
        return Path(artifact_uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return None


def chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
