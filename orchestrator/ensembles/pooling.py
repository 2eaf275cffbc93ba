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

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    logits_NK = np.log(np.maximum(probabilities_NK, SMALLEST))
    at = np.arange(len(labels_N))

    def nll(log_temperature: float) -> float:
        return float(-log_softmax(logits_NK / np.exp(log_temperature))[at, labels_N].mean())

    found = minimize_scalar(nll, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    # What has no error has no best temperature: it is left alone rather than taken to the end of the range.
    return float(np.exp(found.x)) if found.fun < nll(0.0) and (probabilities_NK.argmax(1) != labels_N).any() else 1.0


def calibrated(ensemble: Ensemble, pool: Pool) -> Ensemble:
    """The ensemble with the temperature of its pooled probabilities fitted to the pool's labels."""
    plain = replace(ensemble, temperature=1.0)
    return replace(plain, temperature=temperature_of(plain.of_pool(pool), pool.labels_N))


def calibrated_members(ensemble: Ensemble, pool: Pool) -> Ensemble:
    """The ensemble with the temperature of each member fitted by itself."""
    found = tuple(temperature_of(softmax(pool.logits_MNK[place]), pool.labels_N) for place in ensemble.members)
    return replace(ensemble, member_temperatures=found)
