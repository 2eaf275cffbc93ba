"""Heterogeneous fusion: the best trial of each architecture. Shao et al. 2016, the classification winner of ILSVRC 2016."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import Ensemble, uniform

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool


MULTI_SCALE = "orchestrator.training.evaluation.multi_scale.multi_scale"


class Fusion:
    """The mean of the best member of each architecture.

    Args:
        top: at most so many architectures, the best ones; None takes all.
        views: scales of an image, over which the prediction of each member is averaged as by `evaluate=multi_scale`; None takes
            the predictions as they are stored. Views take kept weights, and many passes.

    Attributes:
        evaluate: the spec by which members are asked; None for their stored predictions.
        on_request: whether it is tried where it is named alone.
    """

    fits = True

    def __init__(self, top: int | None = None, views: Sequence[float] | None = None) -> None:
        if top is not None and top < 2:
            raise ValueError(f"top must be at least 2, got {top}")
        self.top = top
        self.evaluate: Mapping[str, Any] | None = (
            None if views is None else {"_target_": MULTI_SCALE, "scales": [*views]}
        )
        self.on_request = views is not None

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        del generator
        if self.evaluate is not None:
            raise NotPossibleError("its members are asked about views, and there are predictions alone")
        first: dict[str, int] = {}
        for place, member in enumerate(pool.members):
            first.setdefault(member.architecture, place)
        if len(first) < 2:
            raise NotPossibleError(f"all members are of one architecture ({', '.join(first)}); model=a,b searches two")
        return uniform(tuple([*first.values()][: self.top]))
