"""The best member alone: what every ensemble is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.ensembles.pooling import Ensemble, uniform

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool


class BestSingle:
    """The first member of the pool: that with the best objective in its sweep."""

    fits = True

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        del pool, generator
        return uniform((0,))
