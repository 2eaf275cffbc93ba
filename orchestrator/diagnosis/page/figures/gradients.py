"""Standard deviation and mean of the loss's gradient with respect to the activations, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.diagnosis.page.figures.layers import by_layer
from orchestrator.reports.figure import Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis


def figure(found: Diagnosis) -> Figure | None:
    """None where no gradient came back."""
    names = [layer.label for layer in found.layers]
    each = [layer.statistics.gradients for layer in found.layers]
    known = [one for one in each if one is not None]
    if not known:
        return None
    first, last = known[0].std, known[-1].std
    text = (
        f"Of the loss with respect to the activations, as it comes back: {last:.4g} at the output, {first:.4g} at the first layer"
        f"{f', a ratio of {first / last:.3g}' if last > 0 else ''}."
    )
    stds = [None if one is None else one.std for one in each]
    means = [None if one is None else one.mean for one in each]
    return Figure(
        name="gradients",
        title="Do the gradients come back?",
        text=text,
        panels=[
            by_layer(names, {"standard deviation": stds}, "standard deviation", log=True),
            by_layer(names, {"mean": means}, "mean"),
        ],
        min_width=420,
    )
