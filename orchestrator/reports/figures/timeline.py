"""When each trial ran, on as many lanes as there were workers, and how busy these were."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import CHOSEN, GREY, STATES, Figure, strength
from orchestrator.reports.parts.lanes import Lane, Session, attempts, pack, sessions, utilization, workers_of
from orchestrator.reports.parts.units import duration, time_unit

HEIGHT, LANE = 320, (3, 60)
"""Pixels: of all lanes together, and the least and the most of one."""

PAUSE = 0.03
"""The width of the time between two sessions, as a share of the time of all."""


def worked(sessions: Sequence[Session], time_ms: int) -> float:
    """Seconds from the first trial's beginning to a time, with the time between two sessions as short as `PAUSE`."""
    total = sum(session.ended - session.began for session in sessions)
    place = 0.0
    for session in sessions:
        if time_ms <= session.ended or session is sessions[-1]:
            return (place + max(time_ms - session.began, 0)) / 1000
        place += session.ended - session.began + PAUSE * total
    return place / 1000


def figure(sweep: SweepData) -> Figure | None:
    """None where no trial began."""
    lanes = pack(attempts(sweep.record), workers=workers_of(sweep.record))
    times = sessions(sweep.record, [lane.attempt for lane in lanes])
    if not lanes:
        return None
    workers = len({lane.lane for lane in lanes})
    wall_s = sum(session.ended - session.began for session in times) / 1000
    names = "one worker" if workers == 1 else f"{workers} workers"
    busy = utilization(lanes, times)
    text = f"{len(lanes):,} attempts on {names} in {duration(wall_s)}; the workers were busy {busy:.0%} of that."
    if len(times) > 1:
        away = [duration(gap) for gap in _pauses_s(times)]
        often = "once" if len(away) == 1 else f"{len(away)} times"
        gaps = "the gap is" if len(away) == 1 else "the gaps are"
        text += f" It was resumed {often}, after {', '.join(away[:5])}; {gaps} drawn short."
    return Figure(
        name="timeline", title="When did the trials run?", text=text, spec=_spec(sweep, lanes, times), min_width=420
    )


def _pauses_s(times: Sequence[Session]) -> list[float]:
    """The seconds between one session and the next."""
    return [max(later.began - before.ended, 0) / 1000 for before, later in pairwise(times)]


# The picture ----------------------------------------------------------------------------------------------------------


def _spec(sweep: SweepData, lanes: Sequence[Lane], times: Sequence[Session]) -> dict[str, Any]:
    end = worked(times, times[-1].ended)
    unit, size = time_unit(end)
    rows: list[dict[str, Any]] = [
        {
            "trial": one.attempt.trial,
            "attempt": one.attempt.number,
            "state": one.attempt.state,
            "lane": one.lane + 1,
            "from": _rounded(worked(times, one.attempt.began) / size),
            "to": _rounded(worked(times, one.ended) / size),
        }
        for one in lanes
    ]
    workers = max(row["lane"] for row in rows)
    height = min(max(HEIGHT // workers, LANE[0]), LANE[1])
    pauses = [
        {
            "from": _rounded(worked(times, before.ended) / size),
            "to": _rounded(worked(times, later.began) / size),
            "words": f"{duration(pause_s)} later",
        }
        for (before, later), pause_s in zip(pairwise(times), _pauses_s(times), strict=True)
    ]
    shown = [state for state in STATES if any(row["state"] == state for row in rows)]
    x = {
        "field": "from",
        "type": "quantitative",
        "title": f"{'time worked, gaps cut short' if pauses else 'time since the first trial began'} ({unit})",
        "scale": {"nice": False, "domain": [0, _rounded(end / size)]},
        "axis": {"tickCount": 8, "grid": False},
    }
    return {
        "params": [CHOSEN],
        "width": "container",
        "height": workers * height,
        "layer": [
            {
                "data": {"values": rows},
                "mark": {
                    "type": "bar",
                    "height": max(height - 2, 2),
                    "stroke": None,
                    "tooltip": True,
                    "cursor": "pointer",
                },
                "encoding": {
                    "x": x,
                    "x2": {"field": "to"},
                    "y": {
                        "field": "lane",
                        "type": "quantitative",
                        "title": "worker",
                        "scale": {"domain": [0.5, workers + 0.5], "nice": False, "zero": False, "reverse": True},
                        "axis": {"tickMinStep": 1, "format": "d", "grid": False},
                    },
                    "color": {
                        "field": "state",
                        "type": "nominal",
                        "title": "ended",
                        "scale": {"domain": shown, "range": [STATES[state] for state in shown]},
                    },
                    "opacity": strength(1.0),
                },
            },
            *_pauses(pauses, x),
        ],
    }


def _pauses(pauses: Sequence[dict[str, Any]], x: dict[str, Any]) -> list[dict[str, Any]]:
    """A grey bar, and how long it was, for the time between two sessions."""
    if not pauses:
        return []
    data = {"values": list(pauses)}
    return [
        {
            "data": data,
            "mark": {"type": "rect", "color": GREY, "opacity": 0.35},
            "encoding": {"x": x, "x2": {"field": "to"}},
        },
        {
            "data": data,
            "mark": {"type": "text", "y": 0, "dy": -6, "align": "left", "fontSize": 10},
            "encoding": {"x": x, "text": {"field": "words"}},
        },
    ]


def _rounded(number: float) -> float:
    return float(f"{number:.6g}")
