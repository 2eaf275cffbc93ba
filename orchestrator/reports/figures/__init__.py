"""The figures of the report: one module a figure, with `figure(sweep)`, which is None where the sweep has no data for it."""

from __future__ import annotations

import importlib
from pathlib import Path

from orchestrator.reports.data import SweepData, cut
from orchestrator.reports.figure import Figure

ORDER = [
    "claims",
    "best",
    "parallel",
    "importance",
    "interactions",
    "curves",
    "slices",
    "stability",
    "plateau",
    "seeds",
    "rungs",
    "saved",
    "cost",
    "timeline",
    "failures",
    "confusion",
    "mistakes",
]
"""By what a reader asks first: do the claims hold, which won, what mattered, how it went, what failed, what it cost. Others
follow."""


def modules() -> list[str]:
    """The names of the figures' modules, in the order of the report."""
    found = {path.stem for path in Path(__file__).parent.glob("*.py")} - {"__init__"}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def figures(sweep: SweepData) -> list[Figure]:
    """The figures that the sweep has data for, in the order of the report."""
    made = [attempted(f"{__name__}.{name}", sweep) for name in modules()]
    return [figure for figure in made if figure is not None]


def attempted(module: str, data: object) -> Figure | None:
    """What `figure` of the module makes. One that fails says so in its place: the others are worth having."""
    name = module.rpartition(".")[2]
    try:
        figure: Figure | None = importlib.import_module(module).figure(data)
    except Exception as error:
        why = f"This figure could not be made, which is a bug in orchestrator: {type(error).__name__}: {cut(str(error), 300)}"
        return Figure(name, name.capitalize(), why)
    return figure
