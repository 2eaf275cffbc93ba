"""Which searched key mattered: conditional PED-ANOVA, with a test of whether a key did more than chance would.

A key matters where the best configurations have other values of it than all configurations have. Sources: Watanabe et al.
2023, PED-ANOVA, arXiv:2304.10255; for keys that are searched under a condition, or from several domains, arXiv:2601.20800.
The divergences are those of Optuna 5.0, whose default this is; the tests compare. They are computed here because importing
Optuna's takes 6 s of CPU (it brings scikit-learn), and the end of every sweep wants them.

Our deviations. The best tenth is compared with all; of a short sweep it is more, up to the best half: of 30 simulated trials,
five at the top told the learning rate from chance in 7 of 25 sweeps, fifteen in 18. And a key's divergence is above zero by
chance alone, the more so the more values the key can have, so that numbers would always come before choices: what shufflings
of the outcomes give on average is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.outcomes import Drawn, Outcome, losses, outcomes
from orchestrator.journal.record import SweepRecord
from orchestrator.space import Choice, Domain, Interval, Range
from orchestrator.space.domains import same

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# P shufflings, the first of which is none; N configurations; G cells of a domain

SHARE = 0.1
FEWEST_BEST = 30
"""So many are the best at least, where that is at most half of the configurations."""

FEWEST = 10
"""With fewer configurations nothing is said."""

MOST = 0.6
"""The best are not more than this share of all."""

CELLS = 50
SHUFFLINGS = 200
CHANCE = 0.05
"""A key whose importance this share of the shufflings reaches is not told from chance."""


@dataclass(frozen=True)
class Importance:
    """How much a searched key mattered.

    Args:
        share: of what all keys have beyond chance, in [0, 1].
        n: configurations for which the key was searched.
        chance: share of the shufflings of the outcomes in which the key seems to matter as much, in (0, 1]; small is sure.
        divergence: how far the best are from all, as Optuna computes it; what chance gives is still in it.
    """

    key: str
    share: float
    n: int
    chance: float
    divergence: float

    @property
    def beyond_chance(self) -> bool:
        return self.chance <= CHANCE


def importances(record: SweepRecord) -> list[Importance]:
    """The searched keys, the most important first; none where nothing can be said.

    That is so with fewer than `FEWEST` configurations, where all are equal, and where no key is beyond chance: shares sum to 1,
    and would make something of nothing.
    """
    found = outcomes(record)
    if len(found) < FEWEST:
        return []
    worse = losses(found, record.opened.mode)
    best = _best(worse)
    if not any(best):
        return []
    drawn, best_PN = Drawn(record, found), _shuffled(best)
    rows = {key: _divergences(drawn, found, key, best_PN) for key in drawn.keys}
    beyond = {key: max(float(sizes_P[0] - sizes_P[1:].mean()), 0.0) for key, (sizes_P, _) in rows.items()}
    total = sum(beyond.values()) or 1.0
    ranked = [
        Importance(key, beyond[key] / total, n, float((sizes_P >= sizes_P[0]).mean()), float(sizes_P[0]))
        for key, (sizes_P, n) in rows.items()
    ]
    return sorted(ranked, key=lambda one: -one.share) if any(one.beyond_chance for one in ranked) else []


def _best(worse: Sequence[float]) -> list[bool]:
    """Which outcomes are among the best; those that tie with the last of them are, too, unless they are most of all.

    Where most networks stay at chance, the best are those that do not.
    """
    best = max(math.ceil(SHARE * len(worse)), min(FEWEST_BEST, len(worse) // 2))
    cutoff = sorted(worse)[best - 1]
    with_ties = [loss <= cutoff for loss in worse]
    return with_ties if sum(with_ties) <= len(worse) * MOST else [loss < cutoff for loss in worse]


def _divergences(drawn: Drawn, found: Sequence[Outcome], key: str, best_PN: Array) -> tuple[Array, int]:
    """[P] of a key, and the configurations that have it."""
    import numpy as np

    regimes: dict[Domain, tuple[list[int], list[int]]] = {}
    for place, outcome in enumerate(found):
        domain = drawn.domain(outcome, key)
        cell = None if domain is None else cell_of(domain, outcome.params[key])
        if domain is not None and cell is not None:
            members, cells = regimes.setdefault(domain, ([], []))
            members.append(place)
            cells.append(cell)
    sizes_P = np.zeros(len(best_PN))
    for domain, (members, cells) in regimes.items():
        size = cells_in(domain)
        if size > 1 and len(members) > 1:
            in_cell = np.eye(size)[cells]
            top_PG = best_PN[:, members] @ in_cell
            sizes_P += _regime(top_PG, in_cell.sum(0), best_PN[0].sum(), len(found), isinstance(domain, Choice))
    return sizes_P, sum(len(members) for members, _ in regimes.values())


def _shuffled(best: Sequence[bool]) -> Array:
    """The best as they are, then under other configurations, by a seed that is always the same."""
    import numpy as np

    random = np.random.default_rng(0)
    rows = [np.asarray(best, dtype=float)]
    rows += [random.permutation(rows[0]) for _ in range(SHUFFLINGS)]
    return np.stack(rows)


def _regime(top_PG: Array, all_G: Array, best: float, total: int, is_choice: bool) -> Array:
    """What the configurations that draw a key from one domain add to its importance (Algorithm 1 of the second source)."""
    import numpy as np

    density = _choice_density if is_choice else _number_density
    counts_P = top_PG.sum(1)
    filled = counts_P > 0
    sizes_P = np.zeros(len(top_PG))
    top = density(top_PG[filled]) + 1e-12
    whole = density(all_G[None]) + 1e-12
    sizes_P[filled] = (whole * (top / whole - 1) ** 2).sum(1)
    weighted_P: Array = (counts_P / best) ** 2 / (all_G.sum() / total) * sizes_P
    return weighted_P


def _number_density(counts_PG: Array) -> Array:
    """Truncated normal kernels around the filled cells, Scott's width, and one broad one; [P, G], rows sum to 1."""
    import numpy as np

    size = counts_PG.shape[1]
    grid_G = np.arange(size)
    total_P = counts_PG.sum(1)
    mean_P = counts_PG @ grid_G / total_P
    variance_P = (counts_PG * (grid_G - mean_P[:, None]) ** 2).sum(1) / np.maximum(1, total_P - 1)
    summed_PG = counts_PG.cumsum(1)
    first_P = (summed_PG >= np.maximum(total_P // 4, 1)[:, None]).argmax(1)
    third_P = (summed_PG > (total_P * 3 // 4)[:, None]).argmax(1)
    width_P = 1.059 * np.minimum((third_P - first_P) / 1.34, np.sqrt(variance_P)) * total_P**-0.2
    width_P = np.maximum(width_P, 0.5 / 1.64)
    kernels_PGG = _kernels(width_P, size)
    weights_PG = counts_PG / (total_P + 1)[:, None]
    middle = (size - 1) / 2
    edges = [0.5 * math.erf((x - middle) / size / math.sqrt(2)) for x in np.arange(size + 1) - 0.5]
    broad_G = np.diff(edges) / (edges[-1] - edges[0])
    density: Array = np.einsum("pxm,pm->px", kernels_PGG, weights_PG) + broad_G / (total_P + 1)[:, None]
    return density


def _kernels(width_P: Array, size: int) -> Array:
    """[P, x, m]: the share of a normal around cell m, cut off at both ends, that falls into cell x."""
    import numpy as np

    edges = np.arange(-size, size) + 0.5
    below = [[0.5 * math.erf(edge / width / math.sqrt(2)) for edge in edges] for width in width_P]
    below_PE = np.array(below)
    apart = np.arange(size)[:, None] - np.arange(size)[None] + size
    inside = below_PE[:, apart] - below_PE[:, apart - 1]
    whole = below_PE[:, apart[-1]] - below_PE[:, apart[0] - 1]
    return np.asarray(inside / whole[:, None, :])


def _choice_density(counts_PG: Array) -> Array:
    """The shares of the choices, drawn towards equal ones; [P, G], rows sum to 1."""
    filled_P1 = (counts_PG > 0).sum(1, keepdims=True) + 1
    total_P1 = counts_PG.sum(1, keepdims=True)
    size = counts_PG.shape[1]
    kernels = (total_P1 / filled_P1 + counts_PG) / (1 + size / filled_P1)
    density: Array = (kernels + 1 / size) / (total_P1 + 1)
    return density


def cells_in(domain: Domain) -> int:
    """Into how many cells a domain is divided."""
    if isinstance(domain, Choice):
        return domain.size
    if isinstance(domain, Range):
        return min(domain.size, CELLS)
    if domain.size is None:
        return CELLS
    return min(math.ceil(math.log2(domain.size)) + 1 if domain.log else domain.size, CELLS)


def cell_of(domain: Domain, value: Any) -> int | None:
    """The cell of a value, from 0; None of one that the domain does not have."""
    if isinstance(domain, Choice):
        same_as = (place for place, own in enumerate(domain.values) if same(value, own) or own == str(value))
        return next(same_as, None)
    try:
        low, high, at = _scaled(domain, value)
    except (ValueError, TypeError, OverflowError):
        return None
    size = cells_in(domain)
    if size == 1 or not 0 < high - low < math.inf:
        return 0
    return min(max(math.ceil((at - low) / ((high - low) / (size - 1)) - 0.5), 0), size - 1)


def _scaled(domain: Range | Interval, value: Any) -> tuple[float, float, float]:
    """Both ends and the value, on the scale on which cells are equally wide."""
    if isinstance(domain, Range):
        return 0, domain.size - 1, domain.place(value)
    if domain.log:
        return math.log(domain.low), math.log(domain.high), math.log(value)
    return domain.low, domain.high, value
