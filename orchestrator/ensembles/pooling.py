"""How the predictions of several members become one (`base.pooling`), and the temperature that fits labels best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.base.pooling import SMALLEST, Ensemble, Pooling, Step, log_softmax, softmax, tempered, uniform
from orchestrator.ensembles.pool import Pool

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = [
    "SMALLEST",
    "Ensemble",
    "Pooling",
    "Step",
    "calibrated",
    "calibrated_members",
    "log_softmax",
    "softmax",
    "temperature_of",
    "tempered",
    "uniform",
]

# N examples, K classes

COLDEST, HOTTEST = 0.05, 20.0
"""The ends of the range of temperatures."""


def temperature_of(probabilities_NK: Array, labels_N: Array) -> float:
    """The temperature with the least negative log-likelihood, in [0.05, 20].

    The likelihood is concave in the inverse of the temperature: its slope there has one root, or the best is an end of the range.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    import numpy as np
    from scipy.optimize import brentq

    logits_KN = np.log(np.maximum(np.ascontiguousarray(probabilities_NK.T, dtype=np.float64), SMALLEST))
    logits_KN -= logits_KN.max(axis=0)
    of_right_N = logits_KN[labels_N, np.arange(len(labels_N))]
    # What has no error has no best temperature: it is left alone rather than taken to the end of the range.
    if (probabilities_NK.argmax(1) == labels_N).all():
        return 1.0

    def nll(temperature: float) -> float:
        return float((np.log(np.exp(logits_KN / temperature).sum(axis=0)) - of_right_N / temperature).mean())

    def slope(log_temperature: float) -> float:
        scaled_KN = np.exp(logits_KN * np.exp(-log_temperature))
        total_N = scaled_KN.sum(axis=0)
        scaled_KN *= logits_KN
        return float((scaled_KN.sum(axis=0) / total_N - of_right_N).mean())

    cold, hot = float(np.log(COLDEST)), float(np.log(HOTTEST))
    if slope(cold) <= 0:
        found = COLDEST
    elif slope(hot) >= 0:
        found = HOTTEST
    else:
        found = float(np.exp(brentq(slope, cold, hot, xtol=1e-7)))
    return found if nll(found) < nll(1.0) else 1.0


def calibrated(ensemble: Ensemble, pool: Pool) -> Ensemble:
    """The ensemble with the temperature of its pooled probabilities fitted to the pool's labels."""
    plain = replace(ensemble, temperature=1.0)
    return replace(plain, temperature=temperature_of(plain.of_pool(pool), pool.labels_N))


def calibrated_members(ensemble: Ensemble, pool: Pool) -> Ensemble:
    """The ensemble with the temperature of each member fitted by itself."""
    found = tuple(temperature_of(softmax(pool.logits_of(place)), pool.labels_N) for place in ensemble.members)
    return replace(ensemble, member_temperatures=found)
