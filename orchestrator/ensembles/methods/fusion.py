"""Heterogeneous fusion: the best trial of each architecture. Shao et al. 2016, the classification winner of ILSVRC 2016."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import Ensemble, uniform

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool


class Fusion:
    """The mean of the best member of each architecture.

    Args:
        top: at most so many architectures, the best ones; None takes all.
    """

    fits = True

    def __init__(self, top: int | None = None) -> None:
        if top is not None and top < 2:
            raise ValueError(f"top must be at least 2, got {top}")
        self.top = top

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        del generator
        first: dict[str, int] = {}
        for place, member in enumerate(pool.members):
            first.setdefault(member.architecture, place)
        if len(first) < 2:
            raise NotPossibleError(f"all members are of one architecture ({', '.join(first)}); model=a,b searches two")
        return uniform(tuple([*first.values()][: self.top]))
