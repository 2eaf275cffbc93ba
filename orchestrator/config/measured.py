"""What a claim can measure of a trial, and which way is better."""

from __future__ import annotations

from orchestrator.base.records import METRICS

OF_NETWORK = {"parameters": "min", "macs": "min"}
"""What a trial's network is: its parameters, and the multiply-adds of one image. Counted while the sweep is planned."""

MEASURED = {
    **METRICS,
    "test/accuracy": "max",
    "test/loss": "min",
    "test/nll": "min",
    "test/top5_accuracy": "max",
    "gap": "min",
    "grad_norm": "min",
    "images_per_s": "max",
    **OF_NETWORK,
}
"""What a measure can be of, and which way is better. `gap` is training less validation accuracy."""


def has_epochs(metric: str) -> bool:
    """Whether it has a value in each epoch."""
    return not metric.startswith("test/") and metric not in OF_NETWORK
