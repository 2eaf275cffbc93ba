"""What several figures draw alike: titles of axes that follow a selection, and which keys come first."""

from __future__ import annotations

import html
from typing import Any

from orchestrator.base.text import visible
from orchestrator.reports.data import SweepData

LOOK = {"fontSize": 12, "fontWeight": "normal", "color": {"expr": "inkText"}}
"""Of titles: as the page has those of axes."""


TITLE_ABOVE = {"titleAngle": 0, "titleAlign": "right", "titleX": -8, "titleY": -10}
"""Of a vertical axis with labels by an expression: Vega puts the title beside them as wide as they were without it."""


def shares(sweep: SweepData) -> dict[str, float]:
    """Searched key -> how much of the objective's variance it explains, in [0, 1]."""
    return {one.key: one.share for one in sweep.found.importances}


def titles(across: str | None = None, up: str | None = None) -> list[dict[str, Any]]:
    """Layers with the titles of the axes where expressions give them, for an axis whose own title is None."""
    below = {"x": {"expr": "width / 2"}, "y": {"expr": "height + 36"}, "align": "center"}
    above = {"x": 0, "y": -12, "align": "left"}
    return [
        {
            "data": {"values": [{}]},
            "mark": {
                "type": "text",
                "style": "guide-title",
                "text": {"expr": text},
                **LOOK,
                **place,
            },
        }
        for text, place in ((across, below), (up, above))
        if text is not None
    ]


def escaped(value: object) -> str:
    """Plain text as HTML, with characters that would act on a terminal written out."""
    return html.escape(visible(str(value)))
