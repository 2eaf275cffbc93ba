"""Credentials: taken out of what the user types, and kept out of all that is shown, recorded or passed on.

`take_out` is the way in: what the command line holds goes into the environment, where MLflow looks for it, and nothing behind it
ever sees it. `redact` is the way out: every message, every free text of a journal and every tag passes it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, unquote

USERNAME, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
"""Where MLflow's client looks for credentials."""

SECRET_VARIABLES = (
    PASSWORD,
    TOKEN,
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "RAY_AUTH_TOKEN",
)
"""Environment variables whose values are shown nowhere."""

HIDDEN = "***"
SHORTEST = 6
"""A value of fewer characters is looked for only where an address shows what it is: it may be any word."""

_SCHEME = r"\b[a-zA-Z][a-zA-Z0-9+.-]*://"
_WHOLE = re.compile(rf"({_SCHEME})([^/\s][^\n]*)@", re.DOTALL)
"""The user part of an address that fills an argument: up to its last @, whatever a password may hold."""

_USERINFO = re.compile(rf"({_SCHEME})[^/\s]\S*@")
"""The same within a text: up to the last @ of the word."""

_QUERY = re.compile(
    r"(?i)([?&;#](?!viewStateShareKey=)[\w.-]*(?:token|key|secret|passw(?:or)?d|pwd|auth|sig|signature|credentials?)[\w.-]*=)[^&;\s'\"]+"
)
"""An argument of an address by whose name it is a secret; MLflow's `viewStateShareKey` names a view of a page."""

_HEADER = re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)?\s*)[^\s'\",}]+")

_NAMED = re.compile(
    r"(?i)((?:^|[\s{,.+])(?:[\w.]*(?:passw(?:or)?d|pwd|secret|credentials?|api_?key)|(?:tracking|cluster|mlflow)[\w.]*token)"
    r"['\"]?\s*[=:]\s*)([^\s,}]+)"
)
"""A key that says that its value is a secret. (A `token` may be a layer's.)"""

_TRACKING = re.compile(r"\+*tracking\.(?!(?:uri|artifacts|experiment|required|kind|_target_)=)[^=]*=(.+)", re.DOTALL)
"""A key of the tracking settings that there is none of: who knows what its value was to be."""

_OPTION = re.compile(r"(?i)--?(?:[\w-]*(?:passw(?:or)?d?|pwd|secret|credentials?|api-?key|token)|pass|pw)")
"""An option by whose name its value is a secret; no command of ours has one."""

_BEHIND = re.compile(r"[?#].+", re.DOTALL)
"""Query and fragment of an address."""

_taken: set[str] = set()
"""What this process took out of its command line."""


def take_out(arguments: Sequence[str]) -> list[str]:
    """The arguments without credentials.

    Those of `tracking.uri` (and `--uri`) go into `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`. In any other
    argument, a mistyped key for instance, they are hidden.
    """
    bare = []
    for place, argument in enumerate(arguments):
        tracks = argument.lstrip("+").startswith(("tracking.uri=", "--uri=")) or (
            place > 0 and arguments[place - 1] == "--uri"
        )
        found = _WHOLE.search(argument)
        _remember(_values_of_query(argument))
        if place > 0 and _OPTION.fullmatch(arguments[place - 1]):
            _remember((argument,))
            bare.append(HIDDEN)
            continue
        if unknown := _TRACKING.fullmatch(argument):
            _remember((unknown[1],))
            bare.append(f"{argument[: unknown.start(1)]}{HIDDEN}")
            continue
        if found is None:
            bare.append(_hidden(argument, tracks=tracks))
            continue
        user, _, password = found[2].partition(":")
        _remember((password, unquote(password)))
        web = found[1].lower() in ("http://", "https://")
        if tracks and web:
            os.environ[USERNAME] = unquote(user)
            if password:
                os.environ[PASSWORD] = unquote(password)
        replaced = found[1] if tracks and web else f"{found[1]}{HIDDEN}@"
        rest = argument[found.end() :]
        rest = _without_query(rest) if tracks and web else rest
        bare.append(_QUERY.sub(rf"\1{HIDDEN}", argument[: found.start()] + replaced + rest))
    return bare


def _hidden(argument: str, *, tracks: bool) -> str:
    """An argument in which no address is whole, without what may be a secret in it: the value of a key of that name, a mistyped
    address up to its last @."""
    named = _NAMED.search(argument)
    if named:
        _remember((named[2],))
        argument = f"{argument[: named.start(2)]}{HIDDEN}{argument[named.end(2) :]}"
    if tracks and "@" in argument:
        key, _, value = argument.rpartition("=") if argument.count("=") == 1 else argument.partition("=")
        secret, _, rest = value.rpartition("@")
        _remember((secret.rpartition(":")[2],))
        argument = f"{key}={HIDDEN}@{rest}"
    if tracks:
        key, _, value = argument.partition("=")
        if not key.endswith("uri"):  # the address behind `--uri`
            argument = _without_query(argument)
        elif not value.startswith(("sqlite:", "file:", "/")):  # a path may hold anything
            argument = f"{key}={_without_query(value)}"
    return _QUERY.sub(rf"\1{HIDDEN}", argument)


def _without_query(address: str) -> str:
    """An address whose query and fragment are hidden: no tracking server is told by them."""
    for found in _BEHIND.finditer(address):
        _remember(part for part in re.split(r"[?#&;=]", found[0]) if len(part) >= SHORTEST)
    return _BEHIND.sub(lambda found: f"{found[0][0]}{HIDDEN}", address)


def bare_address(uri: str) -> str:
    """An address without credentials; those of a web server go into the environment, unless some are there already.

    For addresses that earlier versions recorded.
    """
    found = _WHOLE.search(uri)
    if found is None:
        return uri
    if found[2] == HIDDEN or os.environ.get(TOKEN) or os.environ.get(PASSWORD):
        return uri[: found.start()] + found[1] + uri[found.end() :]
    return take_out([f"tracking.uri={uri}"])[0].removeprefix("tracking.uri=")


def holds_credentials(uri: str) -> bool:
    """Whether the address has a user part, or a query that looks like a key."""
    return bool(_WHOLE.search(uri) or _QUERY.search(uri))


def redact(text: str) -> str:
    """The same text with every credential hidden: in addresses, in headers, and those that this process knows."""
    if "@" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    if "=" in text or ":" in text:
        text = _HEADER.sub(rf"\1{HIDDEN}", _QUERY.sub(rf"\1{HIDDEN}", text))
    for secret in _known():
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def redact_tree(value: Any) -> Any:
    """Plain data with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(item) for item in value]
    return value


def _known() -> list[str]:
    """The secrets in force in each form that a message may show them in, the longest first."""
    values = {*_taken, *(os.environ.get(name, "") for name in SECRET_VARIABLES)}
    forms = {
        form for value in values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1])
    }
    return sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)


def _remember(secrets: Iterable[str]) -> None:
    _taken.update(secret for secret in secrets if secret)


def _values_of_query(argument: str) -> list[str]:
    return [found[0].partition("=")[2] for found in _QUERY.finditer(argument)]
