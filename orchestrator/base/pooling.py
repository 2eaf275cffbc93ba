"""How the predictions of several members become one: an ensemble, whoever chose its members.

It lies below the ensembles' room since a served model pools, too; what is fitted to labels is in `ensembles.pooling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# m members of the ensemble, N examples, K classes

Pooling = Literal["probabilities", "logits", "votes", "stacked"]

SMALLEST = 1e-12
"""Probabilities below are counted as this: a right class that float32 rounds to 0 costs 27.6 nats and not infinitely many."""


class HasLogits(Protocol):
    """What `of_pool` needs of a pool."""

    @property
    def logits_MNK(self) -> Array: ...


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

    def probabilities(self, logits_mNK: Array) -> Array:
        """Class probabilities, float64 [N, K], from the logits of its members in their order."""
        return tempered(_POOLED[self.pooling](self, self._before(logits_mNK)), self.temperature)

    def of_pool(self, pool: HasLogits) -> Array:
        """Class probabilities, float64 [N, K], of the pool's examples."""
        return self.probabilities(pool.logits_MNK[[*self.members]])

    def _before(self, logits_mNK: Array) -> Array:
        import numpy as np

        if not self.member_temperatures:
            return logits_mNK
        cooled_mNK: Array = logits_mNK / np.array(self.member_temperatures, dtype=logits_mNK.dtype)[:, None, None]
        return cooled_mNK


def uniform(members: tuple[int, ...], pooling: Pooling = "probabilities") -> Ensemble:
    """Members with equal weights."""
    return Ensemble(members, (1 / len(members),) * len(members), pooling)


def softmax(logits_NK: Array) -> Array:
    """Probabilities along the last axis, in the precision of what is given."""
    import numpy as np

    shifted = logits_NK - logits_NK.max(axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    found: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def log_softmax(logits_NK: Array) -> Array:
    """Logarithms of the probabilities along the last axis, float64."""
    import numpy as np

    logits_NK = np.asarray(logits_NK, dtype=np.float64)
    shifted = logits_NK - logits_NK.max(axis=-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def tempered(probabilities_NK: Array, temperature: float) -> Array:
    """The probabilities with their logarithms divided by the temperature, normalized."""
    import numpy as np

    if temperature == 1.0:
        return probabilities_NK
    return softmax(np.log(np.maximum(probabilities_NK, SMALLEST)) / temperature)


def _mean(ensemble: Ensemble, logits_mNK: Array) -> Array:
    import numpy as np

    found_NK: Array = np.einsum(
        "m,mnk->nk", np.array(ensemble.weights), softmax(logits_mNK).astype(np.float64, copy=False)
    )
    return found_NK


def _geometric(ensemble: Ensemble, logits_mNK: Array) -> Array:
    import numpy as np

    return softmax(np.einsum("m,mnk->nk", np.array(ensemble.weights), logits_mNK.astype(np.float64, copy=False)))


def _votes(ensemble: Ensemble, logits_mNK: Array) -> Array:
    """The share of votes, in which the mean probability counts as one vote more.

    It decides where classes have equally many votes, and no class has probability 0.
    """
    import numpy as np

    m = len(logits_mNK)
    said_mN = logits_mNK.argmax(axis=2)
    votes_NK = np.zeros(logits_mNK.shape[1:])
    for weight, said_N in zip(ensemble.weights, said_mN, strict=True):
        votes_NK[np.arange(len(said_N)), said_N] += weight * m
    found_NK: Array = (votes_NK + _mean(ensemble, logits_mNK)) / (m + 1)
    return found_NK


def _stacked(ensemble: Ensemble, logits_mNK: Array) -> Array:
    import numpy as np

    assert ensemble.coefficients_mKK is not None
    assert ensemble.intercept_K is not None
    features_mNK = np.maximum(log_softmax(logits_mNK), np.log(SMALLEST))
    return softmax(np.einsum("mnk,mkj->nj", features_mNK, ensemble.coefficients_mKK) + ensemble.intercept_K)


_POOLED: Mapping[str, Callable[[Ensemble, Array], Array]] = {
    "probabilities": _mean,
    "logits": _geometric,
    "votes": _votes,
    "stacked": _stacked,
}
