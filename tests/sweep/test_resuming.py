"""What of an earlier command line stays when a sweep is resumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.base.errors import ConfigError
from orchestrator.config.plan import SweepPlan
from orchestrator.config.planning import plan
from orchestrator.config.resuming import merged, placed
from orchestrator.journal.events import Event, Suggested, SweepOpened, SweepResumed
from orchestrator.journal.file import Entry
from orchestrator.journal.record import SweepRecord
from orchestrator.sweep.resuming import checked, first_config_index

OWN = ["data=synthetic", "model.width=12", "tracking=none"]


@pytest.mark.parametrize(
    ("before", "now", "together"),
    [
        (["seed=1", "trials=4"], [], ["seed=1", "trials=4"]),
        (["seed=1", "trials=4"], ["trials=8"], ["seed=1", "trials=8"]),
        (["sampler=tpe", "sampler.startup_trials=4"], ["sampler=random"], ["sampler=random"]),
        (["sampler=tpe"], ["sampler.startup_trials=4"], ["sampler=tpe", "sampler.startup_trials=4"]),
        (["optimizer=sgd,adam", "optimizer.lr=0.1,0.2"], ["optimizer=sgd"], ["optimizer.lr=0.1,0.2", "optimizer=sgd"]),
    ],
)
def test_the_later_word_counts(before: list[str], now: list[str], together: list[str]) -> None:
    assert merged(before, now) == together


class History:
    """A sweep's events, written by hand."""

    def __init__(self, made: SweepPlan, trials: int) -> None:
        self.record = SweepRecord()
        plan = made.to_json()
        self._apply(SweepOpened("s-1", "s", "val/accuracy", "max", made.root.trials, "/sweep", plan, tracking={}))
        for index in range(trials):
            self._apply(Suggested({}, {}, index), trial=index)

    def resume(self, new: SweepPlan, **how: Any) -> dict[str, Any]:
        """Resumes with the plan and returns the changes."""
        made, changes = checked(self.record, new, **how)
        self._apply(SweepResumed(plan=made.to_json(), first_config_index=first_config_index(self.record, changes)))
        return changes

    def _apply(self, event: Event, trial: int | None = None) -> None:
        self.record.apply(Entry(self.record.last_seq + 1, 0, trial, None, event))


INTERVAL = "optimizer.lr=interval(0.1,0.2)"


def test_fewer_trials_than_there_are_means_those_that_there_are() -> None:
    """Six are not undone: a total of five would count `[6/5]`."""
    history = History(plan([*OWN, INTERVAL, "trials=8"]), trials=6)
    assert history.resume(plan([*OWN, INTERVAL, "trials=5"]), trials=5)["trials"] == [8, 6]


def test_more_trials_stay_when_the_sweep_is_resumed_again() -> None:
    made = plan([*OWN, INTERVAL, "trials=3"])
    history = History(made, trials=3)
    assert history.resume(made, more=2) == {"trials": [3, 5]}
    assert history.resume(made) == {}
    assert history.resume(plan([*OWN, INTERVAL, "trials=5", "max_concurrent=4"])) == {"max_concurrent": [None, 4]}
    assert history.resume(made, trials=9)["trials"] == [5, 9]


def test_a_new_grid_is_run_to_its_end() -> None:
    history = History(plan([*OWN, "sampler=grid", "optimizer.lr=0.1,0.2,0.3"]), trials=3)
    other = plan([*OWN, "sampler=grid", "optimizer.lr=0.3,0.4", "trials=3"])
    assert history.resume(other)["trials"] == [3, 5]
    assert first_config_index(history.record, {}) == 3
    assert history.resume(other) == {}
    assert first_config_index(history.record, {}) == 3


def test_a_smaller_space_takes_no_trials_away() -> None:
    history = History(plan([*OWN, INTERVAL, "trials=10"]), trials=3)
    assert list(history.resume(plan([*OWN, "optimizer.lr=0.1,0.2,0.3,0.4", "trials=10"]))) == ["space"]


def test_a_trial_finds_things_where_they_lie_now() -> None:
    then = plan([*OWN, INTERVAL]).base
    now = plan([*OWN, INTERVAL, "report_every_s=7", "optimizer.momentum=0.3"])
    config = placed(now, then)
    assert config["report_every_s"] == 7
    assert {key: value for key, value in config.items() if key != "report_every_s"} == {
        key: value for key, value in then.items() if key != "report_every_s"
    }


def test_what_this_version_no_longer_has_is_refused_by_name() -> None:
    """A plan of a version with a root key, and an argument of its model, that this one lacks."""
    now = plan([*OWN, INTERVAL, "trials=4"])
    with_more = {
        "settings": {**now.settings, "colour_space": "hsv"},
        "base": {**now.base, "colour_space": "hsv", "model": {**now.base["model"], "gates": 3}},
    }
    with pytest.raises(ConfigError, match="this version has no such key") as refused:
        History(replace(now, **with_more), 1).resume(now)
    lines = str(refused.value).splitlines()
    for key, value in (("colour_space", "hsv"), ("model.gates", "3")):
        (line,) = [line for line in lines if key in line]
        assert "this version has no such key; resume the sweep with the version that launched it" in line
        assert value in line
