"""What is typed as in another tool, and what to type here."""

from __future__ import annotations

import shlex

import pytest

from orchestrator.config.foreign import list_of, option, search_of, spaced
from orchestrator.config.grammar import parse


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("loguniform(1e-4,1)", "'k=tag(log,interval(1e-4,1))'"),
        ("tune.loguniform(1e-4, 1e-1)", "'k=tag(log,interval(1e-4,1e-1))'"),
        ("scipy.stats.loguniform(1e-4, 1)", "'k=tag(log,interval(1e-4,1))'"),
        ("tune.quniform(0, 1, 0.1)", "'k=interval(0,1)'"),
        ("tune.grid_search([1, 2])", "k=1,2"),
        ("tune.choice(['a', \"b\"])", "k=a,b"),
        ("tune.randint(1, 9)", "'k=range(1,9)'"),
        ('trial.suggest_float("lr", 1e-5, 1e-1, log=True)', "'k=tag(log,interval(1e-5,1e-1))'"),
        ('trial.suggest_int("width", 8, 64)', "'k=int(interval(8,64))'"),
        ("suggest_categorical(['sgd','adam'])", "k=sgd,adam"),
    ],
)
def test_a_search_of_another_tool_has_one_here(value: str, instead: str) -> None:
    """The words are what a shell hands on, and a sweep of the grammar."""
    hint = search_of("k", value)
    assert hint == f"write  {instead}"
    (typed,) = shlex.split(instead)
    assert parse(typed).is_sweep_override()


@pytest.mark.parametrize(
    "value", ["0.1", "choice(1,2)", "interval(0,1)", "loguniform()", "f(1,2)", "x" * 9_000, "(" * 40]
)
def test_what_is_none_has_no_hint(value: str) -> None:
    assert search_of("k", value) is None


@pytest.mark.parametrize(
    ("texts", "rest", "hints"),
    [
        (["a=1", "b=2"], ["a=1", "b=2"], []),
        (["lr", "=", "0.1", "b=2"], ["b=2"], ["has spaces; write  lr=0.1"]),
        (["lr", "=0.1"], [], ["has spaces; write  lr=0.1"]),
        (["lr=", "0.1"], [], ["has spaces; write  lr=0.1"]),
        (["lr=", "b=2"], ["lr=", "b=2"], []),  # an empty value
        (["lr=interval(1,", "2)", "b=2"], ["b=2"], ["quote what has brackets or spaces:  'lr=interval(1, 2)'"]),
        (["lr=interval(1,", "b=2)"], ["lr=interval(1,", "b=2)"], []),
        (
            ["lr=tag(log,", "interval(1,", "2))"],
            [],
            ["quote what has brackets or spaces:  'lr=tag(log, interval(1, 2))'"],
        ),
        (["lr"], ["lr"], []),
        (["=", "="], ["=", "="], []),
        (["", "=1"], ["", "=1"], []),
        ([], [], []),
    ],
)
def test_overrides_that_spaces_tore_apart(texts: list[str], rest: list[str], hints: list[str]) -> None:
    left, torn = spaced(texts)
    assert left == rest
    assert [hint for _, hint in torn] == hints


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("[0.1,0.01]", "k=0.1,0.01"),
        ("(1, 2)", "k=1,2"),
        ("['a','b']", "k=a,b"),
        ("[1]", None),
        ("[[1,2],[3,4]]", None),
        ("0.1,0.2", None),
        ("[a;b,c]", None),
    ],
)
def test_a_list_where_one_value_is_wanted(value: str, instead: str | None) -> None:
    assert list_of("k", value) == (instead and f"to search its values write  {instead}")


def test_options_that_are_keys() -> None:
    assert option("--lr", "0.1") == "keys have no dashes; write  lr=0.1"
    assert option("--lr=0.1", None) == "keys have no dashes; write  lr=0.1"
    assert option("--lr", "b=1") == "keys have no dashes; write  lr=VALUE"
    assert option("--name=two words", None) == "keys have no dashes; write  'name=two words'"
    assert option("-5", None) is None
