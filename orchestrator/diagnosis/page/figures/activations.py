"""Mean and standard deviation of the activations by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.diagnosis.page.figures.layers import by_layer
from orchestrator.reports.figure import Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis

SHRINKS, GROWS = 0.1, 10.0
"""The ratio of last to first standard deviation from which on it is called so."""


def figure(found: Diagnosis) -> Figure:
    names = [layer.label for layer in found.layers]
    each = [layer.statistics.activations for layer in found.layers]
    stds = by_layer(names, {"standard deviation": [one.std for one in each]}, "standard deviation", log=True)
    means = by_layer(names, {"mean": [one.mean for one in each]}, "mean")
    return Figure(
        name="activations",
        title="Do the activations keep their size?",
        text=_text(found),
        panels=[stds, means],
        min_width=420,
    )


def _text(found: Diagnosis) -> str:
    hidden = [layer.statistics.activations for layer in found.layers[:-1]] or [found.layers[0].statistics.activations]
    first, last = hidden[0].std, hidden[-1].std
    lost = [layer.label for layer in found.layers if layer.statistics.activations.nonfinite]
    said = f"Over the {len(hidden):,} hidden layers the standard deviation goes from {first:.4g} to {last:.4g}"
    if lost:
        return f"{said}. Activations that are no finite numbers begin at layer {lost[0]}."
    if len(hidden) > 1 and first > 0 and last > 0:
        each = (last / first) ** (1 / (len(hidden) - 1))
        said += f", times {each:.3g} a layer"
    if first > 0 and last / first < SHRINKS:
        said += ": it vanishes"
    elif first > 0 and last / first > GROWS:
        said += ": it explodes"
    return f"{said}. The input has {found.inputs.std:.4g}."
