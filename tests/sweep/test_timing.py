"""The time left, against simulated sweeps whose end is known: parallel workers, epochs of different length, early stops."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from orchestrator.analysis.remaining import Countdown, Survival, TrialTime, seconds_left
from orchestrator.base.records import State
from orchestrator.base.text import about
from orchestrator.journal.events import Event, Reported, Started, Suggested, Terminal
from orchestrator.journal.file import Entry
from orchestrator.sweep.terminal import Progress


@dataclass(frozen=True)
class Planned:
    """One trial of a simulation: it trains `trained` of its epochs."""

    epochs: int
    seconds_an_epoch: float
    trained: int


class Simulation:
    """A sweep by an injected clock: each worker takes the next trial when it falls free, and reports every epoch."""

    def __init__(self, trials: Sequence[Planned], workers: int) -> None:
        self.now = 0.0
        self.progress = Progress(len(trials), "val/accuracy", "max", workers=workers, monotonic=lambda: self.now)
        self.events: list[tuple[float, int, int, Event]] = []
        free = [0.0] * workers
        for index, trial in enumerate(trials):
            begin = heapq.heappop(free)
            end = begin + trial.trained * trial.seconds_an_epoch
            self._add(begin, index, Suggested({}, {"epochs": trial.epochs}, index), Started())
            for epoch in range(1, trial.trained + 1):
                metrics = {"val/accuracy": 0.5}
                at = begin + epoch * trial.seconds_an_epoch
                self._add(at, index, Reported([{"epoch": epoch, "time_ms": 0, "metrics": metrics}]))
            state = State.COMPLETED if trial.trained == trial.epochs else State.STOPPED
            self._add(end, index, Terminal(state, trial.trained, 0.5, 1, {}, []))
            heapq.heappush(free, end)
        self.events.sort(key=lambda event: event[:2])
        self.end = max(free)

    def _add(self, at: float, index: int, *events: Event) -> None:
        self.events += [(at, len(self.events) + place, index, event) for place, event in enumerate(events)]

    def run(self, look: Callable[[float, float | None], None], every_s: float = 1.0) -> None:
        """Calls look(the true time left, what is shown) every second, and after what happened until then."""
        events = iter(self.events)
        upcoming = next(events, None)
        tick = 0.0
        while tick <= self.end:
            while upcoming is not None and upcoming[0] <= tick:
                self.now = upcoming[0]
                self.progress.line(Entry(1, 0, upcoming[2], 1, upcoming[3]))
                upcoming = next(events, None)
            self.now = tick
            look(self.end - tick, self.progress.seconds_left())
            tick += every_s


def spread(number: int, low: float, high: float, epochs: int, seed: int) -> list[Planned]:
    draw = random.Random(seed)
    return [Planned(epochs, draw.uniform(low, high), epochs) for _ in range(number)]


def stopped(number: int, epochs: int, at: int, share: float, seed: int) -> list[Planned]:
    draw = random.Random(seed)
    return [Planned(epochs, 2.0, at if draw.random() < share else epochs) for _ in range(number)]


@pytest.mark.parametrize(
    ("trials", "workers", "from_share", "most_wrong"),
    [
        # equal trials: known as soon as an epoch is
        ([Planned(10, 3.0, 10)] * 8, 2, 0.05, 0.01),
        ([Planned(10, 3.0, 10)] * 7, 3, 0.05, 0.01),
        ([Planned(50, 20.0, 50)], 1, 0.05, 0.02),
        # a worker more than there are trials
        ([Planned(10, 3.0, 10)] * 2, 3, 0.1, 0.01),
        # epochs of 1 to 5 s: the next trials are like the mean of those before, so the first of 24 tell little of them
        (spread(24, 1.0, 5.0, 10, seed=1), 2, 0.3, 0.1),
        (spread(200, 1.0, 5.0, 10, seed=2), 8, 0.3, 0.06),
        # half of them, two thirds, stopped at epoch 3 of 12
        (stopped(60, 12, 3, 0.5, seed=3), 2, 0.3, 0.12),
        (stopped(60, 12, 3, 0.67, seed=4), 4, 0.3, 0.15),
        (stopped(300, 12, 3, 0.67, seed=5), 4, 0.3, 0.05),
    ],
)
def test_the_time_left_is_true(trials: Sequence[Planned], workers: int, from_share: float, most_wrong: float) -> None:
    """Wrong by at most a share of the sweep's whole length, which a person waits for."""
    simulation = Simulation(trials, workers)
    wrong: list[float] = []

    def look(true: float, shown: float | None) -> None:
        if true < simulation.end * (1 - from_share):
            assert shown is not None
            wrong.append(abs(shown - true) / simulation.end)

    simulation.run(look)

    assert wrong
    assert max(wrong) <= most_wrong


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_of_equal_trials_it_never_grows(workers: int) -> None:
    simulation = Simulation([Planned(10, 3.0, 10)] * 9, workers)
    shown: list[float] = []
    simulation.run(lambda true, left: shown.append(left) if left is not None else None)

    assert len(shown) >= simulation.end - 4
    assert shown == sorted(shown, reverse=True)


def test_nothing_is_said_before_the_first_epoch() -> None:
    simulation = Simulation([Planned(10, 30.0, 10)] * 2, 2)
    seen: list[tuple[float, bool]] = []
    simulation.run(lambda true, left: seen.append((simulation.now, left is None)))

    assert all(unknown == (now < 30.0) for now, unknown in seen)


