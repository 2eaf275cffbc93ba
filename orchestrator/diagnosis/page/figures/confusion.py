"""Which classes a trained network takes for which."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.reports.data import cut
from orchestrator.reports.figure import Figure
from orchestrator.reports.figures.confusion import CLASSES, matrix, most_confused

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis


def figure(found: Diagnosis) -> Figure | None:
    """None at initialization."""
    if found.classes is None:
        return None
    counts = found.classes.confusion
    pairs = Counter({(true, said): count for true, row in enumerate(counts) for said, count in enumerate(row) if count})
    shown = most_confused(pairs, len(counts), CLASSES)
    wrong = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    text = f"{sum(wrong.values()):,} of {pairs.total():,} validation images are taken for another class."
    if wrong:
        (true, said), count = max(wrong.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
        names = found.classes.names
        text += (
            f" Most often {cut(names[true], 40)} is taken for {cut(names[said], 40)}: {count} of {sum(counts[true])}."
        )
    if len(shown) < len(counts):
        text += f" Of {len(counts)} classes the {len(shown)} with the most mistakes are shown."
    names_cut = [cut(name, 100) for name in found.classes.names]
    return Figure(
        name="confusion", title="Which classes does it take for which?", text=text, spec=matrix(names_cut, pairs, shown)
    )
