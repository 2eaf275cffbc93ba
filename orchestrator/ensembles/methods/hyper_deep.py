"""Hyper-deep ensembles: greedy over configurations, more seeds of those picked, and greedy over all of these.

Wenzel, Snoek, Tran and Jenatton 2020, Hyperparameter ensembles for robustness and uncertainty quantification, arXiv:2006.13570,
algorithm 2. `compare SWEEP --deepen 12` trains the seeds (`ensembles.deepening`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.methods.greedy import counted, cut, selected
from orchestrator.ensembles.pooling import Ensemble, Step

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool


class HyperDeep:
    """Selects K distinct members from K configurations with K seeds each, with replacement.

    K is the number of seeds of the configuration with most: as many networks as its deep ensemble has, at the same cost of a
    prediction.

    Args:
        picks: steps of a selection, at most.
    """

    fits = True

    def __init__(self, picks: int = 50) -> None:
        if picks < 1:
            raise ValueError(f"picks must be at least 1, got {picks}")
        self.picks = picks

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        del generator
        groups = {name: places for name, places in seeds_of(pool).items() if len(places) > 1}
        if len(groups) < 2:
            raise NotPossibleError("fewer than two configurations have several seeds; --deepen 12 trains more of some")
        size = max(map(len, groups.values()))
        firsts = [places[0] for places in groups.values()]
        chosen = [firsts[place] for place in distinct(selected(pool.of(firsts), self.picks), size)]
        places = sorted(place for first in chosen for place in groups[pool.members[first].configuration])
        steps = [
            replace(step, member=places[step.member])
            for step in cut(within(selected(pool.of(places), self.picks), size))
        ]
        return counted(Counter(step.member for step in steps), steps)


def seeds_of(pool: Pool) -> dict[str, list[int]]:
    """Configuration -> the places of its members, the trial that was trained first at the head."""
    groups: dict[str, list[int]] = {}
    for place, member in enumerate(pool.members):
        groups.setdefault(member.configuration, []).append(place)
    return {name: sorted(places, key=lambda place: _number(pool, place)) for name, places in groups.items()}


def distinct(steps: Sequence[Step], size: int) -> list[int]:
    """The first `size` members that a selection takes, each once."""
    return [*dict.fromkeys(step.member for step in steps)][:size]


def within(steps: Sequence[Step], size: int) -> list[Step]:
    """The steps of a selection up to the one that would take one member too many."""
    taken: set[int] = set()
    for count, step in enumerate(steps):
        taken.add(step.member)
        if len(taken) > size:
            return [*steps[:count]]
    return [*steps]


def _number(pool: Pool, place: int) -> tuple[str, int, int]:
    sweep, _, index = pool.members[place].name.rpartition("/")
    return sweep, int(index) if index.isdecimal() and len(index) < 20 else 0, place
