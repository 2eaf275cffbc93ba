"""What events add up to in MLflow, worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.journal.events import Event, Reported, Started, Suggested, SweepOpened, SweepResumed
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


def test_what_an_attempt_computed_on_is_told() -> None:
    """What `device=auto` and `precision=auto` became."""
    view = SweepView()
    ran_on = {"device": "cpu", "precision": "fp32", "tf32": False, "threads": 1}
    for seq, event in enumerate([OPENED, SUGGESTED, Started(), Reported([], None, [], None, ran_on)], start=1):
        view.fold(Entry(seq, seq, 0 if event.of_trial else None, 1 if event.of_trial else None, event))
    (run,) = [write for write in view.take() if write.kind == "trial"]
    told = {key: value for key, value in run.tags.items() if key.startswith("ran_on.")}
    assert told == {"ran_on.device": "cpu", "ran_on.precision": "fp32", "ran_on.tf32": "false", "ran_on.threads": "1"}
