"""How the predictions of several members become one: an ensemble, whoever chose its members.

It lies below the ensembles' room since a served model pools, too; what is fitted to labels is in `ensembles.pooling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# m members of the ensemble, N examples, K classes

Pooling = Literal["probabilities", "logits", "votes", "stacked"]

SMALLEST = 1e-12
"""Probabilities below count as this where logarithms of them are chosen by, stacked or divided by a temperature. That is part of
the ensemble; the NLL that is reported of it has no such floor (`measures.losses`).
"""

AT_ONCE = 2**17
"""Numbers that are looked at together: as many as stay in a processor's cache."""


class HasLogits(Protocol):
    """What `of_pool` needs of a pool."""

    def logits_of(self, place: int) -> Array: ...


@dataclass(frozen=True)
class Step:
    """A step of a selection: the place of the member that was taken, and the score of the ensemble with it."""

    member: int
    score: float


@dataclass(frozen=True)
class Ensemble:
    """Members, and how their predictions are pooled.

    Args:
        members: places in the pool, each once.
        weights: one a member, positive; they sum to 1. Members of a stacked ensemble are weighted by its coefficients.
        pooling: the weighted mean of probabilities; of logits, which is the normalized geometric mean of probabilities; of
            votes; or `stacked`, a linear map of the members' log-probabilities.
        temperature: the logarithms of the pooled probabilities are divided by it.
        member_temperatures: by which the logits of each member are divided before; empty for 1.
        coefficients_mKK, intercept_K: of a stacked ensemble.
        steps: how a selection went, for those that go by steps.
    """

    members: tuple[int, ...]
    weights: tuple[float, ...]
    pooling: Pooling = "probabilities"
    temperature: float = 1.0
    member_temperatures: tuple[float, ...] = ()
    coefficients_mKK: Array | None = None
    intercept_K: Array | None = None
    steps: tuple[Step, ...] = ()

    def probabilities(self, logits_mNK: Array | Sequence[Array]) -> Array:
        """Class probabilities, float64 [N, K], from the logits of its members in their order."""
        return tempered(_POOLED[self.pooling](self, self._before(logits_mNK)), self.temperature)

    def of_pool(self, pool: HasLogits) -> Array:
        """Class probabilities, float64 [N, K], of the pool's examples."""
        return self.probabilities([pool.logits_of(place) for place in self.members])

    def _before(self, logits_mNK: Array | Sequence[Array]) -> Iterator[Array]:
        """The logits of one member after the other, with its temperature."""
        if not self.member_temperatures:
            yield from logits_mNK
            return
        for logits_NK, temperature in zip(logits_mNK, self.member_temperatures, strict=True):
            yield logits_NK / logits_NK.dtype.type(temperature)


def uniform(members: tuple[int, ...], pooling: Pooling = "probabilities") -> Ensemble:
    """Members with equal weights."""
    return Ensemble(members, (1 / len(members),) * len(members), pooling)


def softmax(logits_NK: Array, dtype: Any = None) -> Array:
    """Probabilities along the last axis, in the precision of what is given, or another one."""
    import numpy as np

    found = np.empty(logits_NK.shape, logits_NK.dtype if dtype is None else dtype)
    for shifted_Kn, found_Kn in _by_class(logits_NK, found):
        np.exp(shifted_Kn, out=shifted_Kn)
        np.divide(shifted_Kn, shifted_Kn.sum(axis=0), out=found_Kn)
    return found


def log_softmax(logits_NK: Array) -> Array:
    """Logarithms of the probabilities along the last axis, float64."""
    import numpy as np

    found = np.empty(logits_NK.shape, np.float64)
    for shifted_Kn, found_Kn in _by_class(logits_NK, found):
        np.subtract(shifted_Kn, np.log(np.exp(shifted_Kn).sum(axis=0)), out=found_Kn)
    return found


def _by_class(logits_NK: Array, found_NK: Array) -> Iterator[tuple[Array, Array]]:
    """Parts of the logits with one class after the other and their maximum subtracted, and where their results go.

    A row of ten numbers is too short for a processor: it handles the examples of a class together several times as fast.
    """
    import numpy as np

    classes = found_NK.shape[-1]
    given_nK, found_nK = logits_NK.reshape(-1, classes), found_NK.reshape(-1, classes)
    rows = max(1, AT_ONCE // classes)
    for start in range(0, len(found_nK), rows):
        shifted_Kn = np.array(given_nK[start : start + rows].T, dtype=found_NK.dtype, order="C")
        shifted_Kn -= shifted_Kn.max(axis=0)
        yield shifted_Kn, found_nK[start : start + rows].T


def tempered(probabilities_NK: Array, temperature: float) -> Array:
    """The probabilities with their logarithms divided by the temperature, normalized."""
    import numpy as np

    if temperature == 1.0:
        return probabilities_NK
    return softmax(np.log(np.maximum(probabilities_NK, SMALLEST)) / temperature)


def _mean(ensemble: Ensemble, logits_mNK: Iterable[Array]) -> Array:
    """In float64: float32 rounds a probability below 1e-45 to 0, of which there is no logarithm."""
    return _summed(ensemble.weights, (softmax(logits_NK, "float64") for logits_NK in logits_mNK))


def _geometric(ensemble: Ensemble, logits_mNK: Iterable[Array]) -> Array:
    return softmax(_summed(ensemble.weights, logits_mNK))


def _summed(weights: Sequence[float], values_mNK: Iterable[Array]) -> Array:
    """The weighted sum, float64: member by member, so that no copy of all is made."""
    import numpy as np

    total_NK: Any = 0.0
    for weight, values_NK in zip(weights, values_mNK, strict=True):
        total_NK += np.multiply(values_NK, weight, dtype=np.float64)
    return np.asarray(total_NK)


def _votes(ensemble: Ensemble, logits_mNK: Iterable[Array]) -> Array:
    """The share of votes, in which the mean probability counts as one vote more.

    It decides where classes have equally many votes, and no class has probability 0.
    """
    import numpy as np

    m = len(ensemble.weights)
    total_NK: Any = 0.0
    for weight, logits_NK in zip(ensemble.weights, logits_mNK, strict=True):
        said_NK = softmax(logits_NK, np.float64) * weight
        said_NK[np.arange(len(said_NK)), logits_NK.argmax(axis=1)] += weight * m
        total_NK += said_NK
    return np.asarray(total_NK / (m + 1))


def _stacked(ensemble: Ensemble, logits_mNK: Iterable[Array]) -> Array:
    import numpy as np

    assert ensemble.coefficients_mKK is not None
    assert ensemble.intercept_K is not None
    total_NK = ensemble.intercept_K
    for logits_NK, coefficients_KK in zip(logits_mNK, ensemble.coefficients_mKK, strict=True):
        total_NK = total_NK + np.maximum(log_softmax(logits_NK), np.log(SMALLEST)) @ coefficients_KK
    return softmax(total_NK)


_POOLED: Mapping[str, Callable[[Ensemble, Iterable[Array]], Array]] = {
    "probabilities": _mean,
    "logits": _geometric,
    "votes": _votes,
    "stacked": _stacked,
}
