"""The winner's curse: what the best of many is worth on new examples, corrected by choosing and scoring on different ones.

Tsamardinos, Greasidou and Borboudakis 2018, Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation, Machine Learning 107: BBC-CV over examples. Each resample chooses the best on the examples that it drew and
scores it on those that it did not; the mean over resamples is the corrected value. What is chosen by (the objective) may be
another measure than what is scored (the accuracy).
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
    scores_MN: Array,
    generator: np.random.Generator,
    resamples: int = 1_000,
    *,
    larger_is_better: bool = True,
    chosen_by_MN: Array | None = None,
) -> Corrected:
    """The best model's mean score, corrected for having been chosen.

    Args:
        scores_MN: of each model on each example: right or wrong, or a loss.
        larger_is_better: of what is chosen by.
        chosen_by_MN: what the best is chosen by, of each model on each example; None chooses by the scores.

    Raises:
        ValueError: each resample drew all examples.
    """
    import numpy as np

    chosen_by_MN = scores_MN if chosen_by_MN is None else chosen_by_MN
    sign, examples = (1.0 if larger_is_better else -1.0), scores_MN.shape[1]
    centre = float(scores_MN.mean())
    apart_MN = _apart(scores_MN, centre)
    order_MN = apart_MN if chosen_by_MN is scores_MN else _apart(chosen_by_MN, float(chosen_by_MN.mean()))
    out_of_bag = []
    for part in counts(examples, resamples, generator):
        chosen_r = (sign * (part @ order_MN.T)).argmax(axis=1)
        left_rN = part == 0
        with np.errstate(invalid="ignore"):
            out_of_bag.append((apart_MN[chosen_r] * left_rN).sum(axis=1, dtype=np.float64) / left_rN.sum(axis=1))
    found_R = np.concatenate(out_of_bag)
    found_R = found_R[np.isfinite(found_R)]  # of very few examples a resample may leave none
    if not len(found_R):
        raise ValueError(f"{examples} examples are too few to be resampled")
    chosen = int((sign * chosen_by_MN.mean(axis=1, dtype=np.float64)).argmax())
    low, high = interval(found_R)
    naive = float(scores_MN[chosen].mean(dtype=np.float64))
    return Corrected(naive, centre + float(found_R.mean()), centre + low, centre + high)


def _apart(scores_MN: Array, centre: float) -> Array:
    """Differences from the centre, float32: small numbers lose no digits."""
    import numpy as np

    found_MN = np.empty(scores_MN.shape, np.float32)
    for place, scores_N in enumerate(scores_MN):
        found_MN[place] = scores_N - centre
    return found_MN
