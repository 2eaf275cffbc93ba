"""One network from the weights of several trials or epochs: soups, Wortsman et al. 2022, arXiv:2203.05482, and SWA.

They choose by what averaged networks say, which a pool does not know; `ensembles.cooking` averages for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.base.layout import AVERAGE, BEST
from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import Ensemble

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

Right = Callable[[tuple[int, ...]], int]
"""How many examples the average of some trials gets right."""


class Soup:
    """Averages weights of trials of one network.

    Args:
        most: trials that are looked at, the best ones.

    Attributes:
        file: of a trial, that has its weights.
        fewest: trials that it takes.
        anew: statistics of normalization are computed for the weights of a single trial, too: they are an average themselves.
        evaluate: the spec by which the network is asked; None asks as its trials were.
    """

    fits = True
    file = BEST
    fewest = 2
    anew = False
    evaluate: Mapping[str, Any] | None = None

    def __init__(self, most: int = 20) -> None:
        if not self.fewest <= most <= 1_000:
            raise ValueError(f"most must be from {self.fewest} to 1000, got {most}")
        self.most = most

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        """
        Raises:
            NotPossibleError: always: a pool has predictions and no weights.
        """
        raise NotPossibleError("it averages weights, and there are predictions alone")

    def lacking(self, found: int) -> str:
        """Why so few weights of one network are not enough."""
        return f"it takes the weights of {self.fewest} trials of one network, {found} are kept here; keep_weights=20 keeps more"

    def said(self, taken: int, kept: int, architecture: str) -> str:
        """What was taken of what is kept, in words."""
        looked_at = f"the best {self.most} of " if kept > self.most else ""
        return f"{taken} of {looked_at}{kept} kept trials of {architecture}"

    def chosen(self, order: Sequence[int], right: Right) -> tuple[int, ...]:
        """Which trials are averaged.

        Args:
            order: trials of one network, the best first; `fewest` to `most`.
        """
        raise NotImplementedError


class UniformSoup(Soup):
    """All of them, with equal weights."""

    def chosen(self, order: Sequence[int], right: Right) -> tuple[int, ...]:
        del right
        return tuple(order)


class GreedySoup(Soup):
    """Begins with the best, and takes each of the others in their order unless the accuracy falls."""

    def chosen(self, order: Sequence[int], right: Right) -> tuple[int, ...]:
        taken: tuple[int, ...] = (order[0],)
        for place in order[1:]:
            if right((*taken, place)) >= right(taken):
                taken = (*taken, place)
        return taken


class Swa(Soup):
    """The best of the trials that averaged their own weights over their last epochs. Izmailov et al. 2018, arXiv:1803.05407."""

    file = AVERAGE
    fewest = 1
    anew = True

    def __init__(self) -> None:
        super().__init__(most=1)

    def lacking(self, found: int) -> str:
        del found
        return "no trial here kept an average of its epochs; average_from=0.75 makes one of each"

    def said(self, taken: int, kept: int, architecture: str) -> str:
        del taken
        return f"the best of {kept} kept trials with an average of their epochs, of {architecture}"

    def chosen(self, order: Sequence[int], right: Right) -> tuple[int, ...]:
        del right
        return (order[0],)