def test_images_within_a_long_epoch_count() -> None:
    """One trial of two epochs of 1,000 s: after a tenth of the first, 100 s, 1,900 are left."""
    now = 0.0
    progress = Progress(1, "val/accuracy", "max", monotonic=lambda: now)
    progress.line(Entry(1, 0, 0, 1, Suggested({}, {"epochs": 2}, 0)))
    progress.line(Entry(1, 0, 0, 1, Started()))
    now = 100.0
    progress.heard(0, (1, 5_000, 50_000))

    assert progress.seconds_left() == pytest.approx(1_900)
    now = 150.0
    assert progress.seconds_left() == pytest.approx(1_850)


def test_a_time_budget_ends_the_sweep_earlier() -> None:
    now = 0.0
    progress = Progress(1, "val/accuracy", "max", monotonic=lambda: now)
    progress.timing.deadline_s = 500.0
    progress.line(Entry(1, 0, 0, 1, Suggested({}, {"epochs": 100}, 0)))
    progress.line(Entry(1, 0, 0, 1, Started()))
    now = 20.0
    assert progress.seconds_left() is None
    progress.line(Entry(1, 0, 0, 1, Reported([{"epoch": 2, "time_ms": 0, "metrics": {}}])))
    now = 100.0
    assert progress.seconds_left() == pytest.approx(400)


def test_epochs_of_an_earlier_driver_cost_no_time_here() -> None:
    """A resumed trial with 90 of 100 epochs: 10 are left, of 2 s each."""
    trial = TrialTime(planned=100, before=90, epochs=2, seconds=4.0)
    assert seconds_left([trial], to_come=0, workers=1) == pytest.approx(16)


def test_a_trial_that_takes_longer_than_it_did_takes_no_more_off() -> None:
    silent = TrialTime(planned=10, epochs=5, seconds=50.0, since_s=1_000.0)
    assert seconds_left([silent], to_come=0, workers=1) == pytest.approx(50 - 11)


def test_survival_is_kaplan_and_meiers() -> None:
    """By hand: of ten, three stop at 1/4 (10 at risk: 0.7), then two of the six that came further stop at 1/2, while one that
    runs was seen at 0.3 last (6 at risk: 0.7 x 4/6), and four complete."""
    ended = [(0.25, 3), (0.5, 2), (1.0, 4)]
    trials = [TrialTime(4, share * 4, 1.0, ended=True) for share, number in ended for _ in range(number)]
    trials.append(TrialTime(4, 1.2, 1.0))
    survival = Survival(trials)

    assert survival.beyond(0.2) == 1
    assert survival.beyond(0.25) == pytest.approx(0.7)
    assert survival.to_the_end == pytest.approx(0.7 * 4 / 6)
    assert survival.expected() == pytest.approx(0.25 + 0.25 * 0.7 + 0.5 * 0.7 * 4 / 6)
    assert survival.expected(0.3) == pytest.approx(0.3 + 0.2 * 1 + 0.5 * 4 / 6)
    assert survival.expected(0.5) == 1


def test_where_everything_failed_at_once_nothing_is_known() -> None:
    failed = [TrialTime(10, 0, 1.0, ended=True)] * 3
    assert seconds_left(failed, to_come=5, workers=2) is None
    assert seconds_left(failed, to_come=0, workers=2) == 0


def test_many_trials_to_come_are_spread_evenly() -> None:
    done = [TrialTime(10, 10, 20.0, ended=True)] * 5
    assert seconds_left(done, to_come=100_000, workers=8) == pytest.approx(100_000 * 20 / 8)


def test_repeats_follow_only_what_completes() -> None:
    """Each configuration with three seeds, judged first: one completed and its repeats are due, one was stopped and has none,
    two are to come and complete as often as not."""
    now = 0.0
    progress = Progress(4, "val/accuracy", "max", repeat=3, judged=True, monotonic=lambda: now)
    for index, trained, state in ((0, 4, State.COMPLETED), (1, 2, State.STOPPED)):
        progress.line(Entry(1, 0, index, 1, Suggested({}, {"epochs": 4}, index, 0, True)))
        progress.line(Entry(1, 0, index, 1, Started()))
        now += trained
        progress.line(Entry(1, 0, index, 1, Reported([{"epoch": trained, "time_ms": 0, "metrics": {}}])))
        progress.line(Entry(1, 0, index, 1, Terminal(state, trained, 0.5, 1, {}, [])))

    assert progress.trials == 4 * 3 - 2
    # trials of 3 s in the mean: 2 repeats, and 2 configurations of 1 + 2 x 0.5
    assert progress.seconds_left() == pytest.approx((2 + 2 * 2) * 3)


def test_the_countdown_grows_only_where_it_must() -> None:
    countdown = Countdown()
    assert countdown.show(None, 0) is None
    assert countdown.show(100, 0) == 100
    assert countdown.show(105, 10) == 90
    assert countdown.show(80, 20) == 80
    assert countdown.show(150, 30) == 150
    assert countdown.show(None, 40) == 140


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "time left ?"),
        (0, "a few seconds left"),
        (14, "about 10 s left"),
        (54, "about 50 s left"),
        (56, "about 1 min left"),
        (185, "about 3 min left"),
        (3_569, "about 59 min left"),
        (3_600, "about 1 h left"),
        (4_900, "about 1 h 20 min left"),
        (7 * 3_600, "about 7 h left"),
        (100 * 3_600, "about 4 days left"),
    ],
)
def test_it_is_told_no_more_exactly_than_it_is_known(seconds: float | None, text: str) -> None:
    assert about(seconds) == text
