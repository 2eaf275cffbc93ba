"""Times with the gaps between sessions cut short."""

from __future__ import annotations

import pytest

from orchestrator.reports.figures.timeline import figure, worked
from orchestrator.reports.parts.lanes import Session
from tests.reports.made import SECOND, sweep, trial


def test_a_gap_is_drawn_short() -> None:
    """60 s and 40 s of work with a day between them: the gap is as wide as 3 % of the 100 s."""
    times = [Session(0, 60 * SECOND), Session(86_400 * SECOND, 86_440 * SECOND)]
    assert worked(times, 30 * SECOND) == 30
    assert worked(times, 60 * SECOND) == 60
    assert worked(times, 86_400 * SECOND) == pytest.approx(63)
    assert worked(times, 86_440 * SECOND) == pytest.approx(103)


def test_the_text_tells_workers_utilization_and_resumes() -> None:
    data = sweep(
        trial(0, 0.5, began=[0], ended=100 * SECOND),
        trial(1, 0.5, began=[0, 7300 * SECOND], broke_off=[100 * SECOND], ended=7400 * SECOND),
        sessions=[(0, 100 * SECOND)],
        session_ms=7290 * SECOND,
    )
    found = figure(data)
    assert found is not None
    assert found.text == (
        "3 attempts on 2 workers in 3.3 min; the workers were busy 75% of that. "
        "It was resumed once, after 2 h; the gap is drawn short."
    )


def test_a_sweep_that_has_not_begun_has_no_figure() -> None:
    assert figure(sweep(trial(0, None, "running", began=[]))) is None
    assert figure(sweep()) is None
