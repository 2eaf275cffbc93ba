"""The table of members at the end of the page, and what `page.js` reads: methods and members as rows, and which belong
together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.base.text import short, word
from orchestrator.ensembles.page.view import View, counted, percent
from orchestrator.reports.data import cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.page import drawn
from orchestrator.reports.tables import rounded, to_json

MEMBERS = """<section id="trials"><h2>Members</h2>
<p>The trials, the best first, and behind them networks made of their weights where there are any; or those that belong to what is
chosen. Their validation numbers are those of each by itself, not cross-fitted. A click on a row chooses the member and the
methods that use it, with Ctrl or Shift one more; a click on a column's name sorts.</p>
<div class="scroll"><table id="table"></table></div><button type="button" id="more" hidden></button></section>
"""

PARAMS = 20
"""Searched keys that have a column."""

COLUMNS = [
    ["rank", "rank", "number"],
    ["name", "member", "text"],
    ["architecture", "architecture", "text"],
    ["weight", "weight in the winner (%)", "number"],
    ["methods", "methods that use it", "number"],
    ["val_accuracy", "validation accuracy (%)", "number"],
    ["val_nll", "validation NLL (nats)", "number"],
    ["multiply_adds", "multiply-adds (M an image)", "number"],
    ["parameters", "parameters (M)", "number"],
]

HOW = "A click on a method, a member or a point shows in every figure what belongs to it; Esc shows all."


def page_data(view: View, figures: Sequence[Figure]) -> str:
    """As JSON."""
    keys = list(dict.fromkeys(key for member in view.members for key in member["params"]))[:PARAMS]
    rows = [_method(view, number) for number in range(len(view.rows))] + _members(view, keys)
    fields = [f"k{place}" for place in range(len(keys))]
    columns = [one for one in COLUMNS if any(row.get(one[0]) is not None for row in rows if row["listed"])]
    names = ["trial", "listed", "address", "about", *(column[0] for column in COLUMNS), *fields]
    return to_json(
        {
            "whole": whole(view),
            "how": HOW,
            "table": columns + [[field, cut(key), "text"] for field, key in zip(fields, keys, strict=True)],
            "titles": {figure.name: figure.title for figure in figures},
            "trials": {name: [row.get(name) for row in rows] for name in names},
            "parts": {
                number: [view.number(place) for place in row["members"] if 0 <= place < len(view.members)]
                for number, row in enumerate(view.rows)
            },
            "figures": drawn(figures),
        }
    )


def whole(view: View) -> str:
    """How many members there are, trials apart from networks that were made of their weights."""
    trials, made = len(view.trials), len(view.members) - len(view.trials)
    if not made:
        return counted(trials, "trial")
    return f"{counted(trials, 'trial')} and {counted(made, 'network')} made of their weights"


def _method(view: View, number: int) -> dict[str, Any]:
    name = view.method(number)
    return {"trial": number, "listed": False, "name": name, "about": about_method(view, number)}


def about_method(view: View, number: int) -> str:
    """What is shown of a method under the mouse."""
    row = view.rows[number]
    measures = view.scores(row)["measures"]
    lines = [
        view.method(number),
        cut(row["described"], 160),
        f"{view.split} accuracy {percent(view.estimate(row, 'accuracy')['value'])}",
        f"NLL {word(measures.get('nll', math.nan))} nats",
        counted(len(row["members"]), "member")
        + (f", {short(row['multiply_adds'])} multiply-adds" if row["multiply_adds"] else ""),
    ]
    return "\n".join(line for line in lines if line)


def _members(view: View, keys: Sequence[str]) -> list[dict[str, Any]]:
    uses: dict[int, int] = {}
    for row in view.rows:
        for place in row["members"]:
            uses[place] = uses.get(place, 0) + 1
    winner = view.rows[view.winner] if view.winner is not None else None
    weights: dict[int, float | None] = {}
    if winner is not None:
        stacked = winner["pooling"] == "stacked"
        shares = [None] * len(winner["members"]) if stacked else winner["weights"]
        weights = dict(zip(winner["members"], shares, strict=False))
    return [
        _member(view, place, uses.get(place, 0), place in weights, weights.get(place))
        | {f"k{number}": _value(view.members[place]["params"], key) for number, key in enumerate(keys)}
        for place in range(len(view.members))
    ]


def _member(view: View, place: int, uses: int, taken: bool, weight: float | None) -> dict[str, Any]:
    member = view.members[place]
    accuracy = member["val_accuracy"]
    part = f"\n{100 * weight:.3g} % of the winner" if weight is not None else "\nin the winner" if taken else ""
    return {
        "trial": view.number(place),
        "listed": True,
        "rank": place + 1 if place < len(view.trials) else None,
        "name": view.name(place, 80),
        "address": cut(member["name"], 200),
        "architecture": cut(member["architecture"], 40),
        "about": f"{view.name(place, 80)}\n{cut(member['architecture'], 40)}, validation accuracy {percent(accuracy)}{part}",
        "weight": None if weight is None else rounded(round(100 * weight, 1)),
        "methods": uses,
        "val_accuracy": rounded(100 * accuracy),
        "val_nll": rounded(member["val_nll"]),
        "multiply_adds": _millions(member["multiply_adds"]),
        "parameters": _millions(member["parameters"]),
    }


def _millions(number: int | None) -> float | None:
    return None if number is None else rounded(float(f"{number / 1e6:.4g}"))


def _value(params: Mapping[str, object], key: str) -> str | None:
    return cut(word(params[key]), 60) if key in params else None
