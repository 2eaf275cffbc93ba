"""Measures of a network at work: activations and gradients layer by layer. A trial imports none of it unless it is asked to.

with watched(model) as watch:      # one forward and backward pass
    loss_of(model(images), labels).backward()
rows = watch.statistics()
"""

from orchestrator.training.diagnosis.layers import LayerStatistics, Watch, watched
from orchestrator.training.diagnosis.statistics import (
    Histogram,
    Summary,
    copied_weights,
    summary,
    update_ratios,
)

__all__ = [
    "Histogram",
    "LayerStatistics",
    "Summary",
    "Watch",
    "copied_weights",
    "summary",
    "update_ratios",
    "watched",
]
