"""A page in the frame of the reports: its figures, and a table of what a click chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.base.text import visible, word
from orchestrator.reports.figure import Figure
from orchestrator.reports.page import drawn, framed
from orchestrator.reports.parts.drawing import escaped
from orchestrator.reports.tables import rounded, to_json

STYLE = """
.pictures { display: flex; flex-wrap: wrap; gap: 4px; }
.pictures img, .near img { image-rendering: pixelated; border: 1px solid var(--line); }
.pictures img { width: 48px; }
.near { display: flex; gap: 4px; align-items: center; margin: 0 0 6px; }
.near img { width: 56px; }
.near img.asked { margin-right: 16px; }
.near img.other { border: 3px solid #D55E00; }
#table th { white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
#table th button { text-align: inherit; }
#table th, #table td { padding-inline: 0.4rem; }
"""


@dataclass(frozen=True)
class Table:
    """The rows at the end of a page; number n is `trial` n in the data of the figures.

    Args:
        name: what they are: Layers.
        about: one or two sentences above.
        columns: (key, title, `number`, `text`, or `name`, which is dotted and may take several lines).
    """

    name: str
    about: str
    columns: Sequence[tuple[str, str, str]]
    rows: Sequence[Mapping[str, Any]]


def page(title: str, lines: Iterable[str], figures: Sequence[Figure], rows: Table) -> str:
    """The whole page as HTML that UTF-8 can hold.

    Args:
        lines: plain text under the title, a paragraph each.
    """
    paragraphs = "".join(f"<p>{escaped(line)}</p>\n" for line in lines)
    header = f"<header><h1>{escaped(title)}</h1>\n{paragraphs}</header>"
    section = (
        f'<section id="trials"><h2>{escaped(rows.name)}</h2><p>{escaped(rows.about)}</p>'
        '<div class="scroll"><table id="table"></table></div><button type="button" id="more" hidden></button></section>'
    )
    text = framed(title, header, figures, section, rows.name, _data(figures, rows), STYLE)
    return text.encode("utf-8", errors="replace").decode()


def _data(figures: Sequence[Figure], table: Table) -> str:
    names = [key for key, _, _ in table.columns]
    numbered = [
        {"trial": place, "rank": place, "about": _about(table, row), **row} for place, row in enumerate(table.rows)
    ]
    what = table.name.lower()
    return to_json(
        {
            "what": what,
            "how": f"A click on one of the {what} shows it in every figure; Esc shows all.",
            "shows": False,
            "table": [list(column) for column in table.columns],
            "titles": {figure.name: figure.title for figure in figures},
            "trials": {
                key: [_shown(row.get(key)) for row in numbered] for key in ["trial", "rank", "about", "name", *names]
            },
            "figures": drawn(figures),
        }
    )


def _about(table: Table, row: Mapping[str, Any]) -> str:
    """What is shown of a row under the mouse."""
    known = [(title, row.get(key)) for key, title, _ in table.columns if row.get(key) not in (None, "")]
    return "\n".join(f"{title} {word(value)}" for title, value in known)


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value)
    return visible(value)[:400] if isinstance(value, str) else value
