"""The bootstrap over examples: all methods are scored on the same resamples, so that their differences are paired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# R resamples, V vectors of scores, N examples

RESAMPLES = 10_000

AT_ONCE = 2**23
"""Counts that are held together."""


def counts(examples: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """How often each example is drawn, float32 [r, N] by parts, `resamples` rows in all; each row sums to N."""
    import numpy as np

    rows = max(1, AT_ONCE // examples)
    for start in range(0, resamples, rows):
        r = min(rows, resamples - start)
        drawn = generator.integers(0, examples, (r, examples), dtype=np.int32)
        drawn += (np.arange(r, dtype=np.int32) * examples)[:, None]
        yield np.bincount(drawn.ravel(), minlength=r * examples).reshape(r, examples).astype(np.float32)


def resampled_means(scores_VN: Array, generator: np.random.Generator, resamples: int = RESAMPLES) -> Array:
    """The mean of each vector over each resample, float64 [R, V]; the resamples are the same for all vectors."""
    import numpy as np

    centre_V = scores_VN.mean(axis=1, dtype=np.float64)
    apart_NV = np.ascontiguousarray((scores_VN - centre_V[:, None]).T, dtype=np.float32)  # small numbers lose no digits
    examples = scores_VN.shape[1]
    parts = [part @ apart_NV for part in counts(examples, resamples, generator)]
    means_RV: Array = np.concatenate(parts).astype(np.float64) / examples + centre_V
    return means_RV


def interval(means_R: Array, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled means."""
    import numpy as np

    low, high = np.quantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
