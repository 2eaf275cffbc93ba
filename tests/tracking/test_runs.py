"""What events add up to in MLflow, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.base.records import State
from orchestrator.journal.events import (
    Event,
    Published,
    Reported,
    Started,
    Suggested,
    SweepClosed,
    SweepOpened,
    SweepResumed,
    Terminal,
)
from orchestrator.journal.file import Entry
from orchestrator.journal.parts import Epoch
from orchestrator.stores.runs import Metric
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


def test_a_published_text_is_shown_as_it_was_recorded() -> None:
    """It replaces what the tracker would have written itself, then and when the sweep is closed."""
    published = Published("s-1", "mlflow.note.content", "0" * 64, text="by the driver")
    view = SweepView()
    for seq, event in enumerate([OPENED, published, SweepClosed("finished", {}, None)], start=1):
        view.fold(Entry(seq, seq, None, None, event))
    (run,) = view.take()
    assert run.tags["mlflow.note.content"] == "by the driver"
    assert run.status == "FAILED", "no trial has a result"


def test_a_published_file_is_an_artifact_of_its_run() -> None:
    view = SweepView(Path("/sweep"))
    published = Published("s-1/0", "curve.png", "ab" * 32, path="figures/curve.png")
    elsewhere = Published("a comparison", "curve.png", "ab" * 32, path="figures/curve.png")
    for seq, event in enumerate([OPENED, SUGGESTED, published, elsewhere], start=1):
        view.fold(Entry(seq, seq, 0 if event.of_trial else None, None, event))
    sweep, trial = view.take()
    assert [artifact.name for artifact in sweep.artifacts] == ["config.yaml"]
    assert [(a.name, a.path) for a in trial.artifacts][1:] == [("curve.png", Path("/sweep/figures/curve.png"))]
    assert trial.tags["sha256.curve.png"] == "ab" * 32


def test_of_two_versions_in_a_batch_the_last_is_written() -> None:
    view = SweepView(Path("/sweep"))
    versions = [Published("s-1", "report.html", f"{n}" * 64, path=f"published/report-{n}.html") for n in (1, 2)]
    for seq, event in enumerate([OPENED, *versions], start=1):
        view.fold(Entry(seq, seq, None, None, event))
    (sweep,) = view.take()
    assert [(a.name, a.path) for a in sweep.artifacts][1:] == [("report.html", Path("/sweep/published/report-2.html"))]
    assert sweep.tags["sha256.report.html"] == "2" * 64


def test_a_run_ends_no_earlier_than_it_began() -> None:
    """The clock was set back by a day while the sweep ran."""
    end = Terminal(State.FAILED, 0, None, None, {}, [])
    events: list[tuple[int, Event]] = [
        (100, OPENED),
        (200, SUGGESTED),
        (300, Started()),
        (-500, end),
        (-400, SweepClosed("finished", {}, None)),
    ]
    view = SweepView()
    for seq, (time_ms, event) in enumerate(events, start=1):
        view.fold(Entry(seq, time_ms, 0 if event.of_trial else None, 1 if event.of_trial else None, event))
    sweep, trial = view.take()
    assert (sweep.start_ms, sweep.end_ms) == (100, 100)
    assert (trial.start_ms, trial.end_ms) == (300, 300)


def test_what_the_machine_was_busy_with_stands_at_the_last_epoch_of_the_report() -> None:
    view = SweepView()
    epochs: list[Epoch] = [{"epoch": n, "time_ms": 10 * n, "metrics": {"val/loss": 1 / n}} for n in (1, 2)]
    busy = {"cpu_utilization_percentage": 93.5, "gpu_0_power_usage_watts": "nan"}
    events = [OPENED, SUGGESTED, Started(), Reported(epochs, system=busy)]
    for seq, event in enumerate(events, start=1):
        view.fold(Entry(seq, seq, 0 if event.of_trial else None, 1 if event.of_trial else None, event))
    (run,) = [write for write in view.take() if write.kind == "trial"]
    assert [metric for metric in run.metrics if metric.key.startswith("system/")] == [
        Metric("system/cpu_utilization_percentage", 2, 20, 93.5)
    ]
