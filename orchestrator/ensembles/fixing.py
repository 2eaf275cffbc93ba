"""The winner is fixed: every sweep says so before the test is read, and so counts the looks at it. A sweep that is here says it
in its journal, one of a server by a tag of its run there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.layout import JOURNAL
from orchestrator.ensembles.comparison import Comparison, Row, SweepRecordOf, network_of
from orchestrator.ensembles.gathering import Source
from orchestrator.journal.events import Published
from orchestrator.journal.file import Reader
from orchestrator.journal.publishing import publish
from orchestrator.stores.runs import UnavailableError

if TYPE_CHECKING:
    from orchestrator.ensembles.everywhere import Everywhere

KEY = "comparison"
"""Of the `published` events that say which winner was fixed; their number is how often the test of a sweep was looked at."""

OF_ENSEMBLE = (
    *("method", "members", "weights", "pooling", "temperature", "member_temperatures", "coefficients", "intercept"),
)
"""What of a row makes its predictions."""


def fix(comparison: Comparison, winner: Row, sources: Sequence[Source]) -> list[SweepRecordOf]:
    """Records the winner in every sweep, and counts how often its test was looked at: 0 where a server does not take the tag.

    A comparison that is repeated as it was is no further look, so that one that was cut off between two journals counts once.

    Raises:
        RunningElsewhereError, NotReadyError: a journal cannot be written now.
    """
    text = json.dumps(_announcement(comparison, winner))
    return [
        {
            "uid": source.uid,
            "metric": source.metric,
            "mode": source.mode,
            "look": _announced(source, comparison["uid"], winner["method"], text),
        }
        for source in sources
    ]


def fixed_before(comparison: Comparison, winner: Row, sources: Sequence[Source]) -> list[str]:
    """The uids of comparisons that announced the very same in every sweep. Of sweeps of a server none is known."""
    text = json.dumps(_announcement(comparison, winner))
    if any(source.folder is None for source in sources):
        return []
    told = [[event.run for event in _fixed(source.folder) if event.text == text] for source in sources if source.folder]
    return [uid for uid in told[0] if all(uid in others for others in told)] if told else []


def _announced(source: Source, uid: str, winner: str, text: str) -> int:
    """Announces a winner, and returns how many were. What is announced already, word for word, was looked at then."""
    if source.folder is not None:
        if text not in {event.text for event in _fixed(source.folder)}:
            publish(source.folder, uid, KEY, text)
        return looks(source.folder)
    if source.uri is None or source.run_id is None:
        return 0
    from orchestrator.ensembles.everywhere import Everywhere

    said = json.dumps({"winner": winner, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    try:
        with contextlib.closing(Everywhere(source.uri)) as server:
            if said not in _tagged(server, source.run_id).values():
                server.put_tag(source.run_id, f"{KEY}.{uid}", said)
            return len(_tagged(server, source.run_id))
    except UnavailableError:
        return 0


def _tagged(server: Everywhere, run_id: str) -> dict[str, str]:
    """The winners that were fixed of a sweep of a server."""
    return {key: text for key, text in server.tags(run_id).items() if key.startswith(f"{KEY}.")}


def _announcement(comparison: Comparison, winner: Row) -> Mapping[str, Any]:
    names = [member["name"] for member in comparison["members"]]
    network = network_of(comparison, winner)
    return {
        "winner": winner["method"],
        "members": [names[place] for place in winner["members"]],
        "weights": winner["weights"],
        "pooling": winner["pooling"],
        "temperature": winner["temperature"],
        "ingredients": [names[place] for place in network["ingredients"]] if network is not None else [],
        "validation": winner["val"]["measures"],
        "methods": [row["method"] for row in comparison["rows"]],
        "settings": comparison["settings"],
        "compared": _digest(comparison),
    }


def _digest(comparison: Comparison) -> str:
    """Of all that the test will be read for: the candidates, and every method's ensemble of them."""
    ensembles = [[row.get(key) for key in OF_ENSEMBLE] for row in comparison["rows"]]
    whole = [comparison["fingerprint"], [member["name"] for member in comparison["members"]], ensembles]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def looks(folder: Path) -> int:
    """How many comparisons fixed a winner of the sweep in this folder, after which each read its test."""
    return len({event.run for event in _fixed(folder)})


def _fixed(folder: Path) -> list[Published]:
    """The winners that were fixed of the sweep in this folder."""
    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        events = (entry.event for entry in reader.events())
        return [event for event in events if isinstance(event, Published) and event.key == KEY]
