"""`orchestrator diagnose trajectories`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.base import errors
from tests.browser import browser, console_errors, needs_browser
from tests.diagnosis.conftest import Diagnose
from tests.reports.test_browser import PICTURES, draw_all
from tests.reports.test_page import Parsed


def test_steps_of_each_method_as_a_table_and_a_page(diagnose: Diagnose) -> None:
    code, out, _ = diagnose("trajectories")
    assert code == errors.EXIT_OK
    rows = {line.split("  ")[0]: line.split()[-5:] for line in out.splitlines()[3:11]}
    assert rows["gradient descent"][:3] == ["14", "14", "-"]
    assert rows["RMSprop"][1] == "86"
    assert "normal noise of standard deviation 1 in each coordinate of the gradient, 20 ways of 300 steps" in out
    parsed = Parsed(Path("trajectories.html").read_text())
    assert parsed.data["trials"]["name"] == [*rows]
    assert parsed.data["trials"]["s1"][0] == 14


def test_another_learning_rate(diagnose: Diagnose) -> None:
    code, out, _ = diagnose("trajectories", "--rate", "0.1", "--json")
    assert code == errors.EXIT_OK
    found = json.loads(out)
    assert found["rate"] == 0.1
    descent = next(way for way in found["ways"] if way["surface"] == "quadratic, l = 16")
    assert descent["steps"] is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--rate", "0"], "--rate=0.0: must be above 0"), (["digits/0"], "unrecognized arguments: digits/0")],
)
def test_what_is_refused(diagnose: Diagnose, words: list[str], told: str) -> None:
    code, _, err = diagnose("trajectories", *words)
    assert code == errors.EXIT_BAD_INPUT
    assert told in err


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_is_drawn_without_an_error(diagnose: Diagnose, dark: bool, tmp_path: Path) -> None:
    assert diagnose("trajectories", "--output", "page.html")[0] == errors.EXIT_OK
    with browser(tmp_path / "profile", offline=True, width=1300, dark=dark) as driver:
        driver.get((tmp_path / "page.html").as_uri())
        draw_all(driver)
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 300] == []
        assert console_errors(driver) == []
        table = "const box = document.querySelector('#trials .scroll'); return box.scrollWidth - box.clientWidth"
        assert driver.execute_script(table) <= 0
