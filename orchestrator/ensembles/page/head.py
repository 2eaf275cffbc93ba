"""The head of the page: which ensemble won, by how much, how sure that is, what it costs; in words, and as tiles."""

from __future__ import annotations

import math

from orchestrator.base.text import short, signed
from orchestrator.ensembles.comparison import Row, dropped_sweeps
from orchestrator.ensembles.page.view import SURE, View, counted, p_word, percent, points
from orchestrator.reports.data import cut
from orchestrator.reports.parts.drawing import escaped

NAMED = 6
"""Sweeps, or methods, named in a sentence."""


def head(view: View) -> str:
    """As HTML."""
    lines = {
        "question": question(view),
        "dropped": dropped(view),
        "answer": answer(view),
        "tiles": "",
        "certainty": certainty(view),
        "cost": cost(view),
        "course": honesty(view),
        "spread": spread(view),
    }
    said = {kind: f'<p class="{kind}">{escaped(line)}</p>\n' for kind, line in lines.items() if line}
    told = "".join((said | {"tiles": tiles(view)}).get(kind, "") for kind in lines)
    title = escaped(cut(view.comparison["uid"], 100))
    return f"<header><h1>{title}</h1>\n{told}</header>"


def question(view: View) -> str:
    """What was compared."""
    sweeps = [cut(sweep["uid"]) for sweep in view.comparison["sweeps"]]
    tried = counted(len(view.rows), "way", "ways")
    return (
        f"Which of {tried} to combine {counted(len(view.trials), 'trained network')} of {_listed(sweeps, 'sweeps')} is best at "
        f"{counted(len(view.comparison['classes']), 'class', 'classes')}?"
    )


def dropped(view: View) -> str:
    """Sweeps that were named and of which no trial is compared."""
    found = dropped_sweeps(view.comparison)
    parts = [f"{cut(uid)} ({cut(reasons[0], 300)})" for uid, reasons in [*found.items()][:NAMED]]
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"Not compared, as no trial of them fits: {'; '.join(parts)}{more}." if parts else ""


def answer(view: View) -> str:
    """The winner, and its gain over the best single member."""
    if view.winner is None:
        return "No winner is fixed yet."
    row = view.rows[view.winner]
    accuracy = percent(view.estimate(row, "accuracy")["value"])
    said = f"The winner, {view.method(view.winner)}, gets {accuracy} of {view.examples:,} {view.split} images right"
    gain = row.get("gain_accuracy")
    if view.winner == view.single:
        return f"{said}: no ensemble was better than the best single member."
    if gain is None:
        return f"{said}."
    return f"{said}: {_moved(gain['value'])} the best single member{_between(gain['low'], gain['high'])}."


def _moved(gain: float) -> str:
    if gain == 0:
        return "as many as"
    return f"{100 * abs(gain):.2f} points {'more' if gain > 0 else 'fewer'} than"


def _between(low: float | None, high: float | None) -> str:
    return (
        ""
        if low is None or high is None
        else f" (95 % interval {signed(100 * low, 2)} to {signed(100 * high, 2)} points)"
    )


def is_tie(row: Row) -> bool | None:
    """Whether the test cannot tell a method from the best single member; None where it was not asked.

    It tells them apart where p is small and the interval of the gain excludes 0: both have to hold.
    """
    p_value = row.get("p_holm", row.get("p_value"))
    return None if p_value is None else not p_value < SURE or _holds_0(row)


def _holds_0(row: Row) -> bool:
    gain = row.get("gain_accuracy")
    return (
        gain is not None and gain["low"] is not None and gain["high"] is not None and gain["low"] <= 0 <= gain["high"]
    )


def certainty(view: View) -> str:
    """Whether the gain is real, and which other methods are as good."""
    if view.winner is None:
        return ""
    row, told = view.rows[view.winner], ""
    tie = is_tie(row)
    if tie is not None and view.winner != view.single:
        p_value = p_word(row.get("p_holm", row.get("p_value", math.nan)))
        means = "A tie: chance alone can make this difference" if tie else "Chance alone hardly makes this difference"
        told = f"{means} (McNemar's exact test, p {p_word_of(p_value)} after Holm's correction for {view.tests}). "
        if tie and row.get("gain_accuracy") and not _holds_0(row):
            told += "The interval excludes 0; for a gain to be sure, p has to be below 0.05 as well. "
    level = [view.method(n) for n, one in enumerate(view.rows) if one.get("in_set") and n != view.winner]
    if level:
        told += (
            f"By accuracy the test cannot tell {_listed(level, 'methods')} from the best (model confidence set, 95 %, or exact "
            "McNemar)."
        )
    if view.is_tested and row.get("in_set") is False:
        told += " The winner was fixed by validation; on the test it is not among the best by accuracy."
    return told.strip()


def p_word_of(said: str) -> str:
    return said if said.startswith("below") else f"= {said}"


def cost(view: View) -> str:
    """Members and multiply-adds of the winner, beside those of the best single member."""
    if view.winner is None:
        return ""
    row = view.rows[view.winner]
    told = f"It takes {counted(len(row['members']), 'member')}"
    if row["multiply_adds"]:
        told += f" and {short(row['multiply_adds'])} multiply-adds an image{_times(view, row)}"
    if row["latency_ms"]:
        told += f"; {view.timed(row['latency_ms'])}"
    return f"{told}."


def _times(view: View, row: Row) -> str:
    single = view.rows[view.single]["multiply_adds"] if view.single is not None else None
    if not single or not row["multiply_adds"] or view.single == view.winner:
        return ""
    return f", {row['multiply_adds'] / single:.3g} times those of the best single member"


