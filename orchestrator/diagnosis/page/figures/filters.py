"""The weights of the first layer as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.images import data_uri

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis


def figure(found: Diagnosis) -> Figure | None:
    """None where they are no pictures."""
    if found.filters is None:
        return None
    pictures = "".join(
        f'<img alt="filter {place}" src="{data_uri(one)[0]}">' for place, one in enumerate(found.filters)
    )
    features = found.layers[0].statistics.features
    shown = (
        f"the first {len(found.filters)} of {features:,}" if features > len(found.filters) else f"{len(found.filters)}"
    )
    return Figure(
        name="filters",
        title="What does the first layer look for?",
        text=f"The weights into {shown} features of layer {found.layers[0].label}, each from its smallest value (black)"
        " to its largest (white).",
        html=f'<div class="pictures">{pictures}</div>',
    )
