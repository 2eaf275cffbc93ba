"""What a sweep found, in sentences and rows for people: who won by how much, what mattered, what each choice came to.

Pure text without markup; names and values in it come from the journal, so whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.analysis.causes import Cause, causes
from orchestrator.analysis.choices import ChoiceSummary, choices
from orchestrator.analysis.importance import FEWEST, Importance, importances
from orchestrator.analysis.margin import Margin, margin
from orchestrator.analysis.outcomes import outcomes
from orchestrator.base.text import table
from orchestrator.journal.record import SweepRecord

NAMED = 6
"""So many trials or keys are named; of more, their number is told."""

CHOICES_SHOWN = 12
LONGEST_CHOICE = 40


@dataclass(frozen=True)
class Findings:
    """All of them.

    Args:
        keys: searched ones, in the order of the space.
        configurations: those that have ended with a value, or diverged.
    """

    metric: str
    mode: str
    keys: list[str]
    configurations: int
    margin: Margin | None
    importances: list[Importance]
    choices: list[ChoiceSummary]
    causes: list[Cause]


def findings(record: SweepRecord, folder: Path | None) -> Findings:
    """
    Args:
        folder: where the sweep lies; None does without its predictions.
    """
    return Findings(
        metric=record.opened.metric,
        mode=record.opened.mode,
        keys=list(dict.fromkeys(key for trial in record.trials.values() for key in trial.params)),
        configurations=len(outcomes(record)),
        margin=margin(record, folder),
        importances=importances(record),
        choices=choices(record),
        causes=causes(record),
    )


def who_won(found: Findings) -> list[str]:
    """By how much, and which trials cannot be told from the winner; none where there is nothing to compare."""
    m = found.margin
    if m is None:
        return []
    ahead = "level with" if m.difference == 0 else f"{amount(m.difference, found.metric)} ahead of"
    first = f"{'a tie: ' if m.is_tie else ''}trial {m.winner} is {ahead} trial {m.runner_up}"
    if m.judged:
        first = (
            "a configuration counts by its seeds without the one that early stopping judged, which was kept because it did well; "
            f"by its first trial, {first}"
        )
    if m.low is None or m.high is None:
        return [f"{first}; without an interval, since {_nothing_known(found)}"]
    ends = f"{amount(m.low, found.metric, unit=False)} to {amount(m.high, found.metric, unit=False)}"
    lines = [f"{first} (95 %: {ends}; {_how(m)})"]
    if not m.tied:
        lines.append(
            f"all {m.compared:,} others can be told from it" if m.compared > 1 else "the two can be told apart"
        )
    elif m.tied == [m.runner_up]:
        lines.append(f"the others can be told from trial {m.winner}{_resolution(found)}" if m.compared > 1 else "")
    else:
        lines.append(f"{_named(m.tied)} cannot be told from it{_resolution(found)}")
    if m.compared > 1:
        lines[-1] += (
            f"; the best of {m.compared + 1} is also the luckiest: expect it to be a little worse on new images"
        )
    return [line for line in lines if line]


def _nothing_known(found: Findings) -> str:
    if found.metric.startswith("train/"):
        return f"{found.metric} is not measured example by example"
    return "neither predictions nor the number of validation images are at hand"


def _how(m: Margin) -> str:
    if m.method == "seeds":
        return "over seeds"
    images = f"{m.examples:,} validation images"
    return f"{images}, one by one" if m.method == "paired" else f"from the counts of {images}"


def _resolution(found: Findings) -> str:
    m = found.margin
    if m is None or not m.examples or m.method == "seeds" or not found.metric.endswith("accuracy"):
        return ""
    return f": one image of {m.examples:,} is {amount(1 / m.examples, found.metric)}"


def _named(trials: Sequence[int]) -> str:
    """`trials 11, 15, 6 and 7 more`."""
    if len(trials) == 1:
        return f"trial {trials[0]}"
    rest = len(trials) - NAMED
    if rest <= 1:
        return f"trials {', '.join(map(str, trials[:-1]))} and {trials[-1]}"
    return f"trials {', '.join(map(str, trials[:NAMED]))} and {rest:,} more"


def amount(difference: float, metric: str, *, unit: bool = True) -> str:
    """A difference of the metric: accuracies in points of a hundred, others as they are."""
    if metric.endswith("accuracy"):
        return f"{difference * 100:.2f}" + (" points" if unit else "")
    return f"{difference:.3g}"


def what_mattered(found: Findings) -> str | None:
    """One sentence; None where nothing was searched, or has ended."""
    n = found.configurations
    if not found.keys or not n:
        return None
    if n < FEWEST:
        return f"what mattered: {n} configurations are too few to say; it takes {FEWEST}"
    sure = [one for one in found.importances if one.beyond_chance]
    if not sure:
        return f"what mattered: {n:,} configurations cannot tell that from chance; more trials may"
    told = ", ".join(f"{one.key} {one.share:.0%}" for one in sure[:NAMED])
    rest = [one.key for one in found.importances if not one.beyond_chance]
    unsure = f"; not beyond chance: {_listed(rest)}" if rest else ""
    return f"what mattered for being among the best: {told}{unsure} ({n:,} configurations)"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


CHOICE_HEADS = ("choice", "n", "best", "median", "diverged")


def choice_rows(found: Findings, most: int = CHOICES_SHOWN) -> list[tuple[str, ...]]:
    """A row for each choice under `CHOICE_HEADS`, the more important keys first; keys that no longer fit are left out whole.

    A key whose only value is one is left out; of a key with more choices than fit the best are shown.
    """
    order = {one.key: place for place, one in enumerate(found.importances)}
    keys = sorted(dict.fromkeys(row.key for row in found.choices), key=lambda key: order.get(key, len(order)))
    rows: list[tuple[str, ...]] = []
    for key in keys:
        own = [row for row in found.choices if row.key == key]
        if len(own) > 1 and (not rows or len(rows) + len(own) <= most):
            rows += [_choice_row(row) for row in own[:most]]
    return rows


def choice_table(found: Findings, most: int = CHOICES_SHOWN) -> list[str]:
    """The same as aligned lines; a column that would be empty is left out."""
    rows = choice_rows(found, most)
    if not rows:
        return []
    heads = CHOICE_HEADS if any(row[-1] for row in rows) else CHOICE_HEADS[:-1]
    return table(list(heads), [[_cut(row[0]), *row[1 : len(heads)]] for row in rows])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CHOICE else text[: LONGEST_CHOICE - 3] + "..."


def _choice_row(row: ChoiceSummary) -> tuple[str, ...]:
    value = "null" if row.value is None else str(row.value)
    return (
        f"{row.key}={value}",
        f"{row.n:,}",
        number(row.best),
        number(row.median),
        f"{row.diverged_share:.0%}" if row.diverged else "",
    )


def number(value: float | None) -> str:
    """A value of the metric in a table."""
    if value is None:
        return ""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"


def what_failed(found: Findings) -> list[str]:
    """`12 diverged: train/loss is nan at step 37 (trials 3, 8, ...)`, one line a cause."""
    return [
        f"{len(cause.trials):,} {cause.kind}: {cause.example}{'' if cause.alike else ', for example'} ({_named(cause.trials)})"
        + "".join(
            f"; {count:,} began with {verdict} signals (init health)" for verdict, count in cause.unhealthy.items()
        )
        for cause in found.causes
    ]
