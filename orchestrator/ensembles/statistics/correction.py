"""The winner's curse: what the best of many is worth on new examples, corrected by choosing and scoring on different ones.

Tsamardinos, Greasidou and Borboudakis 2018, Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation, Machine Learning 107: BBC-CV over examples. Each resample chooses the best on the examples that it drew and
scores it on those that it did not; the mean over resamples is the corrected value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.ensembles.statistics.bootstrap import counts, interval

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# R resamples, M models, N examples


@dataclass(frozen=True)
class Corrected:
    """The value of the best of many.

    Args:
        naive: its mean on the examples that it was chosen on.
        value: what to expect of it on new examples.
        low, high: the 95 % interval of `value`.
    """

    naive: float
    value: float
    low: float
    high: float

    @property
    def bias(self) -> float:
        """By how much the naive value is too good."""
        return self.naive - self.value


def corrected(
    scores_MN: Array, generator: np.random.Generator, resamples: int = 1_000, *, larger_is_better: bool = True
) -> Corrected:
    """The best model's mean score, corrected for having been chosen by it.

    Args:
        scores_MN: of each model on each example: right or wrong, or a loss.
    """
    import numpy as np

    sign = 1.0 if larger_is_better else -1.0
    examples = scores_MN.shape[1]
    centre = float(scores_MN.mean())
    apart_MN = np.empty(scores_MN.shape, np.float32)
    for place, scores_N in enumerate(scores_MN):
        apart_MN[place] = sign * (scores_N - centre)
    out_of_bag = []
    for part in counts(examples, resamples, generator):
        chosen_r = (part @ apart_MN.T).argmax(axis=1)
        left_rN = part == 0
        apart_rN = apart_MN[chosen_r]
        with np.errstate(invalid="ignore"):
            out_of_bag.append((apart_rN * left_rN).sum(axis=1, dtype=np.float64) / left_rN.sum(axis=1))
    found_R = np.concatenate(out_of_bag)
    found_R = found_R[np.isfinite(found_R)]  # of very few examples a resample may leave none
    if not len(found_R):
        raise ValueError(f"{examples} examples are too few to be resampled")
    naive = float((sign * scores_MN.mean(axis=1, dtype=np.float64)).max()) * sign
    low, high = sorted(centre + sign * end for end in interval(found_R))
    return Corrected(naive, centre + sign * float(found_R.mean()), low, high)
