"""Parameters, YAML and Markdown of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.analysis.findings import findings
from orchestrator.journal.record import read_sweep
from orchestrator.stores.runs import MAX_TAG_LENGTH, safe_name
from orchestrator.tracking.describe import description, note, to_yaml
from orchestrator.tracking.spelling import MAX_PARAMS, few_params
from tests.simulated import simulated_sweep


def test_yaml_is_read_as_it_was_written() -> None:
    value: dict[str, Any] = {
        "lr": 1e-05,
        "tiny": 1.5e-300,
        "huge": 1e22,
        "epochs": 3,
        "flag": True,
        "none": None,
        "text": "on",
        "number": "1e-5",
        "unicode": 'é "quoted" \U0001f600\n\ttwo lines: # no comment',
        "on": "a key that YAML 1.1 takes for true",
        "a key: with a colon": [1, 2.0, "x", None, {"deep": 1e-05}],
        "model": {"norm": {}, "sizes": [], "deep": {"er": {"est": -0.0}}},
        "": 1,
    }
    assert yaml.safe_load(to_yaml(value)) == value


def test_before_the_third_rules_searched_keys_come_first_and_fixed_ones_fill_up() -> None:
    config = {
        "choices": {"data": "digits", "model": "mlp", "norm": "default"},
        "epochs": 5,
        "batch_size": 32,
        "seed": 0,
        "optimizer": {"_target_": "x.sgd", "lr": 0.1, "nesterov": False},
        "model": {"_target_": "x.mlp", **{f"argument{index}": index for index in range(30)}},
    }
    params = few_params({"optimizer.lr": 0.1, "model": "mlp"}, config)
    assert list(params)[:7] == ["optimizer.lr", "model", "data", "epochs", "batch_size", "seed", "optimizer.nesterov"]
    assert params["optimizer.nesterov"] == "false"
    assert len(params) == MAX_PARAMS


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("val/accuracy", "val/accuracy"),
        ("val@[1]", "val__1_"),
        ("../x", "_../x"),
        ("a//b", "a/_/b"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_made_such_that_mlflow_takes_them(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_the_description_asks_the_question_and_fits_a_tag() -> None:
    opened = {
        "metric": "val/loss",
        "mode": "min",
        "trials": 16,
        "folder": "/runs/x",
        "config": {"choices": {"data": "digits", "norm": "batch"}, "epochs": 5},
        "space": [
            {"key": "norm", "domain": "choice(batch, group) | x", "condition": None},
            {"key": "lr", "domain": "0 to 1", "condition": "optimizer=sgd"},
            {"key": "lr", "domain": "0 to 2", "condition": "optimizer=adam"},
        ],
        "sampler": {"_target_": "x.random.Random"},
        "scheduler": {"_target_": "x.NoScheduler"},
        "environment": {"command": ["orchestrator", "launch"], "torch": "2.15.0"},
    }
    text = description(opened)
    assert text.startswith("Which `norm`, `lr` give the lowest `val/loss`?")
    assert "| `norm` | `choice(batch, group) \\| x` |  |" in text
    assert "data `digits` · 16 trials · 5 epochs · sampler `random` · scheduler `none`" in text
    assert "```\norchestrator launch\n```" in text
    assert "| torch | 2.15.0 |" in text
    assert len(description(opened | {"folder": "x" * 10_000})) == MAX_TAG_LENGTH


def test_a_resumed_sweep_says_what_was_given_anew_and_the_best_over_seeds() -> None:
    opened = {
        "metric": "val/accuracy",
        "folder": "/runs/s",
        "trials": 5,
        "resumes": [{}, {"trials": [3, 5], "max_concurrent": [None, 1]}],
    }
    best = {"trial": 3, "value": 0.75, "spread": 0.0123, "repeats": 3, "params": {"norm": "batch"}}
    text = description(opened, {"reason": "finished", "totals": {"completed": 6}, "seconds": 2, "best": best})
    assert "Resumed 2 times.\n\n- resume 2: `trials` was 3, is 5\n- resume 2: `max_concurrent` was null, is 1" in text
    assert "trial 3, `val/accuracy` = 0.75 (mean of 3 seeds, standard deviation 0.012), with `norm=batch`" in text


def test_no_password_reaches_the_description() -> None:
    command = ["orchestrator", "launch", "tracking.uri=http://admin:hunter@2@host:5000"]
    text = description({"metric": "val/accuracy", "folder": "/sweep", "environment": {"command": command}})
    assert "tracking.uri=http://***@host:5000" in text
    assert "hunter" not in text


def test_the_end_holds_question_answer_margin_what_mattered_and_what_failed(tmp_path: Path) -> None:
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=120, epochs=6)
    record = read_sweep(folder)
    text = note(record, folder, record.closed, findings(record, folder)).text
    assert text is not None
    parts = [
        "Which `optimizer`",
        "**Best:** trial ",
        "**Margin:** ",
        "**What mattered for being among the best:** optimizer.lr ",
    ]
    parts += ["| choice | n | best | median | diverged |", "**What failed:**", "diverged: train/loss is nan at step 37"]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert "`norm=batch`" in text


def test_a_hostile_sweep_forms_no_markup(tmp_path: Path) -> None:
    """Read by an independent parser: no tag but those of our own headings, tables and code."""
    from markdown_it import MarkdownIt

    evil = "<script>alert(1)</script> | ` [x](javascript:1)\n\n# h"
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=40, epochs=3)
    record = read_sweep(folder)
    for trial in record.trials.values():
        trial.params[evil] = evil if trial.index % 2 else "other"
        trial.reason = evil
    assert record.opening is not None
    record.opening = replace(
        record.opening, metric=evil, space=[{"key": evil, "domain": evil, "condition": evil}], environment={evil: evil}
    )
    text = note(record, folder, record.closed, findings(record, folder)).text
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(str(text))
    for tag in ("<script", "<a ", "<h1", "<img"):
        assert tag not in rendered
