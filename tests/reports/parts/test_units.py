"""Durations."""

from __future__ import annotations

import pytest

from orchestrator.reports.parts.units import duration, time_unit


@pytest.mark.parametrize(
    ("seconds", "words", "unit"),
    [
        (0, "0 s", "s"),
        (0.084, "0.084 s", "s"),
        (9.96, "10 s", "s"),
        (119, "119 s", "s"),
        (190, "3.2 min", "min"),
        (26 * 3600, "26 h", "h"),
        (50 * 3600, "2.1 d", "d"),
    ],
)
def test_two_digits_in_the_unit_of_which_there_are_two(seconds: float, words: str, unit: str) -> None:
    assert duration(seconds) == words
    assert time_unit(seconds)[0] == unit
