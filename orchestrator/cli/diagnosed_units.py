"""What diagnose lesion, paths and trajectories say on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.base.text import table
from orchestrator.cli.diagnosed import NONE, number, percent

if TYPE_CHECKING:
    from orchestrator.diagnosis.subjects import Named
    from orchestrator.training.diagnosis.lesions import Lesion, Single
    from orchestrator.training.diagnosis.paths import Paths
    from orchestrator.training.diagnosis.trajectories import Trajectories

UNITS = 12
"""Units that are named, those whose loss costs most."""


def lesion_lines(named: Named, found: Lesion) -> Iterator[str]:
    """One network: the units that it misses most, sets of them, other orders."""
    from orchestrator.diagnosis.page.lesion import sentence

    yield sentence(named, found)
    costly = sorted((one for one in found.singles if one.error is not None), key=_cost)[:UNITS]
    rows = [[one.name, "yes" if one.keeps_shape else "no", percent(one.error or 0.0)] for one in costly]
    yield from table(["deleted unit", "keeps its shape", "error"], rows)
    if len(costly) < len(found.singles):
        yield f"and {len(found.singles) - len(costly)} more"
    yield ""
    several = [
        [
            str(one.count),
            f"all {len(one.errors)}" if one.complete else f"{len(one.errors)} random",
            *map(percent, (sum(one.errors) / len(one.errors), min(one.errors), max(one.errors))),
        ]
        for one in found.several
    ]
    yield from table(["units deleted", "sets", "error (mean)", "least", "most"], several)
    if found.orders:
        yield ""
        sizes = sorted({one.swaps for one in found.orders})
        each = [[one for one in found.orders if one.swaps == size] for size in sizes]
        rows = [
            [
                str(size),
                f"{sum(one.tau for one in orders) / len(orders):.2f}",
                percent(sum(one.error for one in orders) / len(orders)),
            ]
            for size, orders in zip(sizes, each, strict=True)
        ]
        yield from table(["pairs swapped", "Kendall's tau (mean)", "error (mean)"], rows)


def _cost(one: Single) -> float:
    return -(one.error or 0.0)


def paths_lines(named: Named, found: Paths) -> Iterator[str]:
    """The lengths that hold paths or gradient worth a row."""
    from orchestrator.diagnosis.page.paths import sentences

    yield f"{named.title}:"
    yield from sentences(found)
    yield ""
    rows = [
        [
            str(one.units),
            f"{100 * one.share:.3g} %",
            f"{number(one.gradient)}{'' if one.samples else ' (interpolated)'}",
            f"{100 * one.weight:.3g} %",
        ]
        for one in found.lengths
        if one.weight >= 5e-4 or one.share >= 5e-4
    ]
    yield from table(["units", "paths", "gradient along one", "of the gradient"], rows)


def trajectories_lines(found: Trajectories) -> Iterator[str]:
    """Steps to the goals, and what noise does."""
    from orchestrator.training.diagnosis.trajectories import NOISE_WORDS, NOISY_MEASURES

    yield "steps at a constant learning rate: to stay below 1 % of the first value (quadratics), to leave the saddle, to come"
    yield "near the pit of the plateau; - where a method diverged or took longer"
    rows = [
        [
            method.name,
            NONE if method.rate is None else f"{method.rate:g}",
            *(NONE if way.steps is None else str(way.steps) for way in found.ways_of(method.name)),
        ]
        for method in found.methods
    ]
    yield from table(["method", "rate", *(surface.name for surface in found.surfaces)], rows)
    yield ""
    yield f"under {NOISE_WORDS};"
    yield NOISY_MEASURES
    noisy = [[one.method, f"{one.rate:.3g}", number(one.roughness), number(one.spread)] for one in found.noisy]
    yield from table(["method", "rate", "roughness of the path", "spread at the end"], noisy)
