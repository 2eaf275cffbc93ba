"""Which searched key mattered: a bar for each."""

from __future__ import annotations

from typing import Any

from orchestrator.reports.data import SweepData, cut
from orchestrator.reports.figure import BLUE, GREY, Figure

MOST = 20


def figure(sweep: SweepData) -> Figure | None:
    """A sentence alone where trials are too few, or no key did more than chance; None where nothing was searched."""
    from orchestrator.analysis.findings import what_mattered

    found = sweep.found.importances[:MOST]
    if not found:
        said = what_mattered(sweep.found)
        return Figure("importance", "Which key mattered", f"{said[:1].upper()}{said[1:]}.") if said else None
    sure = [one for one in found if one.beyond_chance]
    told = ", ".join(f"{cut(one.key)} {one.share:.0%}" for one in sure[:4])
    text = (
        f"What sets the best configurations apart from all: {told}. The shares are those of conditional PED-ANOVA, less what"
        " chance gives; diverged configurations count as the worst."
    )
    if len(sure) < len(found):
        text += " Keys in grey did no more than chance would."
    return Figure("importance", "Which key mattered", text, spec=_spec(found))


def _spec(found: list[Any]) -> dict[str, Any]:
    rows = [
        {
            "key": cut(one.key),
            "share": round(one.share, 4),
            "sure": one.beyond_chance,
            "tip": f"{cut(one.key)}: {one.share:.1%}\n{one.n:,} configurations have it\nchance does as much in {one.chance:.1%}",
        }
        for one in found
    ]
    return {
        "width": "container",
        "height": 24 * len(rows),
        "data": {"values": rows},
        "encoding": {
            "y": {"field": "key", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 260}},
            "x": {
                "field": "share",
                "type": "quantitative",
                "stack": None,
                "title": "share of what the keys explain",
                "axis": {"format": "%", "tickCount": 8},
            },
        },
        "layer": [
            {
                "mark": {"type": "bar", "height": 15, "tooltip": {"expr": "datum.tip"}},
                "encoding": {"color": {"condition": {"test": "datum.sure", "value": BLUE}, "value": GREY}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 4},
                "encoding": {"text": {"field": "share", "format": ".0%"}},
            },
        ],
    }
