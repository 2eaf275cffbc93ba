"""The table of methods, the best first, with their intervals as bars on common axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.base.text import short, signed
from orchestrator.ensembles.comparison import Estimate, Row
from orchestrator.ensembles.page.head import is_tie
from orchestrator.ensembles.page.view import View, p_word
from orchestrator.reports.data import cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.parts.drawing import escaped

SHOWN = 60
WIDTH, HEIGHT, MARGIN = 116, 22, 8
"""Pixels of a bar."""


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: the values at its ends, and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        """Pixels from the left."""
        inside = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return round(MARGIN + inside * (WIDTH - 2 * MARGIN), 1)


def axis_of(values: Sequence[float]) -> Axis:
    """An axis with room for all finite values, and two to five round ticks."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high)
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next((one for one in (step, 2 * step, 5 * step, 10 * step) if (high - low) / one <= 4), 10 * step)
    ticks = [round(step * number, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Axis(low, high, tuple(ticks))


def figure(view: View) -> Figure | None:
    """None without methods."""
    if not view.rows:
        return None
    return Figure(name="methods", title="Which method is best?", text=_text(view), html=_table(view))


def _text(view: View) -> str:
    text = (
        f"{view.split.capitalize()} numbers, the best accuracy first; a dot is the value, the bar its 95 % interval over images. "
        f"The winner has the {_chosen_by(view)} on validation, cross-fitted: each image is predicted by an ensemble that was "
        "built without it."
        if view.is_tested
        else "Cross-fitted validation numbers, as the test has not been read."
    )
    if any("gain_accuracy" in row for row in view.rows):
        text += (
            " A gain is over the best single member, in points; it is sure where its bar excludes 0 and p is below 0.05. p is of "
            f"McNemar's exact test, with Holm's correction for the {view.tests} of this comparison, not for earlier looks."
        )
    if any("gain_over_mean" in row for row in view.rows):
        text += " Over the mean member: over the mean of the members' own accuracies, of a soup over that of its ingredients."
    if any("in_set" in row for row in view.rows):
        text += " Among the best are those whose accuracy the test cannot tell from the highest (model confidence set, 95 %, or "
        text += "McNemar's exact test with Holm's correction)."
    if any(row["multiply_adds"] for row in view.rows):
        text += " Multiply-adds are those of one image, by all members together."
    if len(view.rows) > SHOWN:
        text += f" Of {len(view.rows):,} methods the first {SHOWN} are shown."
    return f"{text} A click on a row shows the method and its members in every figure."


def _chosen_by(view: View) -> str:
    return "lowest NLL" if view.comparison["settings"].get("chosen_by") == "nll" else "highest accuracy"


# The table ------------------------------------------------------------------------------------------------------------


def _table(view: View) -> str:
    shown = view.rows[:SHOWN]
    near = [row for number, row in enumerate(shown) if not view.is_far_below(number)]
    accuracy = axis_of(_ends([_scaled(view.estimate(row, "accuracy")) for row in near]))
    gains = [_scaled(row["gain_accuracy"]) for row in near if "gain_accuracy" in row]
    gain = axis_of([0.0, *_ends(gains)]) if gains else None
    nll = axis_of(_ends([view.estimate(row, "nll") for row in near]))
    priced = any(row["multiply_adds"] for row in shown)
    head = [
        "<th>method</th>",
        f"<th>accuracy (%){_scale(accuracy)}</th>",
        f"<th>gain (points){_scale(gain)}</th>" if gain else "",
        '<th class="number">p, Holm</th>' if gain else "",
        '<th class="number">over the<br>mean member</th>' if gain else "",
        f"<th>NLL (nats){_scale(nll)}</th>",
        '<th class="number">validation, cross-<br>fitted (%)</th>' if view.is_tested else "",
        '<th class="number">members</th>',
        '<th class="number">multiply-<br>adds</th>' if priced else "",
        "<th>among<br>the best</th>" if any("in_set" in row for row in shown) else "",
    ]
    rows = "".join(
        f'<tr data-trial="{number}" tabindex="0"{_kind(view, number)}>{_method(view, number)}'
        f"{_bar(_scaled(view.estimate(row, 'accuracy')), accuracy, '.2f')}"
        f"{_gains(row, gain, number == view.single) if gain else ''}{_bar(view.estimate(row, 'nll'), nll, '.4f')}"
        f"{_validation(row) if view.is_tested else ''}{_numbers(row, priced)}</tr>"
        for number, row in enumerate(shown)
    )
    top = f"<thead><tr>{''.join(head)}</tr></thead>"
    return f'<div class="scroll"><table class="methods">{top}<tbody>{rows}</tbody></table></div>'


def _kind(view: View, number: int) -> str:
    if number == view.winner:
        return ' class="winner"'
    return ' class="single"' if number == view.single else ""


def _method(view: View, number: int) -> str:
    row = view.rows[number]
    badge = '<i class="badge">winner</i>' if number == view.winner else ""
    if row.get("allowed") is False:
        badge += '<i class="badge over">over the budget</i>'
    return (
        f"<td><b>{escaped(view.method(number))}</b>{badge}<br><small>{escaped(cut(row['described'], 90))}</small></td>"
    )


def _gains(row: Row, axis: Axis, is_single: bool) -> str:
    """Of the single member itself there is nothing to say."""
    if "gain_accuracy" not in row or is_single:
        return "<td></td><td></td><td></td>"
    p_value = row.get("p_holm", row.get("p_value"))
    told = "" if p_value is None else p_word(p_value).replace("below", "<")
    faint = ' class="number soft"' if is_tie(row) else ' class="number"'
    over_mean = row.get("gain_over_mean")
    mean = "" if over_mean is None or not math.isfinite(over_mean) else f"{100 * over_mean:+z.2f}"
    cells = f'<td{faint}>{escaped(told)}</td><td class="number">{mean}</td>'
    return f"{_bar(_scaled(row['gain_accuracy']), axis, '+.2f', zero=True)}{cells}"


def _validation(row: Row) -> str:
    accuracy = row["val"]["measures"].get("accuracy", math.nan)
    return f'<td class="number">{f"{100 * accuracy:.2f}" if math.isfinite(accuracy) else "?"}</td>'


def _numbers(row: Row, priced: bool) -> str:
    cells = [f"{len(row['members']):,}"]
    if priced:
        cells.append(short(row["multiply_adds"]) if row["multiply_adds"] else "?")
    numbers = "".join(f'<td class="number">{escaped(cell)}</td>' for cell in cells)
    inside = {True: "<td>yes</td>", False: '<td class="soft">no</td>', None: ""}
    return numbers + inside[row.get("in_set")]


def _scaled(one: Estimate) -> Estimate:
    """In percent, or points."""
    low, high = (None if end is None else 100 * end for end in (one["low"], one["high"]))
    return {"value": 100 * one["value"], "low": low, "high": high}


def _ends(estimates: Sequence[Estimate]) -> list[float]:
    return [end for one in estimates for end in (one["value"], one["low"], one["high"]) if end is not None]


def _bar(one: Estimate, axis: Axis, form: str, *, zero: bool = False) -> str:
    """A cell with the number, and the interval on the axis of its column."""
    if not math.isfinite(one["value"]):
        return "<td>?</td>"
    middle, told = HEIGHT / 2, f"{one['value']:{form}}"
    drawn = "".join(
        f'<line x1="{axis.x(tick)}" x2="{axis.x(tick)}" y2="{HEIGHT}" class="{"zero" if zero and tick == 0 else "grid"}"/>'
        for tick in axis.ticks
    )
    ends = [end if end is None else signed(end, 2) if zero else f"{end:{form}}" for end in (one["low"], one["high"])]
    title = told
    if one["low"] is not None and one["high"] is not None:
        low, high = axis.x(one["low"]), axis.x(one["high"])
        drawn += f'<rect x="{low}" width="{max(round(high - low, 1), 1)}" y="{middle - 4}" height="8" rx="4" class="interval"/>'
        title += f" (95 %: {ends[0]} to {ends[1]})"
    drawn += _mark(one["value"], axis, middle)
    name = escaped(title)
    picture = (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{name}"><title>{name}</title>{drawn}</svg>'
    )
    return f'<td class="bar"><span>{escaped(told)}</span>{picture}</td>'


def _mark(value: float, axis: Axis, middle: float) -> str:
    """A dot; at an end of the axis an arrow to a value that is beyond it."""
    x = axis.x(value)
    if axis.low <= value <= axis.high:
        return f'<circle cx="{x}" cy="{middle}" r="4" class="value"/>'
    tip = x - 6 if value < axis.low else x + 6
    return f'<path d="M{x} {middle - 4}V{middle + 4}L{tip} {middle}Z" class="value"/>'


def _scale(axis: Axis) -> str:
    """The ticks of a column, above it."""
    texts = "".join(f'<text x="{axis.x(tick)}" y="11">{tick:g}</text>' for tick in axis.ticks)
    return f'<br><svg width="{WIDTH}" height="14" class="scale">{texts}</svg>'
