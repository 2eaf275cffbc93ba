"""The plain records that every room speaks: what a trial is, what an epoch gives, how a trial can end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a trial stands or ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


CAN_BE_BEST = frozenset({State.COMPLETED, State.STOPPED, State.CANCELLED})
TERMINAL = frozenset(State) - {State.RUNNING, State.INTERRUPTED}


@dataclass(frozen=True)
class Trial:
    """One configuration to train, in plain data: what a worker is given.

    Args:
        uid: `<sweep>/<index>`, as its files name it; unique for ever, but for copies of a sweep.
        index: from 0, in the order in which the sampler suggested.
        config: the composed configuration: a spec for each of `groups.GROUPS`, `choices` (group -> name of the choice) and the
            root keys `epochs batch_size seed metric mode precision device ...`.
        params: the searched keys and their values.
        folder: absolute path of the trial's own folder; "" keeps nothing on disk.
        attempt: from 1; each restart after the death of a worker counts one up.
        fence: grows with every attempt and every resume of the sweep; a worker with a smaller one may not write any more.
    """

    uid: str
    index: int
    config: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    attempt: int = 1
    fence: int = 1


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of training gave.

    Args:
        epoch: from 1.
        time_ms: wall-clock milliseconds since 1970 at the end of the epoch.
        metrics: finite numbers by name (`train/loss`, `val/accuracy`, `lr`, ...).
    """

    epoch: int
    time_ms: int
    metrics: Mapping[str, float]


STARTS_OVER = "no valid checkpoint is left: the trial starts over from epoch 1"
"""The note of a trial whose checkpoints are all damaged."""

NODE_LOST = "the node was lost"
"""The reason of a restart after the machine died, and not the trial: it is not charged to `max_retries`."""

LOST_NODES_FREE = 10
"""So many lost nodes are forgiven a trial; after that it may be what kills them."""


def charged_retries(reasons: Iterable[str]) -> int:
    """How many of a trial's restarts count against `max_retries`, by their reasons."""
    lost = [reason == NODE_LOST for reason in reasons]
    return lost.count(False) + max(0, lost.count(True) - LOST_NODES_FREE)


METRICS = {
    "train/loss": "min",
    "train/accuracy": "max",
    "val/loss": "min",
    "val/accuracy": "max",
    "val/top5_accuracy": "max",
    "val/nll": "min",
}
"""Metrics that can be the objective, with the mode in which they are better; how they are computed is in `training.metrics`."""


def better(mode: str, value: float, than: float | None) -> bool:
    """Whether `value` beats `than`; a tie does not, so that the earlier epoch or lower index stays."""
    if than is None:
        return True
    return value > than if mode == "max" else value < than
