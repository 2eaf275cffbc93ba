"""`orchestrator diagnose lesion` and `paths` on trained trials."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.base import errors
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.diagnosis.subjects import of_trial
from orchestrator.training.diagnosis.lesions import lesioned
from orchestrator.training.predictions import read
from tests.browser import browser, console_errors, needs_browser
from tests.diagnosis.conftest import Diagnose
from tests.reports.test_browser import PICTURES, draw_all
from tests.reports.test_page import Parsed

RESIDUAL, PLAIN, MLP = "digits/1", "digits/2", "digits/0"


def test_a_plain_and_a_residual_network_side_by_side(diagnose: Diagnose, trained: Path) -> None:
    code, out, _ = diagnose("lesion", RESIDUAL, PLAIN, "--json", "--output", "l.html", "--draws", "2")
    assert code == errors.EXIT_OK
    found = json.loads(out)
    assert [*found] == ["digits-00000001/1", "digits-00000001/2"]
    for index, one in enumerate(found.values(), 1):
        stored = read(trial_folder(trained / "digits-00000001", index) / PREDICTIONS).tensors
        wrong = (stored["val_logits"].argmax(1) != stored["val_labels"]).double().mean().item()
        assert one["error"] == wrong
        assert one["residual"] == (index == 1)
        assert len(one["singles"]) == 6
        assert [several["count"] for several in one["several"]] == [1, 2, 3, 4, 5, 6]
        assert one["several"][0]["errors"] == [unit["error"] for unit in one["singles"]]
        assert [several["complete"] for several in one["several"]] == [True, False, False, False, False, True]
        assert [len(several["errors"]) for several in one["several"]] == [6, 2, 2, 2, 2, 1]
        assert all(-1 <= order["tau"] < 1 for order in one["orders"])
    parsed = Parsed(Path("l.html").read_text())
    assert parsed.data["trials"]["name"] == [f"stage1.{place}" for place in range(6)] * 2


def test_a_residual_network_loses_little_with_a_unit_and_a_plain_one_nearly_all(diagnose: Diagnose) -> None:
    """Veit et al. 2016, section 4.1: E14. The median over units, against chance of 90 %."""
    _, out, _ = diagnose("lesion", RESIDUAL, PLAIN, "--json")
    residual, plain = json.loads(out).values()
    more = [sorted(unit["error"] - one["error"] for unit in one["singles"])[3] for one in (residual, plain)]
    assert more[0] < 0.1 < 0.25 < more[1]


def test_the_test_is_not_read(trained: Path) -> None:
    with of_trial(RESIDUAL, runs_dir=trained).built() as subject:
        splits = {name: subject.data.splits[name] for name in ("train", "val")}
        blind = replace(subject, data=replace(subject.data, splits=splits))
        assert lesioned(blind, draws=1, images=50).images == 50


def test_lesions_are_told_as_tables(diagnose: Diagnose) -> None:
    code, out, _ = diagnose("lesion", RESIDUAL)
    assert code == errors.EXIT_OK
    for header in (
        "deleted unit  keeps its shape  error",
        "units deleted  sets    error (mean)",
        "pairs swapped  Kendall's tau",
    ):
        assert header in out
    rows = [line.split()[:3] for line in out.splitlines() if line.split()[1:2] == ["all"]]
    assert rows == [[str(count), "all", str(math.comb(6, count))] for count in range(1, 7)]
    assert "error of all sets of each size" in Path("lesion-digits-00000001-1.html").read_text()


def test_paths_are_told_as_a_table(diagnose: Diagnose) -> None:
    code, out, _ = diagnose("paths", RESIDUAL, "--samples", "5")
    assert code == errors.EXIT_OK
    assert "6 residual units, so 2^6 = 64 paths" in out
    assert "units  paths" in out
    assert Path("paths-digits-00000001-1.html").is_file()


def test_short_paths_carry_the_gradient(diagnose: Diagnose) -> None:
    _, out, _ = diagnose("paths", RESIDUAL, "--json")
    found = json.loads(out)
    assert found["mean"] == 3
    assert found["weighted"] < 3
    gradients = [one["gradient"] for one in found["lengths"]]
    assert gradients == sorted(gradients, reverse=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lesion", MLP], "the network has no units that can be left out"),
        (["paths", PLAIN], "the network has no residual units, so that there is one path through it"),
        (["paths", "digits"], "names a sweep; name one of its trials: digits/0"),
        (["lesion", RESIDUAL, "--draws", "0"], "--draws=0: must be at least 1"),
        (["lesion"], "the following arguments are required: NAME/7"),
    ],
)
def test_what_is_refused(diagnose: Diagnose, words: list[str], told: str) -> None:
    code, _, err = diagnose(*words)
    assert code == errors.EXIT_BAD_INPUT
    assert told in err


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("words", [("lesion", RESIDUAL, PLAIN), ("paths", RESIDUAL)])
def test_every_figure_is_drawn_without_an_error(diagnose: Diagnose, words: tuple[str, ...], tmp_path: Path) -> None:
    assert diagnose(*words, "--output", "page.html")[0] == errors.EXIT_OK
    with browser(tmp_path / "profile", offline=True, width=800, dark=True) as driver:
        driver.get((tmp_path / "page.html").as_uri())
        draw_all(driver)
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 300] == []
        assert console_errors(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
