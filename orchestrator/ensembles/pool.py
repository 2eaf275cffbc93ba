"""What a method chooses from: the candidates of a comparison and their predictions of the same validation examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, N examples, K classes


@dataclass(frozen=True)
class Member:
    """A completed trial.

    Args:
        name: `SWEEP-0a1b2c3d/7`.
        params: of the searched keys.
        architecture: the choice of `model`.
        configuration: the same for trials that differ in their seed alone: `SWEEP-0a1b2c3d/c3`.
        value: the objective of its sweep, by which members are ordered.
        parameters: trainable parameters; None where they are not known.
        multiply_adds: of the prediction of one image; None where they are not known, and `unpriced` says why.
    """

    name: str
    params: Mapping[str, Any]
    architecture: str
    configuration: str
    value: float
    parameters: int | None = None
    multiply_adds: int | None = None
    unpriced: str | None = None


class HasMembers(Protocol):
    """What costs and limits ask of a pool."""

    @property
    def members(self) -> tuple[Member, ...]: ...


@dataclass(frozen=True)
class Entrants:
    """The members of a pool, and behind them the networks that were made of their weights."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Pool:
    """Candidates and their logits of the validation examples.

    Args:
        members: the best first; of equal value the one with the lower name.
        logits_MNK: float32, finite, the maximum of each row subtracted.
        labels_N: class ids in [0, K).
        classes: the names of the columns.
        larger_is_better: how `value` is ordered.
    """

    members: tuple[Member, ...]
    logits_MNK: Array
    labels_N: Array
    classes: tuple[str, ...]
    larger_is_better: bool = True

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def probabilities_MNK(self) -> Array:
        """Float32; each row sums to 1."""
        from orchestrator.ensembles.pooling import softmax

        return softmax(self.logits_MNK)

    @cached_property
    def right_MN(self) -> Array:
        """Each member's probability of the right class, float64."""
        import numpy as np

        at = np.arange(len(self.labels_N))
        return np.ascontiguousarray(self.probabilities_MNK[:, at, self.labels_N], dtype=np.float64)

    def of(self, places: Sequence[int]) -> Pool:
        """The pool of some of its members, in the order given."""
        return replace(
            self, members=tuple(self.members[place] for place in places), logits_MNK=self.logits_MNK[[*places]]
        )

    def at(self, rows_n: Array) -> Pool:
        """The pool on some of its examples."""
        return replace(self, logits_MNK=self.logits_MNK[:, rows_n], labels_N=self.labels_N[rows_n])
