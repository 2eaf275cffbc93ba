"""A table of what else is known of each method: measures beside accuracy, how far its members differ, and what it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.base.text import milliseconds, short
from orchestrator.ensembles.comparison import Row
from orchestrator.ensembles.page.figures.methods import SHOWN
from orchestrator.ensembles.page.view import View
from orchestrator.reports.data import cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.drawing import escaped


def figure(view: View) -> Figure | None:
    """None without methods."""
    rows = view.rows[:SHOWN]
    if not rows:
        return None
    return Figure(name="measures", title="What else is known of each method?", text=_text(view), html=_table(view))


def _text(view: View) -> str:
    text = (
        f"Of the {view.split}. Errors, the Brier score and calibration errors (ECE; class-wise: the mean over classes) are "
        "better the smaller they are."
    )
    if any(row["disagreement"] is not None for row in view.rows):
        text += (
            " How far two members differ, on average: the share of images on which they say different classes; Yule's Q, 1 where"
            " they err on the same images and 0 where they err independently; and the mean KL divergence from the ensemble to a"
            " member. These are reported, and nothing is selected by them."
        )
    if any(row["latency_ms"] is not None for row in view.rows):
        on = view.comparison["environment"]
        text += (
            f" Latency is of a batch of {cut(on.get('latency_batch', '?'), 10)} images, members one after the other."
            f"{_spread(on)}"
        )
    return text


def _spread(environment: Mapping[str, str]) -> str:
    if "latency_spread" not in environment:
        return ""
    busy = ": the machine was busy" if "latency_busy" in environment else ""
    return f" Repeated, it took up to {cut(environment['latency_spread'], 10)} times as long{busy}."


def _table(view: View) -> str:
    rows = [_cells(view, row) for row in view.rows[:SHOWN]]
    columns = [name for name in rows[0] if any(cells[name] for cells in rows)]
    head = "".join(f'<th class="number">{escaped(name)}</th>' for name in columns)
    body = "".join(
        f'<tr data-trial="{number}" tabindex="0"><td>{escaped(view.method(number))}</td>'
        + "".join(f'<td class="number">{escaped(cells[name])}</td>' for name in columns)
        + "</tr>"
        for number, cells in enumerate(rows)
    )
    top = f"<thead><tr><th>method</th>{head}</tr></thead>"
    return f'<div class="scroll"><table class="methods measures">{top}<tbody>{body}</tbody></table></div>'


def _cells(view: View, row: Row) -> Mapping[str, str]:
    """Title of the column -> what it says; empty where that is not known."""
    said = view.scores(row)["measures"]
    return {
        "top-5 error (%)": _number(said.get("top5_error"), ".2f", 100),
        "Brier": _number(said.get("brier"), ".4f"),
        "ECE (%)": _number(said.get("ece"), ".2f", 100),
        "class-wise ECE (%)": _number(said.get("classwise_ece"), ".2f", 100),
        "members disagree on (%)": _number(row["disagreement"], ".2f", 100),
        "Q statistic": _number(row["q_statistic"], "z.3f"),
        "KL (nats)": _number(row["kl"], ".4f"),
        "parameters": "" if row["parameters"] is None else short(row["parameters"]),
        "latency (ms)": "" if row["latency_ms"] is None else milliseconds(row["latency_ms"]),
    }


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None or not math.isfinite(value) else f"{factor * value:{form}}"
