"""How trials ended over the searched keys."""

from __future__ import annotations

import re
from typing import Any

import pytest

from orchestrator.reports.data import Key
from orchestrator.reports.figures.stability import _axis, figure, kinds
from tests.reports.made import choice, log_number, sweep, trial

SPACE = [log_number("optimizer.lr", 1e-3, 10), choice("norm", "none", "batch")]
FACTS = {"num_classes": 10, "val": 900}


def test_what_ended_at_chance_vanished() -> None:
    data = sweep(
        trial(0, 0.9, params={"optimizer.lr": 0.1, "norm": "batch"}),
        trial(1, 0.12, params={"optimizer.lr": 0.001, "norm": "none"}),
        trial(2, 0.13, "stopped", params={"optimizer.lr": 0.002, "norm": "none"}),
        trial(3, None, "diverged", params={"optimizer.lr": 9.0, "norm": "none"}),
        trial(4, None, "failed", params={"optimizer.lr": 0.1, "norm": "none"}),
        space=SPACE,
        facts=FACTS,
    )
    assert list(kinds(data).values()) == ["completed", "vanished", "vanished", "diverged", "failed"]
    found = figure(data)
    assert found is not None
    assert found.text.startswith("Of 5 trials: 1 completed, 2 vanished, 1 diverged, 1 failed. Vanished: ")
    assert "at most 0.13" in found.text


def test_the_ticks_of_a_logarithmic_axis_lie_at_their_logarithms() -> None:
    axis = _axis(Key("lr", "k0", "number", True, "", (1e-3, 10.0)))
    assert dict(zip(axis["labels"], axis["ticks"], strict=True)) == {
        "0.001": -3.0,
        "0.01": -2.0,
        "0.1": -1.0,
        "1": 0.0,
        "10": 1.0,
    }
    narrow = _axis(Key("lr", "k0", "number", True, "", (0.015, 0.3)))
    assert narrow["labels"] == ["0.02", "0.05", "0.1", "0.2"]


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial(0, 0.9, params={"optimizer.lr": 0.1, "norm": "batch"})],
        [trial(0, None, "diverged", params={"optimizer.lr": 0.1})],
    ],
)
def test_where_nothing_went_wrong_or_there_is_one_key_there_is_no_figure(trials: list[Any]) -> None:
    space = [choice("norm", "none", "batch"), SPACE[0]] if trials and len(trials[0].params) == 2 else SPACE[:1]
    assert figure(sweep(*trials, space=space, facts=FACTS)) is None


def test_names_of_strangers_are_data_and_not_expressions() -> None:
    key = "x'] + alert(1) + ['</script>"
    data = sweep(
        trial(0, None, "diverged", params={key: "a", "norm": "none"}), trial(1, 0.5, params={key: "b", "norm": "batch"})
    )
    found = figure(data)
    assert found is not None
    expressions = re.findall(r"'(?:expr|filter|calculate|test|labelExpr)': ([\"'])(.*?)\1", repr(found.spec))
    assert expressions
    assert not [text for _, text in expressions if "alert" in text]
