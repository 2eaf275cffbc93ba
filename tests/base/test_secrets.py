"""Credentials are taken out at the entry and hidden at the exit."""

from __future__ import annotations

import os

import pytest

from orchestrator.base.secrets import PASSWORD, USERNAME, bare_address, redact, redact_tree, take_out
from orchestrator.base.text import visible


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (USERNAME, PASSWORD, "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, "x")  # so that the end of the test puts back what was there
        monkeypatch.delenv(name)
    monkeypatch.setattr("orchestrator.base.secrets._taken", set())


@pytest.mark.parametrize(
    ("typed", "bare", "user", "password"),
    [
        ("tracking.uri=http://me:hunter22@host:5000", "tracking.uri=http://host:5000", "me", "hunter22"),
        ("tracking.uri='https://me:hunter22@host/x'", "tracking.uri='https://host/x'", "me", "hunter22"),
        ("tracking.uri=http://me:hun@ter/2:2@host", "tracking.uri=http://host", "me", "hun@ter/2:2"),
        ("tracking.uri=http://me:hunter%4022@host", "tracking.uri=http://host", "me", "hunter@22"),
        ("tracking.uri=http://me:two words@host", "tracking.uri=http://host", "me", "two words"),
        ("++tracking.uri=HTTP://me:hunter22@host", "++tracking.uri=HTTP://host", "me", "hunter22"),
        ("--uri=http://me:hunter22@host", "--uri=http://host", "me", "hunter22"),
    ],
)
def test_credentials_of_the_tracking_address_go_into_the_environment(
    typed: str, bare: str, user: str, password: str
) -> None:
    assert take_out(["launch", typed, "trials=2"]) == ["launch", bare, "trials=2"]
    assert (os.environ[USERNAME], os.environ[PASSWORD]) == (user, password)
    assert redact(f"refused: {password} is wrong") == ("refused: *** is wrong" if len(password) > 5 else "")


def test_the_address_may_follow_its_option() -> None:
    assert take_out(["dashboard", "--uri", "http://me:hunter22@host"]) == ["dashboard", "--uri", "http://host"]
    assert os.environ[PASSWORD] == "hunter22"


@pytest.mark.parametrize(
    ("typed", "hidden"),
    [
        ("trackng.uri=http://me:hunter22@host", "trackng.uri=http://***@host"),
        ("tracking.uri=postgresql://me:hunter22@host/db", "tracking.uri=postgresql://***@host/db"),
        ("tracking={uri: http://me:hunter22@host}", "tracking={uri: http://***@host}"),
        ("tracking.uri=http://host?token=hunter22", "tracking.uri=http://host?***"),
        ("tracking.uri=http://host#token=hunter22", "tracking.uri=http://host#***"),
        ("tracking.uri=http:/me:hunter22@host", "tracking.uri=***@host"),
        ("tracking.uri=//me:hunter22@host", "tracking.uri=***@host"),
        ("tracking.uri=me:hunter22@host", "tracking.uri=***@host"),
        ("tracking.password=hunter22", "tracking.password=***"),
        ("tracking.token=hunter22", "tracking.token=***"),
        ("MLFLOW_TRACKING_PASSWORD=hunter22", "MLFLOW_TRACKING_PASSWORD=***"),
        ("tracking={kind:server,password:hunter22}", "tracking={kind:server,password:***}"),
        ("+data.password=hunter22", "+data.password=***"),
        ("tracking.uri=http://host/x?a=1&api_key=hunter22", "tracking.uri=http://host/x?***"),
    ],
)
def test_anywhere_else_they_are_hidden(typed: str, hidden: str) -> None:
    assert take_out([typed]) == [hidden]
    assert PASSWORD not in os.environ
    assert redact("hunter22") == "***"


@pytest.mark.parametrize(
    "argument",
    [
        "model=resnet_cifar,wrn",
        "data.root=file:///data/photos@2024",
        "optimizer.lr=tag(log,interval(1e-4,1))",
        "a@b",
        "model.class_token=true",
    ],
)
def test_other_arguments_stay(argument: str) -> None:
    assert take_out([argument]) == [argument]


def test_a_text_shows_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, 'p"w/ 1 long')
    assert redact("GET https://me:secret@host:1/x failed") == "GET https://***@host:1/x failed"
    assert redact("http://a:p/s@s@host and http://other/x") == "http://***@host and http://other/x"
    assert redact("http://h/x?b=2&access_token=abc&c=3") == "http://h/x?b=2&access_token=***&c=3"
    assert redact("{'Authorization': 'Bearer abc.def'}") == "{'Authorization': 'Bearer ***'}"
    assert redact('raw p"w/ 1 long') == "raw ***"
    assert redact('json p\\"w/ 1 long') == "json ***"
    assert redact("quoted p%22w%2F%201%20long") == "quoted ***"
    assert redact_tree({"a": ["http://u:p@h", 3, None]}) == {"a": ["http://***@h", 3, None]}
    assert redact("plain = text: a@b, 3 * 4") == "plain = text: a@b, 3 * 4"


def test_an_address_recorded_by_an_earlier_version_loses_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bare_address("http://me:hunter22@host:1") == "http://host:1"
    assert os.environ[PASSWORD] == "hunter22"
    monkeypatch.setenv(PASSWORD, "of the user")
    assert bare_address("http://me:other@host:1") == "http://host:1"
    assert os.environ[PASSWORD] == "of the user"
    assert bare_address("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_characters_that_act_on_a_terminal_are_written_out() -> None:
    assert visible("a\x1b[31mred\x07\r\n\tü日本") == "a\\x1b[31mred\\x07\\r\n\tü日本"
    assert visible("\u202egnp.exe\x9b2J\ud800") == "\\u202egnp.exe\\x9b2J\\ud800"
