import io

import pytest

from orchestrator.base.records import State
from orchestrator.base.text import duration, say, table
from orchestrator.housekeeping.overview import planned_trials
from orchestrator.journal.events import Event, Reported, Started, Suggested, SweepClosed, SweepOpened, Terminal
from orchestrator.journal.file import Entry
from orchestrator.journal.record import SweepRecord
from orchestrator.sweep.terminal import Progress, View


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(trial: int, event: Event) -> Entry:
    return Entry(1, 0, trial, 1, event)


def reported(trial: int, epoch: int, value: float) -> Entry:
    return entry(trial, Reported([{"epoch": epoch, "time_ms": 0, "metrics": {"val/accuracy": value}}]))


def ended(trial: int, state: str, value: float | None, reason: str | None = None) -> Entry:
    return entry(trial, Terminal(State(state), 3, value, 3, {}, [], reason))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    progress = Progress(4, "val/accuracy", "max", monotonic=clock)
    progress.line(entry(0, Suggested({"optimizer.lr": 0.123456}, {"epochs": 3}, 0)))
    progress.line(entry(0, Started()))
    return progress


def test_before_the_first_trial_the_workers_are_starting(clock: Clock) -> None:
    waiting = Progress(4, "val/accuracy", "max", monotonic=clock)
    waiting.line(entry(0, Suggested({}, {"epochs": 3}, 0)))
    assert waiting.summary().startswith("0/4 trials, workers are starting, ")


def test_the_first_epoch_has_a_line_and_later_ones_every_ten_seconds(progress: Progress, clock: Clock) -> None:
    assert progress.line(reported(0, 1, 0.5)) == "trial 0  epoch 1  val/accuracy 0.5000  optimizer.lr=0.1235"
    clock.now = 9.0
    assert progress.line(reported(0, 2, 0.6)) is None
    clock.now = 10.5
    assert progress.line(reported(0, 3, 0.7)) is not None


def test_every_trial_that_ends_has_a_line(progress: Progress) -> None:
    line = progress.line(ended(0, "completed", 0.75))
    assert line == "[1/4] trial 0 completed  val/accuracy 0.7500  optimizer.lr=0.1235"
    assert progress.line(ended(1, "diverged", 0.9, "the loss is nan")) == "[2/4] trial 1 diverged  (the loss is nan)  "


def test_the_summary_counts_and_estimates(progress: Progress, clock: Clock) -> None:
    """One worker, 10 s an epoch, of 3 epochs; the diverged one had none."""
    assert progress.summary() == "0/4 trials, 1 running, 0:00 so far, time left ?"
    clock.now = 30.0
    progress.line(reported(0, 3, 0.75))
    progress.line(ended(0, "completed", 0.75))
    progress.line(entry(1, Suggested({}, {"epochs": 3}, 1)))
    progress.line(entry(1, Started()))
    assert progress.summary() == (
        "1/4 trials, 1 running, best val/accuracy 0.7500 (trial 0), 0:30 so far, about 2 min left"
    )
    progress.line(ended(1, "diverged", None))
    clock.now = 31.0
    assert progress.summary().startswith("2/4 trials, 0 running, 1 diverged, best val/accuracy 0.7500 (trial 0), 0:31")


def suggested(trial: int, *, config: int, repeat: int = 0, judged: bool = False) -> Entry:
    return entry(trial, Suggested({}, {"epochs": 3}, config, repeat, judged))


@pytest.mark.parametrize(
    ("configurations", "repeat", "judged", "ends", "total"),
    [
        (4, 1, False, ["completed", "failed"], 4),
        (5, 1, False, ["completed"] * 6, 6),  # a sweep that was resumed with fewer trials than it had
        (4, 3, False, ["completed", "stopped"], 12),
        (4, 3, True, ["completed", "completed"], 12),
        (4, 3, True, ["completed", "stopped", "diverged", "failed"], 3 + 1 + 1 + 1),
        (0, 1, False, [], 0),
    ],
)
def test_counter_resume_and_status_count_alike(
    configurations: int, repeat: int, judged: bool, ends: list[str], total: int
) -> None:
    """As the events come, as a later driver reads them, and as `status` reads the journal; never fewer than there are."""
    live = Progress(configurations, "val/accuracy", "max", repeat=repeat, judged=judged)
    opened = SweepOpened("s-1", "s", "val/accuracy", "max", configurations, ".", "", tracking={})
    record = SweepRecord()
    entries = [Entry(1, 0, None, None, opened)]
    for index, state in enumerate(ends):
        entries += [suggested(index, config=index, judged=judged), entry(index, Started()), ended(index, state, 0.5)]
    for one in entries:
        live.line(one)
        record.apply(one)
    later = Progress(configurations, "val/accuracy", "max", repeat=repeat, judged=judged)
    later.recall(record)

    assert (live.trials, later.trials, record.count(configurations, repeat).planned) == (total, total, total)
    assert repeat > 1 or planned_trials(record) == total
    assert live.summary().partition(" ")[0] == later.summary().partition(" ")[0] == f"{len(ends)}/{total}"
    assert live.count == later.count


def test_a_sweep_that_came_to_its_end_has_the_trials_that_it_has() -> None:
    """The space was used up after two of eight, or a scheduler stopped what would have been repeated."""
    record = SweepRecord()
    record.apply(Entry(1, 0, None, None, SweepOpened("s-1", "s", "val/accuracy", "max", 8, ".", "", tracking={})))
    for index in range(2):
        record.apply(suggested(index, config=index))
        record.apply(ended(index, "completed", 0.5))
    assert planned_trials(record) == 8
    record.apply(Entry(9, 0, None, None, SweepClosed("exhausted", {}, None, 1.0, [])))
    assert planned_trials(record) == 2


def test_diverged_trials_are_not_the_best(progress: Progress) -> None:
    progress.line(ended(0, "diverged", 0.99))
    assert progress.best is None


def test_plain_lines_where_there_is_no_terminal(progress: Progress) -> None:
    out = io.StringIO()
    with View(progress, out) as view:
        view(reported(0, 1, 0.5))
        view(ended(0, "completed", 0.5))
    assert out.getvalue().splitlines()[1].startswith("[1/4] trial 0 completed")


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_view_where_there_is_one(progress: Progress) -> None:
    out = FakeTerminal()
    with View(progress, out) as view:
        view(reported(0, 1, 0.5))
        view(ended(0, "completed", 0.5))
    assert "1/4 trials" in out.getvalue()
    assert "trial 0 completed" in out.getvalue()


def test_characters_that_a_terminal_cannot_show_are_replaced() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    say("naïve → ok", out)
    assert raw.getvalue() == b"na?ve ? ok\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tables_are_aligned() -> None:
    assert table(["a", "bb"], [["100", ""], ["1", "x"]]) == ["a    bb", "100", "1    x"]
