"""Root keys beyond their types, and what is derived from their descriptions."""

from __future__ import annotations

import pytest

from orchestrator.base.settings import ROOT_KEYS, described, settings_problems


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("trials", 0, "at least 1"), ("epochs", -1, "at least 1"), ("batch_size", 10**7, "at most 1,000,000"),
        ("seed", -1, "at least 0"), ("seed", 2**32, "at most 4,294,967,295"), ("max_concurrent", 0, "at least 1"),
        ("cpus_per_trial", 0, "above 0"), ("cpus_per_trial", 1.5, "whole above 1"), ("gpus_per_trial", -0.5, "at least 0"),
        ("time_budget_s", 0, "above 0"), ("max_retries", -1, "at least 0"), ("device", "gpu", "auto, cpu, cuda"),
        ("metric", "test/accuracy", "one of train/loss"), ("name", "a/b", "1 to 100 letters"),
    ],
)  # fmt: skip
def test_out_of_bounds(key: str, value: object, why: str) -> None:
    (problem,) = settings_problems({key: value})
    assert problem.key == key
    assert why in problem.why


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 2**32 - 1), ("gpus_per_trial", 0.1), ("gpus_per_trial", 2), ("device", "cuda:3"), ("name", None)],
)
def test_within_bounds(key: str, value: object) -> None:
    assert settings_problems({key: value}) == []


def test_keys_of_the_wrong_type_are_left_out() -> None:
    assert settings_problems({"trials": "many", "seed": -1}, wrong={"trials"})[0].key == "seed"


def test_mode_must_fit_the_metric() -> None:
    assert settings_problems({"metric": "val/loss", "mode": "min"}) == []
    assert "lower (mode=min)" in settings_problems({"metric": "val/loss", "mode": "max"})[0].why


def test_every_root_key_is_described_in_one_line() -> None:
    lines = described()
    assert list(lines) == [key for key in lines if key in ROOT_KEYS]
    assert lines.keys() == ROOT_KEYS.keys()
    assert all(0 < len(line) <= 110 and "\n" not in line for line in lines.values())
