"""What the winner may cost, and how a method's choice of members is cut to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.ensembles.catalogue import BASELINE, Choice
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.methods.greedy import counted, cut
from orchestrator.ensembles.pooling import Ensemble

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import HasMembers, Pool


@dataclass(frozen=True)
class Limits:
    """Bounds of an ensemble; None does not bound.

    Args:
        members: distinct ones.
        multiply_adds: of all members together, for one image. A member whose number is not known is above every bound.
    """

    members: int | None = None
    multiply_adds: int | None = None

    def __bool__(self) -> bool:
        return self.members is not None or self.multiply_adds is not None

    def hold(self, pool: HasMembers, members: Iterable[int]) -> bool:
        """Whether these members of the pool are within the bounds."""
        distinct = {*members}
        if self.members is not None and len(distinct) > self.members:
            return False
        if self.multiply_adds is None:
            return True
        costs = [pool.members[place].multiply_adds for place in distinct]
        return sum(cost for cost in costs if cost is not None) <= self.multiply_adds and None not in costs


def built(choice: Choice, pool: Pool, generator: np.random.Generator, limits: Limits) -> Ensemble:
    """The method's ensemble; one that chooses or weights members by validation chooses within the limits.

    The baseline and methods that take all members as they are stay what they are, and cannot win where they cost too much.

    Raises:
        NotPossibleError: the method does not apply to the pool, or to what the limits leave of it.
    """
    if not limits or not choice.method.fits or choice.name == BASELINE:
        return choice.method.build(pool, generator)
    single = replace(limits, members=None)
    affordable = [place for place in range(len(pool)) if single.hold(pool, [place])]
    if not affordable:
        raise NotPossibleError("no member is known to cost as little as the limit")
    found = choice.method.build(pool.of(affordable), generator) if len(affordable) < len(pool) else None
    ensemble = moved(found, affordable) if found else choice.method.build(pool, generator)
    return ensemble if limits.hold(pool, ensemble.members) else _cut(ensemble, choice, pool, generator, limits)


def moved(ensemble: Ensemble, places: list[int]) -> Ensemble:
    """An ensemble of a part of a pool as one of the whole: `places` are where the part's members are."""
    return replace(
        ensemble,
        members=tuple(places[member] for member in ensemble.members),
        steps=tuple(replace(step, member=places[step.member]) for step in ensemble.steps),
    )


def _cut(ensemble: Ensemble, choice: Choice, pool: Pool, generator: np.random.Generator, limits: Limits) -> Ensemble:
    """A selection ends before it is too large; others keep their heaviest members, of equal ones the best."""
    if ensemble.steps:
        count = 1
        while limits.hold(pool, [step.member for step in ensemble.steps[: count + 1]]):
            count += 1
        steps = cut(ensemble.steps[:count])
        return counted(Counter(step.member for step in steps), steps)
    kept: list[int] = []
    for _, place in sorted(zip([-weight for weight in ensemble.weights], ensemble.members, strict=True)):
        if limits.hold(pool, [*kept, place]):
            kept.append(place)
    if len(set(ensemble.weights)) == 1 and ensemble.pooling != "stacked":
        return replace(ensemble, members=tuple(kept), weights=(1 / len(kept),) * len(kept))
    return moved(choice.method.build(pool.of(kept), generator), kept)
