"""Which classes the winner takes for which."""

from __future__ import annotations

from collections import Counter

from orchestrator.ensembles.page.view import View
from orchestrator.reports.data import cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.figures.confusion import CLASSES, matrix, most_confused


def figure(view: View) -> Figure | None:
    """None where the winner's confusion was not kept."""
    pairs = counts(view)
    if not pairs or view.winner is None:
        return None
    classes = [cut(name, 100) for name in view.comparison["classes"]]
    shown = most_confused(pairs, len(classes), CLASSES)
    return Figure(
        name="confusion",
        title="Which classes does the winner take for which?",
        text=_text(view, pairs, len(shown)),
        spec=matrix(classes, pairs, shown),
    )


def counts(view: View) -> Counter[tuple[int, int]]:
    """(true class, said class) -> how many images; pairs of none are left out."""
    classes = len(view.comparison["classes"])
    return Counter(
        {
            (true, said): count
            for true, row in enumerate(view.comparison.get("confusion", ())[:classes])
            for said, count in enumerate(row[:classes])
            if count > 0
        }
    )


def _text(view: View, pairs: Counter[tuple[int, int]], shown: int) -> str:
    wrong = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    total = pairs.total()
    assert view.winner is not None
    text = f"{view.method(view.winner)} gets {total - sum(wrong.values()):,} of {total:,} test images right."
    if wrong:
        (true, said), count = max(wrong.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
        of_true = sum(number for (label, _), number in pairs.items() if label == true)
        text += f" Most often {view.class_name(true)} is taken for {view.class_name(said)}: {count:,} of {of_true:,}."
    classes = len(view.comparison["classes"])
    return text + (f" Of {classes:,} classes the {shown} with the most mistakes are shown." if shown < classes else "")
