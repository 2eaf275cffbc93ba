"""What the parts of the page ask of a comparison: numbers of methods and members, labels, and the test where it was read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.base.layout import UID
from orchestrator.base.text import milliseconds
from orchestrator.ensembles.comparison import Comparison, Estimate, MemberRecord, Row, Scores, trials_of
from orchestrator.reports.data import cut

BEST_SINGLE = "best_single"
"""The method that the others are compared with."""

SURE = 0.05
"""A p-value from which on a gain is called a tie."""

FEW = 12

FAR, NARROWEST, FEWEST_OTHERS = 3, 0.01, 3
"""A method is far below that is so many interquartile ranges below the others; these range over a point at least."""


@dataclass(frozen=True)
class View:
    """A comparison for the page.

    The page links methods and members by numbers: a method's is its place in `rows`, and those of members follow.

    Args:
        images: the id of a test example -> its picture as a PNG.
    """

    comparison: Comparison
    images: Mapping[int, bytes | None]

    @property
    def rows(self) -> Sequence[Row]:
        return self.comparison["rows"]

    @property
    def members(self) -> Sequence[MemberRecord]:
        return self.comparison["members"]

    @property
    def trials(self) -> Sequence[MemberRecord]:
        """The candidates; behind them stand networks that were made of their weights."""
        return trials_of(self.members)

    def taken(self, row: Row) -> dict[int, float]:
        """The places of the candidates of which a method is made, with their weights; of a network those of its ingredients."""
        found: dict[int, float] = {}
        for place, weight in zip(row["members"], row["weights"], strict=False):
            parts = self.members[place].get("ingredients", (place,)) if place < len(self.members) else (place,)
            for part in parts:
                found[part] = found.get(part, 0.0) + weight / len(parts)
        return found

    def number(self, place: int) -> int:
        """Of a member."""
        return len(self.rows) + place

    @cached_property
    def winner(self) -> int | None:
        """The number of the winner; None before it is fixed."""
        return self._place(self.comparison["winner"])

    @cached_property
    def single(self) -> int | None:
        """The number of the best single member."""
        return self._place(BEST_SINGLE)

    def _place(self, method: str) -> int | None:
        return next((place for place, row in enumerate(self.rows) if row["method"] == method), None)

    def is_far_below(self, number: int) -> bool:
        """Whether a method is so much less accurate than the others that axes which held it would show nothing else.

        That is more than `FAR` interquartile ranges below the lower quartile of the others, or less than half of the best single
        member. The winner and the best single member are always drawn.
        """
        if number in (self.single, self.winner):
            return False
        value = self._accuracies[number]
        others = [one for place, one in enumerate(self._accuracies) if place != number and math.isfinite(one)]
        if self.single is not None and value < self._accuracies[self.single] / 2:
            return True
        if len(others) < FEWEST_OTHERS:
            return False
        lower, _, upper = statistics.quantiles(others, n=4, method="inclusive")
        return value < lower - FAR * max(upper - lower, NARROWEST)

    @cached_property
    def _accuracies(self) -> Sequence[float]:
        return [self.estimate(row, "accuracy")["value"] for row in self.rows]

    @property
    def tests(self) -> str:
        """How many tests Holm's correction is for: all methods but the best single member."""
        return counted(sum("p_holm" in row for row in self.rows if row["method"] != BEST_SINGLE), "test")

    @cached_property
    def is_tested(self) -> bool:
        """Whether the test was read, so that its numbers are shown, and not those of the validation."""
        return all("test" in row for row in self.rows)

    @property
    def split(self) -> str:
        return "test" if self.is_tested else "validation"

    @property
    def examples(self) -> int:
        return int(self.comparison["examples"].get("test" if self.is_tested else "val", 0))

    def scores(self, row: Row) -> Scores:
        return row["test"] if self.is_tested else row["val"]

    def estimate(self, row: Row, measure: str) -> Estimate:
        """Accuracy or NLL, with its interval if there is one."""
        found = row.get(measure) if self.is_tested else None
        return found or {"value": self.scores(row)["measures"].get(measure, math.nan), "low": None, "high": None}  # type: ignore[return-value]

    def timed(self, latency_ms: float) -> str:
        """A measured time, of what and where."""
        on = self.comparison["environment"]
        where = f" on {cut(on['latency_on'], 80)}" if "latency_on" in on else ""
        busy = "; the machine was busy, so it is no more than a hint" if "latency_busy" in on else ""
        batch = cut(on.get("latency_batch", "?"), 10)
        return f"{milliseconds(latency_ms)} ms for a batch of {batch} images, measured{where}{busy}"

    def method(self, number: int, longest: int = 40) -> str:
        return cut(self.rows[number]["method"], longest)

    def name(self, place: int, longest: int = 48) -> str:
        """Of a member: its trial, with the sweep where there are several, as short as tells these apart."""
        return cut(self._names[place], longest)

    @cached_property
    def _names(self) -> Sequence[str]:
        names = [member["name"] for member in self.trials]
        made = [member["name"] for member in self.members[len(names) :]]
        apart = [name.rpartition("/") for name in names]
        sweeps = {sweep: sweep.rpartition("-")[0] if UID.fullmatch(sweep) else sweep for sweep, _, _ in apart}
        if not all(trial for _, _, trial in apart) or len({*sweeps.values()}) < len(sweeps):
            return [*names, *made]
        short = [f"{sweeps[sweep]}/{trial}" if len(sweeps) > 1 else f"trial {trial}" for sweep, _, trial in apart]
        return [*short, *made]

    def class_name(self, number: int, longest: int = 24) -> str:
        """Of a class by its id; its number where the comparison has no such class."""
        classes = self.comparison["classes"]
        return cut(classes[number], longest) if 0 <= number < len(classes) else f"class {number}"


def points(gain: float) -> str:
    """A difference of accuracies in points: `+1.20 points`."""
    return f"{100 * gain:+.2f} points" if math.isfinite(gain) else "?"


def percent(share: float | None) -> str:
    """A share as `94.30 %`."""
    return "?" if share is None or not math.isfinite(share) else f"{100 * share:.2f} %"


def p_word(value: float) -> str:
    """`0.031`, `below 0.0001`."""
    if not math.isfinite(value):
        return "?"
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 member`, `1,000 members`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def whole_axis(longest: int) -> dict[str, Any]:
    """The axis of Vega-Lite of whole numbers from 1 on: each has its tick where they are few."""
    if longest <= FEW:
        return {"format": "d", "values": list(range(1, longest + 1))}
    return {"format": "d", "tickMinStep": 1, "tickCount": FEW, "labelOverlap": True}
