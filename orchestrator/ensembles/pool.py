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
        multiply_adds: of the prediction of one image, all passes together; None where not known, and `unpriced` says why.
        passes: how often an image goes through the network.
    """

    name: str
    params: Mapping[str, Any]
    architecture: str
    configuration: str
    value: float
    parameters: int | None = None
    multiply_adds: int | None = None
    unpriced: str | None = None
    passes: int = 1


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

    def logits_of(self, place: int) -> Array:
        """The logits [N, K] of one member."""
        found_NK: Array = self.logits_MNK[place]
        return found_NK

    @cached_property
    def probabilities_MNK(self) -> Array:
        """Float32; each row sums to 1."""
        from orchestrator.ensembles.pooling import softmax

        return softmax(self.logits_MNK)

    @cached_property
    def right_MN(self) -> Array:
        """Each member's probability of the right class, float64."""
        import numpy as np

        from orchestrator.ensembles.pooling import softmax

        at, found_MN = np.arange(len(self.labels_N)), np.empty((len(self), len(self.labels_N)))
        for place, found_N in enumerate(found_MN):
            found_N[:] = softmax(self.logits_of(place))[at, self.labels_N]
        return found_MN

    @cached_property
    def is_right_MN(self) -> Array:
        """Whether each member's most probable class is the right one; of equal ones the first is said."""
        import numpy as np

        said = [self.logits_of(place).argmax(axis=1) == self.labels_N for place in range(len(self))]
        return np.array(said, dtype=bool)

    def of(self, places: Sequence[int]) -> Pool:
        """The pool of some of its members, in the order given."""
        return replace(
            self, members=tuple(self.members[place] for place in places), logits_MNK=self.logits_MNK[[*places]]
        )

    def at(self, rows_n: Array) -> Pool:
        """The pool on some of its examples."""
        return replace(self, logits_MNK=self.logits_MNK[:, rows_n], labels_N=self.labels_N[rows_n])


class Part(Pool):
    """Some members of a pool on some of its examples. Their logits stay where they are until a method asks for those of all.

    Args:
        places: of the members in the pool, in the order of this one.
        rows_n: of the examples; None takes all.
        members: the same ones with other values; none takes them as they are.
    """

    _whole: Pool
    _places: Sequence[int]
    _rows_n: Array | None

    def __init__(
        self, whole: Pool, places: Sequence[int], rows_n: Array | None = None, members: Sequence[Member] = ()
    ) -> None:
        self.__dict__.update(  # as `frozen` leaves no other way
            members=tuple(members or (whole.members[place] for place in places)),
            labels_N=whole.labels_N if rows_n is None else whole.labels_N[rows_n],
            classes=whole.classes,
            larger_is_better=whole.larger_is_better,
            _whole=whole,
            _places=[*places],
            _rows_n=rows_n,
        )

    def logits_of(self, place: int) -> Array:
        logits_NK = self._whole.logits_of(self._places[place])
        return logits_NK if self._rows_n is None else logits_NK[self._rows_n]

    @cached_property
    def logits_MNK(self) -> Array:  # type: ignore[override]
        """A copy; `logits_of` makes none of all members."""
        import numpy as np

        return np.stack([self.logits_of(place) for place in range(len(self))])

    @cached_property
    def right_MN(self) -> Array:
        import numpy as np

        right_MN, places_M = self._whole.right_MN, np.array(self._places)
        found_MN: Array = right_MN[places_M] if self._rows_n is None else right_MN[places_M[:, None], self._rows_n]
        return found_MN

    def of(self, places: Sequence[int]) -> Pool:
        members = tuple(self.members[place] for place in places)
        return Part(self._whole, [self._places[place] for place in places], self._rows_n, members)

    def at(self, rows_n: Array) -> Pool:
        return Part(self, range(len(self)), rows_n)
