"""How an ensemble is built: one file a method, and one YAML in `conf/ensemble` a choice of its arguments.

A method is made with the arguments of its YAML and builds an ensemble from a pool of validation predictions. What it fits, it
fits to that pool alone, so that calling it on some of the examples and scoring it on the others is honest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool
    from orchestrator.ensembles.pooling import Ensemble


class NotPossibleError(Exception):
    """A method does not apply to a pool; the message says why: `seeds`: no configuration has two seeds."""


class Method(Protocol):
    """Builds an ensemble.

    Attributes:
        fits: whether anything is chosen or weighted by the validation labels; where not, its score there is honest as it is.

    One that computes much has a true `on_request`: it is tried where it is named alone.
    """

    fits: bool

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        """The ensemble.

        Raises:
            NotPossibleError: the pool has too few members, or none of the kind that it needs.
        """
