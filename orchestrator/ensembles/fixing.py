"""The winner is fixed: the journal of every sweep that is here says so before the test is read, and so counts the looks at it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.layout import JOURNAL
from orchestrator.ensembles.comparison import Comparison, Row, SweepRecordOf
from orchestrator.ensembles.gathering import Source
from orchestrator.journal.events import Published
from orchestrator.journal.file import Reader
from orchestrator.journal.publishing import publish

KEY = "comparison"
"""Of the `published` events that say which winner was fixed; their number is how often the test of a sweep was looked at."""


def fix(comparison: Comparison, winner: Row, sources: Sequence[Source]) -> list[SweepRecordOf]:
    """Records the winner in the journal of every sweep that is here, and counts how often its test was looked at.

    Raises:
        RunningElsewhereError, NotReadyError: a journal cannot be written now.
    """
    text = json.dumps(_announcement(comparison, winner))
    for source in sources:
        if source.folder is not None:
            publish(source.folder, comparison["uid"], KEY, text)
    return [
        {
            "uid": source.uid,
            "metric": source.metric,
            "mode": source.mode,
            "look": 0 if source.folder is None else looks(source.folder),
        }
        for source in sources
    ]


def _announcement(comparison: Comparison, winner: Row) -> Mapping[str, Any]:
    names = [member["name"] for member in comparison["members"]]
    return {
        "winner": winner["method"],
        "members": [names[place] for place in winner["members"]],
        "weights": winner["weights"],
        "pooling": winner["pooling"],
        "temperature": winner["temperature"],
        "validation": winner["val"]["measures"],
        "methods": [row["method"] for row in comparison["rows"]],
        "settings": comparison["settings"],
    }


def looks(folder: Path) -> int:
    """How many comparisons fixed a winner of the sweep in this folder, after which each read its test."""
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        events = (entry.event for entry in reader.events())
        return len({event.run for event in events if isinstance(event, Published) and event.key == KEY})
