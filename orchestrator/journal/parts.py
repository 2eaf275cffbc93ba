"""What the fields of events are made of: JSON objects with known keys, checked like the events themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from orchestrator.base.decode import COUNT, NUMBER, SHA256, TIME_MS


class Epoch(TypedDict):
    """One epoch of a trial.

    Args:
        epoch: from 1.
        time_ms: wall-clock milliseconds since 1970 at its end, by the worker's clock.
        metrics: numbers by name; one that is not finite is "nan", "inf" or "-inf".
    """

    epoch: Annotated[int, COUNT]
    time_ms: Annotated[int, TIME_MS]
    metrics: dict[str, Annotated[Any, NUMBER]]


class CheckpointRecord(TypedDict):
    """A checkpoint: its epoch, and the SHA-256 of the file."""

    epoch: Annotated[int, COUNT]
    sha256: Annotated[str, SHA256]


class FileRecord(TypedDict):
    """A file of a trial: its path below the sweep's folder (absolute in earlier versions), and its SHA-256 in hexadecimal."""

    path: str
    sha256: Annotated[str, SHA256]


class KeptWeights(FileRecord):
    """The best weights of the trial with this index, kept at the end of the sweep."""

    trial: Annotated[int, COUNT]


class Best(TypedDict):
    """The best configuration of a sweep.

    Args:
        trial: index of the first of its trials.
        value: the mean of their objectives, without that of the selected one where there are others.
        spread: their standard deviation; None of a single one.
        repeats: how many there are, the selected one included.
        selected: the objective of the trial that a scheduler judged, where it is left out of `value`.
    """

    trial: Annotated[int, COUNT]
    value: float
    params: NotRequired[dict[str, Any]]
    spread: NotRequired[float | None]
    repeats: NotRequired[int]
    selected: NotRequired[float | None]


class SearchedKey(TypedDict):
    """A searched key, for people."""

    key: str
    domain: str
    condition: NotRequired[str | None]


class Environment(TypedDict, total=False):
    """Where a sweep was launched; other keys name versions and hardware."""

    command: Sequence[str] | str


class Request(TypedDict, total=False):
    """What a resume plans from: the overrides, and where they were given."""

    overrides: Sequence[str]
    config_dir: str | None
    config_name: str
    cwd: str


class Tracking(TypedDict, total=False):
    """The checked settings of a store."""

    kind: Literal["local", "server", "none"]
    uri: str | None
    artifacts: str | None
    experiment: str | None
    required: bool
    unreachable: str | None
