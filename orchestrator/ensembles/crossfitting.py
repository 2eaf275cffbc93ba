"""Validation scores that are honest although members are chosen and weighted by validation: each example is predicted by an
ensemble that was built without it.

In each fold the members are ordered anew by the other examples, so that "the best five" are not the best of the examples that
they are scored on. The temperature of what is pooled is fitted to these honest predictions: on the examples that the members
were chosen by an ensemble looks better than it is, and its temperature would make it too sure everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.base.errors import ConfigError, Problem
from orchestrator.ensembles.catalogue import Choice
from orchestrator.ensembles.limits import Limits, built, moved
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.parallel import each, one_thread_of_blas
from orchestrator.ensembles.pool import Part, Pool
from orchestrator.ensembles.pooling import SMALLEST, Ensemble, softmax, temperature_of, tempered

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, N examples, K classes

Temperature = Literal["after", "before", "none"]

FOLDS = 5
FEWEST_EXAMPLES = 20
"""Of fewer examples a fold has hardly any."""


@dataclass(frozen=True)
class Fitted:
    """A method on a pool.

    Args:
        ensemble: built from all validation examples; its members are places in the pool.
        honest_NK: its probabilities of the validation examples, each by an ensemble that was built without it.
    """

    choice: Choice
    ensemble: Ensemble
    honest_NK: Array


@one_thread_of_blas()
def fit(
    choices: Sequence[Choice], pool: Pool, *, metric: str, temperature: Temperature, limits: Limits, seed: int
) -> tuple[list[Fitted], list[tuple[str, str]]]:
    """All methods on the pool, and those that do not apply with the reason.

    Args:
        pool: its members in order.
        metric: the objective by which members are ordered.

    Raises:
        ConfigError: there are too few examples.
    """
    import numpy as np

    examples = len(pool.labels_N)
    if examples < FEWEST_EXAMPLES:
        why = f"there are {examples} validation examples; to choose by them takes {FEWEST_EXAMPLES}: raise data.val_fraction"
        raise ConfigError(Problem("compare", why))
    order = Order(pool, metric)
    held = folds(pool.labels_N, np.random.default_rng([seed, 0]))

    def build(fold: int) -> tuple[dict[str, Ensemble], dict[str, str]]:
        if not fold:
            return _built(choices, _Cooled(pool, temperature), limits, seed, 0)
        rest_n = np.setdiff1d(np.arange(examples), held[fold - 1])
        others = [choice for choice in choices if not _is_pooled_once(choice, temperature)]
        places = order.by(rest_n)
        found, why = _built(others, _Cooled(order.of(places, rest_n), temperature), limits, seed, fold)
        return {name: moved(ensemble, places) for name, ensemble in found.items()}, why

    (ensembles, failed), *parts = each(build, range(FOLDS + 1))
    for _, of_fold in parts:
        for name, why in of_fold.items():
            failed.setdefault(name, f"without a fifth of the examples: {why}")
    tried = [choice for choice in choices if choice.name not in failed]

    def finished(choice: Choice) -> Fitted:
        ensemble = ensembles[choice.name]
        if _is_pooled_once(choice, temperature):
            said_NK = ensemble.of_pool(pool)
        else:
            said_NK = np.empty((examples, len(pool.classes)))
            for held_n, (of_fold, _) in zip(held, parts, strict=True):
                said_NK[held_n] = of_fold[choice.name].of_pool(Part(pool, range(len(pool)), held_n))
        # A stacked ensemble fits the scale of its logits itself.
        if temperature != "after" or ensemble.pooling == "stacked":
            return Fitted(choice, ensemble, said_NK)
        hot, honest_NK = calibrated_apart(said_NK, pool.labels_N, held)
        return Fitted(choice, replace(ensemble, temperature=hot), honest_NK)

    return each(finished, tried), [(choice.name, failed[choice.name]) for choice in choices if choice.name in failed]


def calibrated_apart(said_NK: Array, labels_N: Array, held: Sequence[Array]) -> tuple[float, Array]:
    """The temperature that fits honest predictions, and these with it: each with the one that fits the other folds.

    Args:
        said_NK: probabilities of each example by what was built without it, or without labels at all.
        held: the examples of each fold.
    """
    import numpy as np

    found_NK = np.empty_like(said_NK)
    for held_n in held:
        rest_n = np.setdiff1d(np.arange(len(said_NK)), held_n)
        found_NK[held_n] = tempered(said_NK[held_n], temperature_of(said_NK[rest_n], labels_N[rest_n]))
    return temperature_of(said_NK, labels_N), found_NK


def folds(labels_N: Array, generator: np.random.Generator, count: int = FOLDS) -> list[Array]:
    """The examples in parts of equal size, in which each class has its share."""
    import numpy as np

    shuffled = generator.permutation(len(labels_N))
    by_class = shuffled[np.argsort(labels_N[shuffled], kind="stable")]
    return [np.sort(by_class[start::count]) for start in range(count)]


def ordered(pool: Pool) -> Pool:
    """The pool with the best member first; of equal ones that of the lower sweep and number."""
    sign = -1.0 if pool.larger_is_better else 1.0

    def key(place: int) -> tuple[float, str, int, str]:
        sweep, _, index = pool.members[place].name.rpartition("/")
        number = int(index) if index.isdecimal() and len(index) < 20 else 0
        return sign * pool.members[place].value, sweep, number, index

    order = sorted(range(len(pool)), key=key)
    return pool if order == [*range(len(pool))] else Part(pool, order)


def _is_pooled_once(choice: Choice, temperature: Temperature) -> bool:
    return not choice.method.fits and temperature != "before"


def _built(
    choices: Sequence[Choice], cooled: _Cooled, limits: Limits, seed: int, fold: int
) -> tuple[dict[str, Ensemble], dict[str, str]]:
    """The ensembles of the methods, and why those do not apply that do not."""
    ensembles: dict[str, Ensemble] = {}
    failed: dict[str, str] = {}
    for choice in choices:
        try:
            ensembles[choice.name] = cooled.built(choice, _drawn(seed, choice, fold), limits)
        except NotPossibleError as error:
            failed[choice.name] = str(error)
    return ensembles, failed


def _drawn(seed: int, choice: Choice, fold: int) -> np.random.Generator:
    """The same for a method, whichever others are tried."""
    import numpy as np

    return np.random.default_rng([seed, 1, fold, *choice.name.encode()])


class Order:
    """The order of members by some of the examples. Objectives that are none of validation order as they do on all."""

    def __init__(self, pool: Pool, metric: str) -> None:
        import numpy as np

        self._pool, self._metric = pool, metric
        self._losses_MN = -np.log(np.maximum(pool.right_MN, SMALLEST))
        self._right_MN = pool.is_right_MN
        if metric == "val/top5_accuracy":
            self._right_MN = np.stack([_in_top5(pool.logits_of(place), pool.labels_N) for place in range(len(pool))])

    def values(self, rows_n: Array) -> Array | None:
        """The objective of each member; None where it is none of validation."""
        values_M: Array
        if self._metric in ("val/accuracy", "val/top5_accuracy"):
            values_M = self._right_MN[:, rows_n].mean(axis=1)
        elif self._metric in ("val/loss", "val/nll"):
            values_M = self._losses_MN[:, rows_n].mean(axis=1)
        else:
            return None
        return values_M

    def by(self, rows_n: Array) -> list[int]:
        """The places of the members, the best first; of equal ones that with the lower loss."""
        import numpy as np

        values_M = self.values(rows_n)
        if values_M is None:
            return [*range(len(self._pool))]
        sign = -1.0 if self._pool.larger_is_better else 1.0
        found: list[int] = np.lexsort((self._losses_MN[:, rows_n].mean(axis=1), sign * values_M)).tolist()
        return found

    def of(self, places: Sequence[int], rows_n: Array) -> Pool:
        """The pool of these examples, with its members in this order and their objective there."""
        values_M = self.values(rows_n)
        members = [self._pool.members[place] for place in places]
        if values_M is not None:
            members = [
                replace(member, value=float(values_M[place])) for member, place in zip(members, places, strict=True)
            ]
        return Part(self._pool, places, rows_n, tuple(members))


def _in_top5(logits_NK: Array, labels_N: Array) -> Array:
    import numpy as np

    found_N: Array = (logits_NK > logits_NK[np.arange(len(labels_N)), labels_N][:, None]).sum(axis=1) < 5
    return found_N


class _Cooled:
    """A pool to build from: where temperatures come before pooling, of members that have theirs already."""

    def __init__(self, pool: Pool, temperature: Temperature) -> None:
        self._of_members: list[float] = []
        self._pool = pool
        if temperature == "before":
            self._pool, self._of_members = _cooled(pool)

    def built(self, choice: Choice, generator: np.random.Generator, limits: Limits) -> Ensemble:
        """The method's ensemble, with the temperatures of its members where they come before pooling.

        Raises:
            NotPossibleError: as `limits.built`.
        """
        ensemble = built(choice, self._pool, generator, limits)
        if self._of_members:
            return replace(ensemble, member_temperatures=tuple(self._of_members[place] for place in ensemble.members))
        return ensemble


def _cooled(pool: Pool) -> tuple[Pool, list[float]]:
    """The pool with the logits of each member divided by the temperature that fits it, and these."""
    import numpy as np

    found = []
    logits_MNK = np.empty((len(pool), len(pool.labels_N), len(pool.classes)), np.float32)
    for place, cooled_NK in enumerate(logits_MNK):
        found.append(temperature_of(softmax(pool.logits_of(place)), pool.labels_N))
        np.divide(pool.logits_of(place), np.float32(found[-1]), out=cooled_NK)
    return Pool(pool.members, logits_MNK, pool.labels_N, pool.classes, pool.larger_is_better), found
