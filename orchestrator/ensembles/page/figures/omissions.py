"""What was not compared: candidates that were left out and methods that were not tried, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ensembles.page.view import View, counted
from orchestrator.reports.data import cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.drawing import escaped

REASONS, EXAMPLES = 40, 6
"""Reasons that are listed, and names with each."""


def figure(view: View) -> Figure | None:
    """None where nothing was left out."""
    members, methods = view.comparison["left_out"], view.comparison["not_tried"]
    if not members and not methods:
        return None
    parts = [counted(len(members), "candidate was", "candidates were") + " left out"] if members else []
    parts += [counted(len(methods), "method was", "methods were") + " not tried"] if methods else []
    return Figure(
        name="omissions",
        title="What was not compared?",
        text=f"{' and '.join(parts)}.",
        html=_table("left out", members) + _table("not tried", methods),
    )


def by_reason(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """(reason, names), the reason of most names first."""
    found: dict[str, list[str]] = {}
    for name, reason in pairs:
        found.setdefault(cut(reason, 300), []).append(cut(name))
    return sorted(found.items(), key=lambda item: -len(item[1]))


def _table(what: str, pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    groups = by_reason(pairs)
    rows = "".join(
        f"<tr><td>{escaped(_names(names))}</td><td>{escaped(reason)}</td></tr>" for reason, names in groups[:REASONS]
    )
    if len(groups) > REASONS:
        rows += f"<tr><td>{len(groups) - REASONS:,} more reasons</td><td></td></tr>"
    head = f"<thead><tr><th>{what}</th><th>why</th></tr></thead>"
    return f'<div class="scroll"><table class="omitted">{head}<tbody>{rows}</tbody></table></div>'


def _names(names: Sequence[str]) -> str:
    rest = len(names) - EXAMPLES
    return ", ".join(names[:EXAMPLES]) + (f" and {rest:,} more" if rest > 0 else "")
