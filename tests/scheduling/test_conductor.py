"""The decisions of a sweep, worked through by hand without Ray."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.base.records import State
from orchestrator.base.rules import repeat_seed
from orchestrator.journal.events import Reported, Suggested, SweepOpened, SweepResumed, Terminal
from orchestrator.journal.file import Entry, Journal, Reader
from orchestrator.journal.record import SweepRecord
from orchestrator.scheduling.conductor import Conductor
from orchestrator.scheduling.samplers import Params, Sampler
from orchestrator.scheduling.schedulers import Decision, Scheduler
from tests.synthetic import CONFIG


class Listed(Sampler):
    """Suggests `x` = 0, 1, 2, ... and remembers what it is told."""

    def __init__(self, size: int = 100, learns: bool = False) -> None:
        self.learns = learns
        self.size = size
        self.told: list[tuple[int, float | None]] = []

    def suggest(self, index: int) -> Params | None:
        return {"x": index} if index < self.size else None

    def observe(self, index: int, params: Params, value: float | None) -> None:
        self.told.append((index, value))


class Below(Scheduler):
    """Stops what is below a number at a rung, and remembers what it is shown."""

    def __init__(self, limit: float = -1.0) -> None:
        self.limit = limit
        self.shown: list[tuple[int, int, float | None]] = []

    def show(self, trial: int, epoch: int, value: float | None) -> Decision:
        self.shown.append((trial, epoch, value))
        return Decision.STOP if value is None or value < self.limit else Decision.CONTINUE


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / JOURNAL, create=True)
    yield journal
    journal.close()


@pytest.fixture
def events(journal: Journal) -> list[Entry]:
    heard: list[Entry] = []
    journal.subscribe(heard.append)
    return heard


def conductor(
    journal: Journal,
    sampler: Sampler,
    limit: int = 4,
    concurrent: int = 2,
    mode: str = "max",
    scheduler: Scheduler | None = None,
    new: bool = True,
) -> Conductor:
    made = Conductor(
        record=SweepRecord(),
        journal=journal,
        sampler=sampler,
        scheduler=scheduler or Below(),
        limit=limit,
        configure=lambda params: {**CONFIG, "epochs": 5, **params},
        folder=lambda index: f"/sweep/{index}",
        concurrent=concurrent,
        rungs=[1, 3] if scheduler else [],
    )
    if new:
        journal.append(opening(mode))
    return made


def opening(mode: str = "max") -> SweepOpened:
    return SweepOpened(
        uid="s-1", name="s", metric="val/accuracy", mode=mode, trials=4, folder="/sweep", plan="", tracking={}
    )


def report(state: str, *values: float, first: int = 1, attempt: int = 1, index: int = 0, **more: Any) -> dict[str, Any]:
    epochs = [
        {"epoch": first + i, "time_ms": 1000 + i, "metrics": {"val/accuracy": value}} for i, value in enumerate(values)
    ]
    best = max(((e["epoch"], e["metrics"]["val/accuracy"]) for e in epochs), key=lambda b: b[1], default=None)
    plain = {
        "uid": f"s-1/{index}",
        "state": state,
        "attempt": attempt,
        "epochs": epochs,
        "checkpoint": None,
        "notes": [],
        "best": best,
    }
    return {**plain, **more}


def best_of(sweep: Conductor) -> tuple[int, float]:
    assert sweep.record.scores is not None
    assert sweep.record.scores.best is not None
    best = sweep.record.scores.best
    return best.trials[0], best.mean


def terminals(entries: list[Entry]) -> dict[int | None, dict[str, Any]]:
    return {entry.trial: entry.event.to_data() for entry in entries if isinstance(entry.event, Terminal)}


def ahead(sweep: Conductor, number: int) -> list[int]:
    """The indices of the trials handed out with so many places to wait in."""
    return [trial.index for trial in iter(lambda: sweep.next_trial(ahead=number), None)]


def test_trials_wait_for_their_turn_in_the_places_there_are(journal: Journal) -> None:
    sweep = conductor(journal, Listed(), limit=10)
    assert ahead(sweep, 0) == [0, 1]
    assert ahead(sweep, 3) == [2, 3, 4]
    assert sweep.is_full(ahead=3)
    assert not sweep.is_full(ahead=4)


def test_what_follows_a_judged_trial_with_repeats_is_not_decided_before_it_ends(journal: Journal) -> None:
    sweep = repeated(journal, Listed(), judged=True, limit=5)
    assert ahead(sweep, 4) == [0, 1]
    sweep.on_report(0, report("completed", 0.5, index=0))
    assert ahead(sweep, 4) == [2]
    assert sweep.trials[2].config["seed"] == 11


def test_a_trial_taken_back_has_a_higher_fence_and_the_same_attempt(journal: Journal) -> None:
    sweep = conductor(journal, Listed())
    first = sweep.next_trial()
    assert first is not None
    sweep.withdraw(0)
    again = sweep.trial(0)
    assert (again.attempt, again.fence) == (first.attempt, first.fence + 1)


def test_a_sampler_that_learns_is_asked_only_when_a_place_is_free(journal: Journal) -> None:
    sweep = conductor(journal, Listed(learns=True), limit=10)
    assert ahead(sweep, 4) == [0, 1]
    sweep.on_report(0, report("completed", 0.5, index=0))
    assert ahead(sweep, 4) == [2]


def test_a_suggestion_is_durable_before_it_runs(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed())
    trial = sweep.next_trial()
    assert trial is not None
    sweep.before_run(0)
    assert journal.durable_seq == 2
    assert (trial.uid, trial.folder, trial.config) == ("s-1/0", "/sweep/0", {**CONFIG, "epochs": 5, "x": 0})
    assert events[1].event == Suggested(
        params={"x": 0}, config={**CONFIG, "epochs": 5, "x": 0}, config_index=0, repeat=0
    )


def test_the_value_is_the_best_epoch(journal: Journal, events: list[Entry]) -> None:
    sampler = Listed()
    sweep = conductor(journal, sampler)
    sweep.next_trial()
    sweep.on_started(0)
    sweep.on_report(0, report("completed", 0.5, 0.9, 0.7, index=0, metrics={"test/accuracy": 0.8}))
    ended = terminals(events)[0]
    assert (ended["state"], ended["value"], ended["best_epoch"], ended["epoch"]) == ("completed", 0.9, 2, 3)
    assert ended["metrics"] == {"test/accuracy": 0.8}
    assert sampler.told == [(0, 0.9)]


def test_a_trial_that_the_scheduler_ends_is_stopped(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed(), scheduler=Below(0.3))
    sweep.next_trial()
    assert sweep.on_report(0, report("running", 0.2, index=0)) is Decision.STOP
    assert terminals(events)[0]["state"] == "stopped"
    assert best_of(sweep)[1] == 0.2


def test_nothing_after_the_end_counts(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed())
    sweep.next_trial()
    sweep.on_report(0, report("completed", 0.5, index=0))
    sweep.on_report(0, report("completed", 0.99, index=0))
    assert len(terminals(events)) == 1
    assert sweep.totals == {State.COMPLETED: 1}


def test_the_health_of_an_initialization_is_recorded_once_also_where_no_epoch_is(
    journal: Journal, events: list[Entry]
) -> None:
    sweep = conductor(journal, Listed())
    health = {"verdict": "exploding", "layer": "fc6", "signal": "outputs", "ratio": None}
    sweep.next_trial()
    sweep.on_report(0, report("running", 0.5, init_health=health))
    sweep.on_report(0, report("running", init_health=health))
    sweep.next_trial()
    sweep.on_report(1, report("diverged", init_health=health, index=1))
    told = [(entry.trial, entry.event.init_health) for entry in events if isinstance(entry.event, Reported)]
    assert told == [(0, health), (1, health)]
    assert sweep.trials[1].init_health == health


def test_an_epoch_is_reported_once(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed())
    sweep.next_trial()
    sweep.on_report(0, report("running", 0.1, 0.2, index=0))
    sweep.on_report(0, report("running", 0.1, 0.2, 0.3, index=0))
    epochs = [epoch["epoch"] for entry in events if isinstance(entry.event, Reported) for epoch in entry.event.epochs]
    assert epochs == [1, 2, 3]


def test_reports_of_an_earlier_attempt_change_nothing(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed())
    sweep.next_trial()
    sweep.on_started(0)
    assert sweep.on_death(0, "killed") == 2
    sweep.on_report(0, report("completed", 0.9, index=0))
    assert terminals(events) == {}
    sweep.on_started(0)
    sweep.on_report(0, report("completed", 0.4, index=0, attempt=2))
    assert terminals(events)[0]["value"] == 0.4
    assert [event.attempt for event in events if event.kind == "started"] == [1, 2]


def test_a_worker_that_retries_by_itself_begins_a_new_attempt(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed())
    sweep.next_trial()
    sweep.on_started(0)
    sweep.on_report(0, report("running", 0.1, index=0, retrying=True, reason="ValueError: x", error="trace"))
    assert [event.kind for event in events] == [
        "sweep_opened",
        "suggested",
        "started",
        "reported",
        "retrying",
        "started",
    ]
    assert sweep.trials[0].attempt == 2


def test_diverged_trials_are_never_best_and_the_sampler_hears_the_worst_value(journal: Journal) -> None:
    sampler = Listed()
    sweep = conductor(journal, sampler, limit=5)
    for values in ([0.4], [0.7]):
        trial = sweep.next_trial()
        assert trial is not None
        sweep.on_report(trial.index, report("completed", *values, index=trial.index))
    trial = sweep.next_trial()
    assert trial is not None
    sweep.on_report(trial.index, report("diverged", 0.99, index=trial.index, reason="loss is nan"))
    assert sampler.told == [(0, 0.4), (1, 0.7), (2, 0.4)]
    assert best_of(sweep)[0] == 1


def test_failed_trials_tell_the_sampler_nothing(journal: Journal, events: list[Entry]) -> None:
    sampler = Listed()
    sweep = conductor(journal, sampler)
    sweep.next_trial()
    sweep.on_lost(0, "Traceback\nRuntimeError: boom")
    assert sampler.told == [(0, None)]
    assert terminals(events)[0]["reason"] == "RuntimeError: boom"


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 0)])
def test_ties_go_to_the_lower_index(journal: Journal, mode: str, best: int) -> None:
    sweep = conductor(journal, Listed(), limit=4, concurrent=4, mode=mode)
    for _ in range(4):
        sweep.next_trial()
    for index, value in ((3, 0.1), (2, 0.8), (1, 0.8), (0, 0.1)):
        sweep.on_report(index, report("completed", value, index=index))
    assert best_of(sweep)[0] == best


def test_a_space_with_fewer_configurations_ends_the_sweep(journal: Journal) -> None:
    sweep = conductor(journal, Listed(size=1), limit=10)
    assert sweep.next_trial() is not None
    assert sweep.next_trial() is None
    assert sweep.no_more
    assert not sweep.done
    sweep.on_report(0, report("completed", 0.5, index=0))
    assert sweep.done


def test_what_runs_when_time_is_up_is_cancelled_with_its_value(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed(), limit=10)
    for _ in range(2):
        sweep.next_trial()
    sweep.on_report(0, report("running", 0.3, index=0))
    sweep.cancel_live("time budget")
    ended = terminals(events)
    assert [(ended[i]["state"], ended[i]["value"]) for i in (0, 1)] == [("cancelled", 0.3), ("cancelled", None)]
    assert sweep.done


def repeated(journal: Journal, sampler: Sampler, *, judged: bool, limit: int = 2, new: bool = True) -> Conductor:
    made = Conductor(
        record=SweepRecord(),
        journal=journal,
        sampler=sampler,
        scheduler=Below(0.0),
        limit=limit,
        configure=lambda params: {**CONFIG, "seed": 10, **params},
        folder=lambda index: f"/sweep/{index}",
        concurrent=1,
        repeat=3,
        seed_of=lambda seed, repeat: seed + repeat,
        rungs=[1] if judged else [],
    )
    if new:
        journal.append(opening())
    return made


def run_all(sweep: Conductor, value_of: dict[int, tuple[str, float]]) -> list[tuple[int, int, int]]:
    """Runs trials of two epochs one at a time, with one value each; (index, x, seed) of each."""
    ran = []
    while (trial := sweep.next_trial()) is not None:
        ran.append((trial.index, trial.params["x"], trial.config["seed"]))
        state, value = value_of[trial.index]
        if sweep.on_report(trial.index, report("running", value, index=trial.index)) is Decision.CONTINUE:
            sweep.on_report(trial.index, report(state, value, first=2, index=trial.index))
    assert sweep.done
    return ran


def test_each_configuration_runs_with_every_seed_and_the_sampler_hears_the_mean(journal: Journal) -> None:
    sampler = Listed()
    sweep = repeated(journal, sampler, judged=False)
    values = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.9, 4: 0.1, 5: 0.2}
    ran = run_all(sweep, {index: ("completed", value) for index, value in values.items()})
    assert ran == [(0, 0, 10), (1, 0, 11), (2, 0, 12), (3, 1, 10), (4, 1, 11), (5, 1, 12)]
    assert sampler.told == [(0, pytest.approx(0.6)), (1, pytest.approx(0.4))]
    (best, other) = sweep.record.summaries()
    assert (best["trial"], best["value"], best["spread"], best["repeats"]) == (
        0,
        pytest.approx(0.6),
        pytest.approx(0.1),
        3,
    )
    assert other["trial"] == 3


def test_the_other_seeds_run_only_where_the_first_survives(journal: Journal) -> None:
    sampler = Listed()
    sweep = repeated(journal, sampler, judged=True)
    outcomes = {0: ("completed", -0.9), 1: ("completed", 0.5), 2: ("completed", 0.6), 3: ("diverged", 0.1)}
    ran = run_all(sweep, outcomes)
    assert ran == [(0, 0, 10), (1, 1, 10), (2, 1, 11), (3, 1, 12)]
    assert [sweep.is_judged(index) for index in range(4)] == [True, True, False, False]
    assert sweep.trials[0].state is State.STOPPED
    assert sampler.told == [(0, -0.9), (1, pytest.approx((0.5 + 0.6 - 0.9) / 3))]
    assert sweep.record.summaries()[0]["trial"] == 1


def test_a_used_up_sampler_keeps_no_seed_from_running(journal: Journal) -> None:
    sweep = repeated(journal, Listed(size=1), judged=True, limit=5)
    first = sweep.next_trial()
    assert first is not None
    assert repeated_after(sweep, 0) == [11, 12]


def repeated_after(sweep: Conductor, index: int) -> list[int]:
    """The seeds of the trials that follow once the trial has completed; the sampler was asked for another one before."""
    assert sweep.next_trial(ahead=1) is None
    sweep.on_report(index, report("completed", 0.5, index=index))
    following = [sweep.next_trial(ahead=1), sweep.next_trial(ahead=1)]
    return [trial.config["seed"] for trial in following if trial is not None]


@pytest.mark.parametrize("judged", [False, True])
def test_replayed_at_any_event_it_decides_what_it_would_have(tmp_path: Path, judged: bool) -> None:
    outcomes = {i: ("diverged" if i % 5 == 4 else "completed", 0.1 * i * (-1 if i % 4 == 3 else 1)) for i in range(40)}
    journal = Journal(tmp_path / JOURNAL, create=True)
    heard: list[Entry] = []
    journal.subscribe(heard.append)
    sampler = Listed()
    whole = run_all(repeated(journal, sampler, judged=judged, limit=4), outcomes)
    journal.close()
    for cut in range(2, len(heard)):
        again = Journal(tmp_path / f"{cut}.sqlite", create=True)
        other = Listed()
        sweep = repeated(again, other, judged=judged, limit=4, new=False)
        sweep.recall(heard[:cut])
        rest = run_all(sweep, outcomes)
        done = [trial.index for trial in sweep.record.trials.values()]
        assert done == [index for index, _, _ in whole], cut
        assert rest == whole[len(whole) - len(rest) :], cut
        assert other.told == sampler.told, cut
        again.close()


def test_more_seeds_of_single_configurations_follow_in_turn_and_the_sampler_hears_nothing_of_them(
    tmp_path: Path,
) -> None:
    outcomes = {index: ("completed", 0.1 * (index % 7)) for index in range(40)}
    first = Journal(tmp_path / "first.sqlite", create=True)
    heard: list[Entry] = []
    first.subscribe(heard.append)
    sampler = Listed()
    run_all(repeated(first, sampler, judged=False, limit=3), outcomes)
    first.close()
    told = [*sampler.told]
    for cut in range(5):  # the driver dies after so many further events
        journal = Journal(tmp_path / f"{cut}.sqlite", create=True)
        journal.subscribe(heard.append)
        other = Listed()
        sweep = repeated(journal, other, judged=False, limit=3, new=False)
        sweep.recall(heard)
        sweep.deepen(sweep.record.repeats_of or {2: 5, 0: 4})
        assert sweep.record.count(3, 3).planned == 9 + 3 * bool(cut)
        if not cut:
            journal.append(SweepResumed(repeats_of={"2": 5, "0": 4}))
            assert sweep.record.count(3, 3).planned == 12
            assert sweep.record.count(3, 3).repeats_due == 3
        trial = sweep.next_trial()
        if trial is None:
            break
        sweep.on_started(trial.index)
        sweep.on_report(trial.index, report("completed", 0.9, index=trial.index, attempt=trial.attempt))
        assert other.told == told
        journal.close()
    ran = [(trial.config_index, trial.repeat, trial.config["seed"]) for trial in sweep.record.trials.values()][9:]
    assert ran == [(0, 3, 13), (2, 3, 13), (2, 4, 14)]
    assert sweep.done
    assert cut == 3


def test_repeats_that_are_none_are_refused() -> None:
    for wrong in ({"x": 3}, {"-1": 3}, {"03": 3}, {"٣": 3}, {"9" * 5000: 3}, {"0": 1_001}, {"0": -1}, {"0": "4"}):
        with pytest.raises(ValueError, match="repeats_of"):
            SweepResumed(repeats_of=wrong).check()  # type: ignore[arg-type]
    SweepResumed(repeats_of={"0": 1_000}).check()


def test_attempts_go_on_where_the_last_driver_was_and_its_workers_change_nothing(journal: Journal) -> None:
    sweep = conductor(journal, Listed(), limit=2, concurrent=1)
    first = sweep.next_trial()
    assert first is not None
    sweep.on_started(0)
    sweep.on_report(0, report("running", 0.1))
    events = list(replay(journal))
    later = conductor_without_opening(journal)
    later.recall(events)
    journal.append(SweepResumed())
    again = later.next_trial()
    assert again is not None
    assert (again.uid, again.attempt) == (first.uid, 2)
    assert again.fence > first.fence
    later.on_started(0)
    later.on_report(0, report("running", 0.9, first=2, attempt=1))
    assert later.trials[0].epoch == 1
    later.on_report(0, report("completed", 0.3, first=2, attempt=2))
    assert (later.trials[0].epoch, later.trials[0].attempts) == (2, [1, 2])
    assert later.retries_left(0) == 2


def replay(journal: Journal) -> Iterator[Entry]:
    journal.commit()
    reader = Reader(journal.path)
    yield from reader.events()
    reader.close()


def conductor_without_opening(journal: Journal) -> Conductor:
    return Conductor(
        record=SweepRecord(),
        journal=journal,
        sampler=Listed(),
        scheduler=Below(),
        limit=2,
        configure=lambda params: {**CONFIG, **params},
        folder=lambda index: f"/sweep/{index}",
        concurrent=1,
    )


def test_a_trial_that_cannot_write_stops_the_driver_and_stays_open(journal: Journal, events: list[Entry]) -> None:
    sweep = conductor(journal, Listed())
    sweep.next_trial()
    with pytest.raises(
        NotReadyError,
        match=r"trial 0 cannot write \(.* No space left on device\), and there was no room",
    ):
        sweep.on_report(0, report("running", unwritable="[Errno 28] No space left on device"))
    assert terminals(events) == {}


def test_a_report_is_shown_at_its_rung_with_the_best_value_so_far(journal: Journal) -> None:
    scheduler = Below()
    sweep = conductor(journal, Listed(), scheduler=scheduler)
    sweep.next_trial()
    answers = [
        sweep.on_report(0, report("running", 0.3)),
        sweep.on_report(0, report("running", 0.2, first=2)),
        sweep.on_report(0, report("running", 0.1, first=3)),
        sweep.on_report(0, report("completed", 0.4, 0.5, first=4)),
    ]
    assert scheduler.shown == [(0, 1, 0.3), (0, 3, 0.3)]
    assert answers == [Decision.CONTINUE] * 3 + [Decision.STOP]
    assert sweep.trials[0].state is State.COMPLETED


def test_every_rung_inside_a_report_of_other_rungs_is_shown_again(journal: Journal) -> None:
    sweep = conductor(journal, Listed())
    sweep.next_trial()
    sweep.on_report(0, report("running", 0.1, 0.3, 0.2, 0.4))
    scheduler = Below(1.0)
    later = conductor(journal, Listed(), scheduler=scheduler, new=False)
    later.recall(list(replay(journal)), same_scheduler=False)
    assert scheduler.shown == [(0, 1, 0.1), (0, 3, 0.3)]
    assert later.next_trial() is not None, "another scheduler let it go on"


def test_a_trial_that_was_stopped_when_the_driver_died_ends_before_anything_else(journal: Journal) -> None:
    sweep = conductor(journal, Listed(), scheduler=Below())
    first, second = sweep.next_trial(), sweep.next_trial()
    assert first is not None
    assert second is not None
    sweep.on_report(1, report("running", 0.1, index=1))  # below the limit of the scheduler that recalls it
    sweep.on_report(0, report("running", 0.1))
    sweep.on_report(0, report("running", 0.1, first=2))  # it went on after its rung: nobody stopped it
    sampler = Listed()
    later = conductor(journal, sampler, scheduler=Below(0.5), new=False)
    later.recall(list(replay(journal)))
    again = later.next_trial()
    assert again is not None
    assert again.index == 0
    assert later.trials[1].state is State.STOPPED
    assert sampler.told == [(1, 0.1)]


@pytest.mark.parametrize("state", ["diverged", "infeasible"])
def test_a_diverged_trial_loses_the_rung_that_it_was_heading_for_and_no_later_one(journal: Journal, state: str) -> None:
    scheduler = Below()
    sweep = conductor(journal, Listed(), concurrent=4, scheduler=scheduler)
    trials = [sweep.next_trial() for _ in range(4)]
    sweep.on_report(0, report(state, reason="loss is nan"))
    sweep.on_report(1, report("running", 0.1, index=1))
    sweep.on_report(1, report(state, 0.2, first=2, index=1, reason="loss is nan"))
    sweep.on_report(2, report("running", 0.1, index=2))
    sweep.on_report(2, report("running", 0.2, 0.3, first=2, index=2))
    sweep.on_report(2, report(state, index=2, reason="loss is nan"))
    sweep.on_lost(3, "killed")
    assert len(trials) == 4
    assert scheduler.shown == [(0, 1, None), (1, 1, 0.1), (1, 3, None), (2, 1, 0.1), (2, 3, 0.3)]
    later = conductor(journal, Listed(), scheduler=(again := Below()), new=False)
    later.recall(list(replay(journal)))
    assert again.shown == scheduler.shown


@pytest.mark.parametrize(
    "test_metrics", [{}, {"test/loss": float("nan"), "test/accuracy": 0.1}, {"test/accuracy": 1.0}]
)
def test_test_metrics_reach_neither_sampler_nor_scheduler_nor_ranking(
    journal: Journal, test_metrics: dict[str, float]
) -> None:
    """A trial with a test loss that is not finite is as good as its validation says."""
    sampler, scheduler = Listed(), Below()
    sweep = conductor(journal, sampler, scheduler=scheduler)
    for value, metrics in ((0.9, test_metrics), (0.5, {"test/loss": 0.1, "test/accuracy": 1.0})):
        trial = sweep.next_trial()
        assert trial is not None
        sweep.on_report(trial.index, report("completed", value, index=trial.index, metrics=metrics))
    assert sampler.told == [(0, 0.9), (1, 0.5)]
    assert scheduler.shown == [(0, 1, 0.9), (1, 1, 0.5)]
    assert best_of(sweep) == (0, 0.9)
    assert [row["trial"] for row in sweep.record.summaries()] == [0, 1]


def test_seeds_of_repeats_are_derived_from_both_numbers() -> None:
    """Neighbouring seeds share none."""
    seeds = {repeat_seed(seed, repeat) for seed in range(100) for repeat in range(20)}
    assert len(seeds) == 2_000
    assert [repeat_seed(seed, 0) for seed in (0, 7, 2**32 - 1)] == [0, 7, 2**32 - 1]
    assert all(0 <= repeat_seed(2**32 - 1, repeat) < 2**32 for repeat in range(1_000))
    assert [repeat_seed(7, repeat, rules=1) for repeat in range(3)] == [7, 8, 9], "a sweep begun under the first rules"
