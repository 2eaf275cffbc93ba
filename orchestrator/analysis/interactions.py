"""Which pairs of keys act together: the best value of one depends on that of the other.

Two-way analysis of variance of the ranks of the outcomes, so that a loss that exploded weighs no more than the last place;
numbers are cut into bins of equally many configurations. Strength is omega squared (Hays 1963): the part of all variation
that the pair explains beyond the sum of both, less what chance would give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.importance import cell_of, cells_in, importances
from orchestrator.analysis.outcomes import Drawn, Outcome, losses, outcomes
from orchestrator.journal.record import SweepRecord
from orchestrator.space import Choice

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

KEYS = 6
"""So many of the most important keys are paired."""

BINS = 4
PER_CELL = 3
"""A pair is judged where there are on average so many configurations for each pair of values."""


SMALLEST = 0.01
"""Less is not worth a word, and may come of the ranks alone."""


@dataclass(frozen=True)
class Interaction:
    """Two keys.

    Args:
        strength: part of the variation of the outcomes' ranks that is the pair's own, in [0, 1].
        n: configurations for which both were searched.
    """

    key_a: str
    key_b: str
    strength: float
    n: int


def interactions(record: SweepRecord) -> list[Interaction]:
    """The pairs of the most important keys that act together at all, the strongest first.

    A pair is left out where chance explains it, where it is weaker than `SMALLEST`, or where there are too few configurations
    to tell.
    """
    found = outcomes(record)
    keys = [one.key for one in importances(record)][:KEYS]
    drawn, worse = Drawn(record, found), losses(found, record.opened.mode)
    levels = {key: _levels(drawn, found, key) for key in keys}
    pairs = [_interaction(a, b, levels[a], levels[b], worse) for a, b in combinations(keys, 2)]
    return sorted((pair for pair in pairs if pair.strength >= SMALLEST), key=lambda pair: -pair.strength)


def _levels(drawn: Drawn, found: Sequence[Outcome], key: str) -> list[int | None]:
    """The choice, or the bin, of each configuration; None where the key was not searched."""
    domains = [drawn.domain(outcome, key) for outcome in found]
    values: list[int | None] = []
    for outcome, domain in zip(found, domains, strict=True):
        values.append(None if domain is None else cell_of(domain, outcome.params[key]))
    if all(domain is None or isinstance(domain, Choice) for domain in domains):
        return values
    numbers = [
        None if cell is None or domain is None else cell / cells_in(domain)
        for cell, domain in zip(values, domains, strict=True)
    ]
    there = sorted(number for number in numbers if number is not None)
    edges = [there[len(there) * place // BINS] for place in range(1, BINS)] if there else []
    return [None if number is None else sum(number >= edge for edge in edges) for number in numbers]


def _interaction(
    key_a: str, key_b: str, a: Sequence[int | None], b: Sequence[int | None], worse: Sequence[float]
) -> Interaction:
    import numpy as np

    rows = [(x, y, loss) for x, y, loss in zip(a, b, worse, strict=True) if x is not None and y is not None]
    strength = 0.0
    if rows:
        first = np.unique([x for x, _, _ in rows], return_inverse=True)[1]
        second = np.unique([y for _, y, _ in rows], return_inverse=True)[1]
        strength = _omega_squared(first, second, _ranks(np.array([loss for _, _, loss in rows])))
    return Interaction(key_a, key_b, strength, len(rows))


def _ranks(values_N: Array) -> Array:
    """From 0; equal values share the middle of theirs."""
    import numpy as np

    _, places, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts + 1) / 2)[places])


def _omega_squared(a_N: Array, b_N: Array, y_N: Array) -> float:
    """Of the interaction of two factors; 0 where it is within chance, or the cells are too thinly filled."""
    import numpy as np

    in_a, in_b = np.eye(a_N.max() + 1)[a_N], np.eye(b_N.max() + 1)[b_N]
    cells = np.unique(a_N * (b_N.max() + 1) + b_N, return_inverse=True)[1]
    in_cell = np.eye(cells.max() + 1)[cells]
    if len(y_N) < PER_CELL * in_cell.shape[1]:
        return 0.0
    total = ((y_N - y_N.mean()) ** 2).sum()
    both, rank_both = _unexplained(np.hstack([in_a, in_b]), y_N)
    full, rank_full = _unexplained(in_cell, y_N)
    degrees = rank_full - rank_both
    noise = full / (len(y_N) - rank_full)
    if degrees < 1 or total <= 0:
        return 0.0
    f = (both - full) / degrees / noise if noise > 0 else np.inf
    if f <= _critical(degrees):
        return 0.0
    return float(max((both - full - degrees * noise) / (total + noise), 0.0))


def _unexplained(design_NK: Array, y_N: Array) -> tuple[float, int]:
    """The sum of squares that a linear model leaves, and its rank."""
    import numpy as np

    solution, _, rank, _ = np.linalg.lstsq(design_NK, y_N, rcond=None)
    return float(((y_N - design_NK @ solution) ** 2).sum()), int(rank)


def _critical(degrees: int) -> float:
    """What F with so many degrees above, and many below, exceeds in 5 % of cases (Wilson and Hilferty's cube root)."""
    root: float = 1 - 2 / (9 * degrees) + 1.6449 * (2 / (9 * degrees)) ** 0.5
    return root**3
