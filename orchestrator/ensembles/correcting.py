"""What validation accuracy is worth of the best single member and of the winner: each was chosen on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.intervals import wilson
from orchestrator.ensembles.crossfitting import Fitted
from orchestrator.ensembles.looking import seed_spread
from orchestrator.ensembles.measures import in_top5, is_right, losses, losses_of_logits
from orchestrator.ensembles.parallel import one_thread_of_blas
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.statistics.correction import Corrected, corrected

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# M members, N examples, V methods

LOSSES = ("val/loss", "val/nll")
RESAMPLES = 1_000


@one_thread_of_blas()
def corrections(
    pool: Pool,
    fitted: Sequence[Fitted],
    winner: int,
    allowed: Sequence[bool],
    *,
    metric: str,
    seed: int,
    resamples: int,
) -> dict[str, float | None]:
    """What validation accuracy is worth of the best single member, and of the winner among the methods.

    Each is chosen anew on each resample by what it was chosen by here.
    """
    import numpy as np

    resamples = min(resamples, RESAMPLES)
    right_MN, by_MN = pool.is_right_MN, _objective(pool, metric)
    if by_MN is None:  # an objective that is none of these examples: they chose nothing
        right_MN = by_MN = right_MN[:1]
    is_loss = metric in LOSSES
    single = corrected(
        right_MN, np.random.default_rng([seed, 3]), resamples, larger_is_better=not is_loss, chosen_by_MN=by_MN
    )
    honest = [one.honest_NK for one, may in zip(fitted, allowed, strict=True) if may]
    right_VN = np.stack([is_right(said_NK, pool.labels_N) for said_NK in honest])
    by_VN = np.stack([losses(said_NK, pool.labels_N) for said_NK in honest]) if is_loss else right_VN
    best = corrected(
        right_VN, np.random.default_rng([seed, 4]), resamples, larger_is_better=not is_loss, chosen_by_MN=by_VN
    )
    (low, high), (winner_low, winner_high) = (_ends(one, len(pool.labels_N)) for one in (single, best))
    return {
        "naive": single.naive,
        "value": single.value,
        "low": low,
        "high": high,
        "winner_naive": float(is_right(fitted[winner].honest_NK, pool.labels_N).mean()),
        "winner_value": best.value,
        "winner_low": winner_low,
        "winner_high": winner_high,
        "seeds": seed_spread(pool, pool.is_right_MN.mean(axis=1)),
        "seeds_test": None,
    }


def _objective(pool: Pool, metric: str) -> Array | None:
    """What members are ordered by, of each on each example; None of an objective that is none of these examples."""
    import numpy as np

    places, labels_N = range(len(pool)), pool.labels_N
    if metric in LOSSES:
        return np.stack([losses_of_logits(pool.logits_of(place), labels_N) for place in places])
    if metric == "val/top5_accuracy":
        return np.stack([in_top5(pool.logits_of(place), labels_N) for place in places])
    return pool.is_right_MN if metric == "val/accuracy" else None


def _ends(found: Corrected, examples: int) -> tuple[float, float]:
    """The out-of-bag interval; where it has no width, or meets 0 or 1, at least Wilson's on as many examples.

    Of few examples, all of which are right, all resamples say 1: that is no certainty.
    """
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    if 0.0 < low < high < 1.0:
        return low, high
    share = min(max(found.value, 0.0), 1.0)
    least, most = wilson(share * examples, examples)
    return min(low, least), max(high, most)
