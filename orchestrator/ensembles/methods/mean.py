"""Equal weights: the mean of probabilities, of logits, or the majority of votes; of all members or of the best ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import Ensemble, uniform

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

Equal = Literal["probabilities", "logits", "votes"]


class Mean:
    """Pools the first members of the pool, which are the best, with equal weights.

    Args:
        pooling: `probabilities`; `logits`, the normalized geometric mean of probabilities; or `votes`.
        top: how many members; None takes all.
    """

    def __init__(self, pooling: Equal = "probabilities", top: int | None = None) -> None:
        if pooling not in get_args(Equal):
            raise ValueError(f"pooling must be one of {', '.join(get_args(Equal))}, got {pooling}")
        if top is not None and top < 2:
            raise ValueError(f"top must be at least 2, got {top}")
        self.pooling, self.top = pooling, top
        self.fits = top is not None

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        del generator
        if self.top is not None and self.top >= len(pool):
            raise NotPossibleError(f"there are {len(pool)} members, all of which the mean of all has")
        return uniform(tuple(range(self.top or len(pool))), self.pooling)
