"""The plain records that every room speaks: what a trial is, what an epoch gives, how a trial can end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from orchestrator.base.decode import COUNT


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


class InitHealth(TypedDict):
    """Whether an initialization lets signals through the network, as its first training step showed.

    Args:
        verdict: what becomes of a signal on its way.
        layer: the first layer on the way where it is lost, or out of bounds, for good; where the verdict is not ok.
        signal: outputs of layers, on their way forward, or gradients, on their way back.
        ratio: of its strength at the end of the way to that at the beginning, to two digits; None where it is not finite.
    """

    verdict: Literal["ok", "vanishing", "exploding"]
    layer: NotRequired[str]
    signal: NotRequired[Literal["outputs", "gradients"]]
    ratio: NotRequired[float | None]


class Divergence(TypedDict):
    """What left the finite range first in a trial that diverged, as training again from the last checkpoint showed.

    Args:
        epoch, step: where; steps are batches, from 1.
        replayed: whether it diverged again; if not, nothing else is known.
        why: what came between, where it did not.
        steps: of an epoch.
        validation: whether it was after the last step, in the validation.
        signal: what was not finite: what a layer put out, the loss where all of that was finite, a gradient on its way back, or
            what a step made of the weights.
        layer: whose; the loss is no layer's.
        lr: of that step.
        last_good: epoch and step of the last step after which everything was finite; None where there was none.
        gradient: its usual length in that epoch, and that of the last good step.
    """

    epoch: Annotated[int, COUNT]
    step: Annotated[int, COUNT]
    replayed: bool
    why: NotRequired[str]
    steps: NotRequired[Annotated[int, COUNT]]
    validation: NotRequired[bool]
    signal: NotRequired[Literal["outputs", "loss", "gradients", "weights"]]
    layer: NotRequired[str]
    lr: NotRequired[float]
    last_good: NotRequired[tuple[Annotated[int, COUNT], Annotated[int, COUNT]] | None]
    gradient: NotRequired[tuple[float, float]]


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
