"""The table of a comparison's methods on the terminal, the best on the test first, and its legend."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.base.text import milliseconds, short, signed
from orchestrator.cli.fitting import fitting, wrapped
from orchestrator.ensembles.comparison import Comparison, Estimate, Row

BASELINE = "best_single"
LARGE = 10
"""Points from which on a gain needs no second decimal."""

KEPT = ["method", "members", "test %", "over best_single", "ms", "NLL", "MACs", "p", "val %", "over mean"]
"""The columns, those first that stay where there is little room."""


def table_lines(found: Comparison) -> list[str]:
    """The columns that fit, and what they mean."""
    columns = _columns(found)
    lines, left_out = fitting(columns, [name for name in KEPT if name in columns])
    return [*lines, *wrapped(_legend(found, [name for name in columns if name not in left_out], left_out))]


def _columns(found: Comparison) -> dict[str, list[str]]:
    rows = found["rows"]
    columns = {
        "method": [f"{row['method']}{_mark(row, found)}" for row in rows],
        "members": [str(len(row["members"])) for row in rows],
    }
    if is_tested(found):
        columns["test %"] = [_percent(row["accuracy"]) for row in rows]
        columns["over best_single"] = [_gained(row) for row in rows]
        columns["p"] = ["" if "p_holm" not in row else f"{row['p_holm']:.2g}" for row in rows]
        columns["NLL"] = [f"{row['test']['measures']['nll']:.4f}" for row in rows]
    columns["val %"] = [f"{100 * row['val']['measures']['accuracy']:.2f}" for row in rows]
    if any(row["multiply_adds"] is not None for row in rows):
        columns["MACs"] = ["" if row["multiply_adds"] is None else short(row["multiply_adds"]) for row in rows]
    if any(row["latency_ms"] is not None for row in rows):
        columns["ms"] = ["" if row["latency_ms"] is None else milliseconds(row["latency_ms"]) for row in rows]
    if is_tested(found):
        columns["over mean"] = [_over_mean(row) for row in rows]
    return columns


def is_tested(found: Comparison) -> bool:
    return found["examples"]["test"] > 0


def spread_of(environment: Mapping[str, str]) -> str:
    """How far repeated timings were apart, and what that says."""
    if "latency_spread" not in environment:
        return ""
    busy = "; the machine is busy, so time again when it is not" if "latency_busy" in environment else ""
    return f" (repeated, up to {environment['latency_spread']} times as long{busy})"


def tests_of(found: Comparison) -> str:
    """How many tests Holm's correction is for: `11 tests`."""
    count = sum("p_holm" in row for row in found["rows"] if row["method"] != BASELINE)
    return f"{count} {'test' if count == 1 else 'tests'}"


def _mark(row: Row, found: Comparison) -> str:
    marks = "*" * (row["method"] == found["winner"]) + "=" * row.get("in_set", False) + "!" * (not row["allowed"])
    return f" {marks}" if marks else ""


def _percent(said: Estimate) -> str:
    ends = "" if said["low"] is None or said["high"] is None else f" [{100 * said['low']:.1f} {100 * said['high']:.1f}]"
    return f"{100 * said['value']:.2f}{ends}"


def _gained(row: Row) -> str:
    said = row["gain_accuracy"]
    if row["method"] == BASELINE or said["low"] is None or said["high"] is None:
        return ""
    value, low, high = (100 * number for number in (said["value"], said["low"], said["high"]))
    if abs(value) >= LARGE:
        return f"{value:+.1f} [{signed(low, 0)} {signed(high, 0)}]"
    return f"{value:+.2f} [{signed(low, 1)} {signed(high, 1)}]"


def _over_mean(row: Row) -> str:
    """Nothing of the best single member, which is its own mean."""
    gain = row.get("gain_over_mean")
    return "" if gain is None or row["method"] == BASELINE else f"{100 * gain:+.2f}"


def _legend(found: Comparison, shown: list[str], left_out: list[str]) -> list[str]:
    tested = is_tested(found)
    by = "the lowest NLL" if found["settings"].get("chosen_by") == "nll" else "the highest accuracy"
    when = ", before the test was read" if tested else ""
    legend = [f"* the winner: {by} on cross-fitted validation predictions{when}"]
    if sum(row.get("in_set", False) for row in found["rows"]) > 1:
        legend.append(
            "= a tie: cannot be told from the best on the test (in the 95 % model confidence set, or McNemar's p with Holm's "
            "correction is 0.05 or more)"
        )
    if not all(row["allowed"] for row in found["rows"]):
        legend.append("! costs more than --budget or --macs allows: cannot win")
    on = found["environment"]
    timed = f"ms: for a batch of {on.get('latency_batch', '?')} images on {on.get('latency_on', 'this machine')}"
    about = {
        "test %": "[ ]: 95 % intervals over test examples",
        "over best_single": "over best_single: in points of test accuracy, sure where the interval excludes 0 and p < 0.05",
        "p": f"p: McNemar's exact test against best_single, with Holm's correction for the {tests_of(found)} of this "
        "comparison, not for earlier looks",
        "val %": "val %: cross-fitted, each example by an ensemble that was built without it",
        "ms": f"{timed}, members one after the other{spread_of(on)}",
        "over mean": "over mean: in points over the mean of its members, a soup over that of its ingredients",
    }
    legend.append("; ".join(text for name, text in about.items() if name in shown))
    if left_out:
        legend.append(f"no room for {', '.join(left_out)}: a wider terminal shows them, and the page")
    return [line for line in legend if line]
