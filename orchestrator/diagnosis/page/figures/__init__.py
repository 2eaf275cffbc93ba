"""The figures of a network: one module a figure, with `figure(found)`; None where there is nothing to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.figure import Figure
from orchestrator.reports.figures import attempted

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis

ORDER = [
    "activations",
    "histograms",
    "gradients",
    "idle",
    "products",
    "signs",
    "updates",
    "filters",
    "neighbours",
    "classes",
    "confusion",
]
"""By how a signal goes: forward, backward, what the weights do with it, what is learned of it."""


def figures(found: Diagnosis) -> list[Figure]:
    """Those that the diagnosis has data for, in the order of the page."""
    made = [attempted(f"{__name__}.{name}", found) for name in ORDER]
    return [figure for figure in made if figure is not None]
