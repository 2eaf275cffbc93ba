"""Units that are dead, activations that are saturated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.diagnosis.page.figures.layers import by_layer
from orchestrator.reports.figure import Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis


def figure(found: Diagnosis) -> Figure:
    each = [layer.statistics for layer in found.layers]
    dead = [100 * one.dead for one in each]
    bounded = [None if one.saturated is None else 100 * one.saturated for one in each]
    lines: dict[str, list[float | None]] = {"dead units": [*dead]}
    known = [one for one in bounded if one is not None]
    if known:
        lines["saturated activations"] = bounded
    worst = max(range(len(each)), key=lambda place: dead[place])
    text = f"A unit is dead that is 0 for each of the {found.examples:,} images: "
    text += f"at most {dead[worst]:.1f} %, of layer {found.layers[worst].label}." if dead[worst] else "none is."
    if known:
        text += (
            f" An activation is saturated within 1 % of its bounds: {min(known):.1f} to {max(known):.1f} % of a layer."
        )
    return Figure(
        name="idle",
        title="Which units do nothing?",
        text=text,
        spec=by_layer([layer.label for layer in found.layers], lines, "share of the layer (%)", share=True),
    )
