"""Variances of the weight gradients, and the first update against the weight, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.diagnosis.page.figures.layers import by_layer
from orchestrator.reports.figure import Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis


def figure(found: Diagnosis) -> Figure | None:
    """None where no gradient of a weight is known."""
    names = [layer.label for layer in found.layers]
    kept = [layer.statistics.weight_gradient for layer in found.layers]
    variances = [None if one is None else one.std**2 for one in kept]
    ratios = [layer.update_ratio for layer in found.layers]
    known = [one for one in variances[:-1] if one]
    if not known:
        return None
    text = (
        f"The largest variance of a hidden layer's weight gradients is {max(known) / min(known):.3g} times the smallest."
        " Of equally wide layers they are alike at initialization, however the activations change, as long as the gradients that"
        " come back do not depend on these."
    )
    panels: list[dict[str, Any]] = [
        by_layer(names, {"Var(dW)": variances}, "variance of the weight gradient", log=True)
    ]
    if any(ratios):
        panels.append(by_layer(names, {"update": ratios}, "length of the first update / of the weight", log=True))
        text += " Updates of about a thousandth of the weight are usual; the first of an adaptive optimizer are larger."
    return Figure(
        name="updates", title="Do all layers learn at the same pace?", text=text, panels=panels, min_width=420
    )
