"""The networks of one training: the weights that the best trial kept at the ends of the cycles of its learning rate.

Huang et al. 2017, Snapshot ensembles, arXiv:1704.00109: their probabilities are averaged with equal weights. A pool knows the
predictions of the best epoch of a trial alone; `ensembles.cooking` computes those of its snapshots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import Ensemble

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

LACKING = (
    "no trial here kept snapshots; epochs=10 schedule=cyclic_cosine schedule.cycles=5 snapshots=5 keeps five of each"
)


class Snapshots:
    """The snapshots of the best of the trials that have some."""

    fits = True

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        """
        Raises:
            NotPossibleError: always: a pool has predictions and no weights.
        """
        raise NotPossibleError("it takes the weights of snapshots, and there are predictions alone")
