"""The kinds of events: what is written, what is read of journals of other versions, and what is refused."""

from __future__ import annotations

import pytest

from orchestrator.base.records import State
from orchestrator.journal.events import (
    KINDS,
    Reported,
    Started,
    Suggested,
    SweepClosed,
    SweepOpened,
    SweepResumed,
    Terminal,
    UnknownKindError,
    event_from,
)
from tests.synthetic import CONFIG


def test_the_kinds_are_those_of_format_1() -> None:
    of_sweep = {"sweep_opened", "sweep_resumed", "sweep_closed", "published"}
    of_trials = {"suggested", "started", "reported", "retrying", "terminal"}
    assert set(KINDS) == of_sweep | of_trials
    assert {kind for kind, one in KINDS.items() if not one.of_trial} == of_sweep
    assert all(one.kind == kind for kind, one in KINDS.items())


def test_what_every_journal_of_format_1_holds_is_required_and_nothing_else() -> None:
    assert {kind: one.required() for kind, one in KINDS.items()} == {
        "sweep_opened": {"uid", "name", "metric", "mode", "trials", "folder", "plan", "tracking"},
        "suggested": {"params", "config"},
        "started": set(),
        "reported": {"epochs"},
        "retrying": {"reason"},
        "terminal": {"state", "epoch", "value", "best_epoch", "metrics", "artifacts"},
        "sweep_resumed": set(),
        "sweep_closed": {"reason", "totals", "best"},
        "published": {"run", "key", "sha256"},
    }


def test_the_keys_on_disk_are_the_fields() -> None:
    assert Suggested({"lr": 0.1}, {"epochs": 3}, 2, 1).to_data() == {
        "params": {"lr": 0.1}, "config": {"epochs": 3}, "config_index": 2, "repeat": 1, "judged": False,
    }  # fmt: skip
    assert Terminal(State.STOPPED, 4, 0.5, 3, {}, []).to_data() == {
        "state": "stopped", "epoch": 4, "value": 0.5, "best_epoch": 3, "metrics": {}, "artifacts": [], "reason": None,
        "error": None, "divergence": None,
    }  # fmt: skip


def test_the_first_configuration_of_a_sampler_keeps_its_key_on_disk() -> None:
    data = SweepResumed(first_config_index=7).to_data()
    assert data["era"] == 7
    assert "first_config_index" not in data
    assert event_from("sweep_resumed", {"era": 7}) == SweepResumed(first_config_index=7)
    assert event_from("sweep_resumed", {}) == SweepResumed()


def test_what_an_older_journal_lacks_has_its_default() -> None:
    assert event_from("suggested", {"params": {}, "config": CONFIG}, trial=5) == Suggested({}, CONFIG, 5, 0)
    assert event_from("reported", {"epochs": []}, trial=5) == Reported([])
    closed = event_from("sweep_closed", {"reason": "finished", "totals": {}, "best": None})
    assert closed == SweepClosed("finished", {}, None, seconds=None, weights=None)


def test_what_a_newer_journal_adds_is_left_out() -> None:
    assert event_from("started", {"node": "a"}, trial=0) == Started()
    assert event_from("reported", {"epochs": [], "lanes": 3}, trial=0) == Reported([])


def test_a_state_is_read_as_one() -> None:
    data = {"state": "diverged", "epoch": 1, "value": None, "best_epoch": None, "metrics": {}, "artifacts": []}
    event = event_from("terminal", data, trial=0)
    assert isinstance(event, Terminal)
    assert event.state is State.DIVERGED
    with pytest.raises(ValueError, match="'lost' is not a valid State"):
        event_from("terminal", {**data, "state": "lost"}, trial=0)


def test_a_kind_that_is_not_known_is_an_error() -> None:
    with pytest.raises(UnknownKindError, match="is of the kind 'paused', which this version does not know"):
        event_from("paused", {}, trial=0)


def test_an_event_of_the_sweep_has_no_trial_and_the_others_have_one() -> None:
    with pytest.raises(ValueError, match="names a trial"):
        event_from("sweep_resumed", {}, trial=0)
    with pytest.raises(ValueError, match="names no trial"):
        event_from("started", {})


def test_a_missing_key_is_named() -> None:
    opened = SweepOpened("s-1", "s", "val/accuracy", "max", 1, "/s", "", tracking={}).to_data()
    del opened["name"], opened["tracking"]
    with pytest.raises(ValueError, match="lacks name, tracking"):
        event_from("sweep_opened", opened)
