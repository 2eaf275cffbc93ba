"""What events add up to in MLflow, worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.journal.events import Event, Started, Suggested, SweepOpened, SweepResumed
from orchestrator.journal.file import Entry
from orchestrator.tracking.runs import SweepView

OPENED = SweepOpened("s-1", "s", "val/accuracy", "max", 1, "/sweep", "", tracking={})
SUGGESTED = Suggested({}, {"choices": {}}, 0)


@pytest.mark.parametrize(
    ("events", "start_ms"),
    [
        ([(1, OPENED), (100, SUGGESTED), (500, Started())], 500),
        ([(1, OPENED), (100, SUGGESTED), (500, Started(began_ms=400))], 400),
        ([(1, OPENED), (100, SUGGESTED), (300, SweepResumed()), (500, Started())], 100),
        ([(1, OPENED), (2, SweepResumed()), (100, SUGGESTED), (500, Started())], 500),
    ],
    ids=["started", "began before it was written", "the driver died before it wrote", "resumed earlier"],
)
def test_a_run_begins_no_later_than_what_its_trial_left(events: list[tuple[int, Event]], start_ms: int) -> None:
    """A driver that dies may have had a trial begun that its journal does not know of; its epochs are found again."""
    view = SweepView()
    for seq, (time_ms, event) in enumerate(events, start=1):
        view.fold(Entry(seq, time_ms, 0 if event.of_trial else None, 1 if isinstance(event, Started) else None, event))
    (run,) = [write for write in view.take() if write.kind == "trial"]
    assert run.start_ms == start_ms
