"""The figures of a comparison: one module a figure, with `figure(view)`; None where the comparison has no data for it."""

from __future__ import annotations

from orchestrator.ensembles.page.view import View
from orchestrator.reports.figure import Figure
from orchestrator.reports.figures import attempted

ORDER = [
    "methods",
    "cost",
    "sizes",
    "candidates",
    "selection",
    "agreement",
    "reliability",
    "worst",
    "confusion",
    "classes",
    "measures",
    "omissions",
]
"""By what a reader asks first: which is best, its cost, who is in it, how far to trust it, where it errs, what is missing."""


def figures(view: View) -> list[Figure]:
    """The figures that the comparison has data for, in the order of the page."""
    made = [attempted(f"{__name__}.{name}", view) for name in ORDER]
    return [figure for figure in made if figure is not None]