def honesty(view: View) -> str:
    """How often the test was looked at, and what the best of many is worth."""
    return " ".join(filter(None, (_looks(view), _curse(view))))


def _looks(view: View) -> str:
    if not view.is_tested:
        return "The test has not been read; all numbers are of the validation images, on which the winner is chosen."
    looks = max((sweep["look"] for sweep in view.comparison["sweeps"]), default=1)
    if looks == 0:
        return (
            "The winner was fixed by validation first. The trials are those of a server, which did not record this look at their "
            "test."
        )
    if looks == 1:
        return "The winner was fixed by validation before its test predictions were read, for the first time."
    return (
        f"The test predictions of these sweeps were looked at {looks:,} times, this comparison included. The more often methods "
        "are compared on the same test, the more luck is in its best number."
    )


def naive_and_corrected(view: View, whose: str = "") -> tuple[float, float] | None:
    """Validation accuracy as it is, and corrected for having been chosen; None of what is unknown.

    Args:
        whose: empty for the best single member, `winner_` for the winner among the methods.
    """
    found = view.comparison["corrected"]
    naive, value = found.get(f"{whose}naive"), found.get(f"{whose}value")
    if naive is None or value is None or not (math.isfinite(naive) and math.isfinite(value)):
        return None
    return naive, value


def _curse(view: View) -> str:
    pair = naive_and_corrected(view)
    if pair is None:
        return ""
    return (
        f"The best single member has a validation accuracy of {percent(pair[0])}, as the best of {len(view.trials):,}; corrected "
        f"for that choice it is {percent(pair[1])}.{_of_winner(view)}"
    )


def _of_winner(view: View) -> str:
    pair = naive_and_corrected(view, "winner_")
    if pair is None:
        return ""
    return (
        f" The winner has {percent(pair[0])}, cross-fitted, and was chosen among the methods; corrected for that choice it has "
        f"{percent(pair[1])}."
    )


def spread(view: View) -> str:
    """How far other images would move the accuracy, and apart from that how far other seeds do."""
    side = _larger_side(view)
    if side is None:
        return _seeds(view)
    moved = f"the winner's {view.split} accuracy by up to {100 * side:.2f} points (95 %)"
    return f"Intervals are over images: others would move {moved}. {_seeds(view)}"


def _seeds(view: View) -> str:
    found = view.comparison["corrected"]
    known = [
        f"{100 * value:.2f} points on the {split}"
        for split, key in (("test", "seeds_test"), ("validation", "seeds"))
        if (value := found.get(key)) is not None and math.isfinite(value)
    ]
    if not known:
        return "How far another seed would move it is not known, as no configuration was trained with two."
    spreads = f"one configuration's accuracy spreads by {' and '.join(known)} (standard deviation)"
    return f"Seeds come on top: from seed to seed {spreads}."


def _larger_side(view: View) -> float | None:
    """From the winner's accuracy to the farther end of its interval, which is longer to one side."""
    if view.winner is None:
        return None
    found = view.estimate(view.rows[view.winner], "accuracy")
    if found["low"] is None or found["high"] is None:
        return None
    return max(found["high"] - found["value"], found["value"] - found["low"])


def _listed(names: list[str], what: str) -> str:
    shown = names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1:,} more {what}"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


# Tiles ----------------------------------------------------------------------------------------------------------------


def tiles(view: View) -> str:
    """The same numbers for a glance."""
    if view.winner is None:
        return ""
    row = view.rows[view.winner]
    accuracy, gain = view.estimate(row, "accuracy"), row.get("gain_accuracy")
    made = [_tile("winner", view.method(view.winner, 24), f"of {counted(len(view.rows), 'method')}", view.winner)]
    made.append(_tile(f"{view.split} accuracy", percent(accuracy["value"]), _ends(accuracy["low"], accuracy["high"])))
    if gain is not None and view.winner != view.single:
        under = _gain_ends(gain["low"], gain["high"])
        made.append(_tile("points over the best single", points(gain["value"])[:-7], under))
    tie = is_tie(row)
    if tie is not None and view.winner != view.single:
        p_value = row.get("p_holm", row.get("p_value", math.nan))
        made.append(_tile("chance?", "a tie" if tie else "hardly", f"p {p_word_of(p_word(p_value))} after Holm"))
    adds = f"{short(row['multiply_adds'])} multiply-adds an image" if row["multiply_adds"] else ""
    made.append(_tile("cost", counted(len(row["members"]), "member"), adds))
    for whose, name in (("winner_", "winner, corrected"), ("", "best single, corrected")):
        if (pair := naive_and_corrected(view, whose)) is not None:
            made.append(_tile(name, percent(pair[1]), f"validation; {percent(pair[0])} as chosen"))
    if view.is_tested:
        looks = max((sweep["look"] for sweep in view.comparison["sweeps"]), default=1)
        made.append(_tile("looks at the test", f"{looks:,}" if looks else "not counted", f"{view.examples:,} images"))
    return f'<div class="tiles">{"".join(made)}</div>'


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 %: {100 * low:.2f} to {100 * high:.2f} %"


def _gain_ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 %: {signed(100 * low, 2)} to {signed(100 * high, 2)}"


def _tile(name: str, value: str, under: str, number: int | None = None) -> str:
    linked = "" if number is None else f' data-trial="{number}"'
    return f'<div class="tile"{linked}><small>{escaped(name)}</small><b>{escaped(value)}</b><small>{escaped(under)}</small></div>'
