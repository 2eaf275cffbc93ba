"""Deep ensembles: the seeds of one configuration, with equal weights. Lakshminarayanan et al. 2017, arXiv:1612.01474."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.ensembles.methods import NotPossibleError
from orchestrator.ensembles.pooling import Ensemble, uniform

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool


class Seeds:
    """Of the configurations with several seeds, the one with the best mean of its sweep's objective."""

    fits = True

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        import numpy as np

        del generator
        groups: dict[str, list[int]] = {}
        for place, member in enumerate(pool.members):
            groups.setdefault(member.configuration, []).append(place)
        several = [places for places in groups.values() if len(places) > 1]
        if not several:
            raise NotPossibleError("no configuration has two seeds; repeat=5 trains five of each")
        sign = 1 if pool.larger_is_better else -1
        best = max(several, key=lambda places: sign * np.mean([pool.members[place].value for place in places]))
        return uniform(tuple(best))
