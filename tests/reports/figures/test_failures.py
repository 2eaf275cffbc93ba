"""Causes, what their trials share, and what is advised."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
import scipy.stats

from orchestrator.base.records import NODE_LOST
from orchestrator.reports.data import load
from orchestrator.reports.figures.failures import (
    DIVERGED,
    TRACEBACK,
    _chance_of_higher,
    causes,
    figure,
    pattern_of,
    where,
)
from tests.reports.made import choice, log_number, sweep, trial
from tests.simulated import simulated_sweep


def test_numbers_and_addresses_make_no_two_causes() -> None:
    told = [
        trial(0, None, "diverged", reason="the loss is nan at epoch 1, step 5"),
        trial(1, None, "diverged", reason="the loss is inf at epoch 12, step 1041"),
        trial(2, None, "failed", reason="ValueError: <Thing at 0x7f3a> has -1.5e-3 of 3,000\nand more"),
        trial(3, None, "failed", reason="ValueError: <Thing at 0x10> has 2 of 4"),
        trial(4, None, "failed", error="Traceback ...\nOSError: gone"),
        trial(5, None, "failed"),
        trial(6, 0.5, retries=[NODE_LOST, NODE_LOST]),
    ]
    found = [(cause.kind, cause.pattern, cause.trials) for cause in causes(sweep(*told).record)]
    assert found == [
        ("failed", "ValueError: <Thing at #> has # of #", [2, 3]),
        ("failed", "OSError: gone", [4]),
        ("failed", "no reason is recorded", [5]),
        ("diverged", "the loss is # at epoch #, step #", [0, 1]),
        ("restarted", NODE_LOST, [6]),
    ]
    assert pattern_of("conv2d of layer3 and information 2") == "conv2d of layer3 and information #"


@pytest.mark.parametrize(
    ("state", "reason", "part"),
    [
        ("diverged", "the loss is nan at epoch 1, step 5", DIVERGED),
        ("infeasible", "out of memory: CUDA out of memory. Tried to allocate 2 GiB", "batch_size"),
        ("failed", "the worker process died", "max_concurrent"),
        ("failed", "no heartbeat and no report for 600 s", "heartbeat_timeout_s"),
        ("failed", "FileNotFoundError: No such file: 'a'", "Check the files"),
        ("failed", "KeyError: 'x'", TRACEBACK),
    ],
)
def test_each_cause_has_an_advice(state: str, reason: str, part: str) -> None:
    (cause,) = causes(sweep(trial(0, None, state, reason=reason)).record)
    assert part in cause.advice


def test_where_trials_diverged_is_told_by_the_key_that_sets_them_apart(tmp_path: Path) -> None:
    data = load(simulated_sweep(tmp_path / "sim-00000000", trials=120))
    diverged = [row["trial"] for row in data.trials if row["state"] == "diverged"]
    assert where(data, diverged).startswith("at high optimizer.lr: ")


def test_a_choice_that_most_of_them_have_is_told() -> None:
    space = [choice("norm", "none", "batch"), log_number("lr", 0.1, 1)]
    bad = [trial(place, None, "diverged", params={"norm": "none", "lr": 0.2 + place / 100}) for place in range(5)]
    good = [
        trial(9 + place, 0.5, params={"norm": ["batch", "none"][place % 2], "lr": 0.2 + place / 100})
        for place in range(6)
    ]
    assert where(sweep(*bad, *good, space=space), range(5)) == "5 of 5 with norm=none"
    assert where(sweep(*bad[:2], *good, space=space), range(2)) == ""


def test_the_chance_of_being_higher_is_scipys_u() -> None:
    a, b = [3, 1, 4, 1, 5], [2, 6, 5, 3, 5, 8]
    assert _chance_of_higher(a, b) == pytest.approx(scipy.stats.mannwhitneyu(a, b).statistic / 30)


def test_what_left_the_finite_range_first_is_counted_over_the_trials_that_diverged() -> None:
    bad = [trial(place, None, "diverged", reason="the loss is nan at epoch 1, step 5") for place in range(4)]
    layers = ["fc6", "<b>", "fc6"]
    for one, layer in zip(bad, layers, strict=False):
        one.divergence = {"epoch": 1, "step": 5, "replayed": True, "signal": "outputs", "layer": layer}
    bad[3].divergence = {"epoch": 1, "step": 5, "replayed": False}
    found = figure(sweep(*bad))
    assert found is not None
    assert found.html is not None
    assert "Not finite first: outputs of module fc6 (2), outputs of module &lt;b&gt; (1)." in found.html


def test_errors_of_strangers_are_text() -> None:
    evil = "<img src=x onerror=alert(1)>'\"\x1b[2J" + "x" * 10_000
    found = figure(sweep(trial(0, None, "failed", reason=evil), trial(1, 0.5)))
    assert found is not None
    assert found.html is not None
    assert "<img" not in found.html
    assert "\x1b" not in found.html
    assert html.escape("<img src=x onerror=alert(1)>") in found.html
    assert len(found.html) < 3000
    assert "orchestrator show s-00000000/0" in found.html


def test_a_hundred_causes_are_cut_to_the_most_frequent() -> None:
    trials = [
        trial(place, None, "failed", reason=f"Error{chr(97 + place % 26)}{chr(97 + place // 26)}: no")
        for place in range(100)
    ]
    found = figure(sweep(*trials))
    assert found is not None
    assert found.text == "Of 100 trials: 100 failed; 100 causes. The 30 most frequent are shown."


def test_where_nothing_went_wrong_there_is_no_figure() -> None:
    assert figure(sweep(trial(0, 0.5))) is None
