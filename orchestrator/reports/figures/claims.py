"""What the sweep's experiment claims, and whether it holds: the table of `orchestrator claims`."""

from __future__ import annotations

from orchestrator.analysis.claims import FAILS, HOLDS, LEGEND, Verdict, claim_row, tally, verdicts
from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import BLUE, GREY, RED, Figure
from orchestrator.reports.parts.drawing import escaped

HEADS = ("claim", "verdict", "it says", "left", "right", "interval", "n", "lecture")

COLORS = {HOLDS: BLUE, FAILS: RED}

TOP = 'style="vertical-align:top"'
WIDE = 'style="white-space:normal;vertical-align:top;min-width:14rem"'


def figure(sweep: SweepData) -> Figure | None:
    """None where nothing is claimed."""
    found = verdicts(sweep.record)
    if not found:
        return None
    head = "".join(f"<th>{title}</th>" for title in HEADS)
    body = "".join(map(_row, found))
    return Figure(
        name="claims",
        title="Do the claims hold?",
        text=f"{tally(found)}. {LEGEND[0].upper()}{LEGEND[1:]}.",
        html=f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>',
    )


def _row(one: Verdict) -> str:
    name, verdict, left, right, interval, n = map(escaped, claim_row(one))
    why = f"<br><small>{escaped(one.why)}</small>" if one.why else ""
    says = f'<span title="{escaped(one.claim.inequality)}">{escaped(one.claim.says)}</span>{why}'
    mark = f'<span style="color:{COLORS.get(one.verdict, GREY)}">&#9632;</span>&nbsp;{verdict}'
    rest = "".join(f"<td {TOP}>{cell}</td>" for cell in (left, right, interval, n, escaped(one.claim.lecture)))
    return f"<tr><td {TOP}>{name}</td><td {TOP}>{mark}</td><td {WIDE}>{says}</td>{rest}</tr>"
