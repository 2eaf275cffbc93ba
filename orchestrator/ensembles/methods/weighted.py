"""Weights on the simplex with the least negative log-likelihood of the mean of probabilities: a convex problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.pooling import SMALLEST, Ensemble

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.ensembles.pool import Pool

    Array = np.ndarray[Any, Any]

# M members, N examples


class Weighted:
    """Weights each member so that the likelihood of the validation labels is largest.

    The likelihood of a mixture with fixed components: expectation maximization raises it with every step, and its optimum is
    reached where no member's gradient exceeds 1 (Karush-Kuhn-Tucker), which bounds what is left to gain.

    Args:
        tolerance: nats an example that may be left to gain.
        steps: at most so many.
        smallest: members of less weight are left out.

    Source: Redner and Walker 1984, Mixture densities, maximum likelihood and the EM algorithm, SIAM Review 26.
    """

    fits = True

    def __init__(self, tolerance: float = 1e-5, steps: int = 2_000, smallest: float = 1e-3) -> None:
        if not tolerance > 0:
            raise ValueError(f"tolerance must be above 0, got {tolerance}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not 0 <= smallest < 0.5:
            raise ValueError(f"smallest must be in [0, 0.5), got {smallest}")
        self.tolerance, self.steps, self.smallest = tolerance, steps, smallest

    def build(self, pool: Pool, generator: np.random.Generator) -> Ensemble:
        import numpy as np

        del generator
        weights_M = best_weights(np.maximum(pool.right_MN, SMALLEST), self.tolerance, self.steps)
        kept = np.flatnonzero(weights_M >= min(self.smallest, weights_M.max()))
        kept = kept[np.argsort(-weights_M[kept], kind="stable")]
        weights = weights_M[kept] / weights_M[kept].sum()
        return Ensemble(tuple(kept.tolist()), tuple(weights.tolist()))


def best_weights(right_MN: Array, tolerance: float, steps: int) -> Array:
    """Weights [M] >= 0 that sum to 1 and maximize the mean of log(weights @ right_MN).

    Steps are over-relaxed (weights * gradient ** 2) as long as that helps, and plain EM otherwise, which always does.
    """
    import numpy as np

    members, examples = right_MN.shape
    weights_M = np.full(members, 1 / members)
    mixed_N = weights_M @ right_MN
    value = np.log(mixed_N).mean()
    power = 2.0
    for _ in range(steps):
        gradient_M = right_MN @ (1 / mixed_N) / examples
        if gradient_M.max() - 1 <= tolerance:  # by concavity nothing gains more than the largest gradient less 1
            break
        bold_M = weights_M * gradient_M**power
        bold_M /= bold_M.sum()
        bold_N = bold_M @ right_MN
        if (bold := np.log(bold_N).mean()) > value:
            weights_M, mixed_N, value, power = bold_M, bold_N, bold, min(power * 1.5, 64.0)
        else:
            weights_M = weights_M * gradient_M
            weights_M /= weights_M.sum()
            mixed_N = weights_M @ right_MN
            value, power = np.log(mixed_N).mean(), max(power / 4, 1.0)
    return weights_M
