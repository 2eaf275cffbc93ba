"""What people type who know another tool, and what it is called here: a hint is the text to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

MULTIRUN = ("-m", "--multirun")

_LOG = "tag(log,interval({},{}))"
_SEARCHES = {
    "loguniform": _LOG,
    "log_uniform": _LOG,
    "reciprocal": _LOG,
    "logspace": _LOG,
    "qloguniform": _LOG,
    "lograndint": "tag(log,int(interval({},{})))",
    "uniform": "interval({},{})",
    "quniform": "interval({},{})",
    "linspace": "interval({},{})",
    "float": "interval({},{})",
    "suggest_float": "interval({},{})",
    "suggest_uniform": "interval({},{})",
    "suggest_loguniform": _LOG,
    "suggest_int": "int(interval({},{}))",
    "randint": "range({},{})",
    "arange": "range({},{})",
    "qrandint": "range({},{})",
}
"""Functions of other tools (Ray Tune, Optuna, SciPy, NumPy, Hydra's plugins), by their first two arguments."""

_LISTS = ("choice", "grid_search", "choices", "categorical", "suggest_categorical", "sample")
_CALL = re.compile(r"(?:\w+\.)*(\w+)\((.*)\)$", re.DOTALL)


def type_instead(key: str, value: str) -> str:
    """The words that lead to `key=value`, quoted where a shell wants it."""
    return f"write  {shlex.quote(f'{key}={value}') if needs_quotes(value) else f'{key}={value}'}"


def needs_quotes(value: str) -> bool:
    """Whether a shell would not leave it as it is."""
    return re.search(r"""[\s()'"\\;&|<>$`*?#!~{}]""", value) is not None


def search_of(key: str, value: str) -> str | None:
    """The hint for a search space that is written as in another tool; None for what is none."""
    call = _CALL.match(value.strip())
    if call is None:
        return None
    name, arguments = call[1].lower(), _arguments(call[2])
    if name in _LISTS and (values := _list(call[2])) and value.strip() != f"choice({call[2]})":
        return type_instead(key, ",".join(values))
    if name in _SEARCHES and len(arguments) >= 2:
        log = any(re.fullmatch(r"log\s*=\s*True", argument) for argument in arguments)
        numbers = [argument for argument in arguments if re.fullmatch(r"[-+.\deE_]+", argument)]
        if len(numbers) >= 2:
            if name == "logspace":  # its arguments are exponents
                numbers = [f"{10 ** min(max(float(number), -99), 99):g}" for number in numbers]
            return type_instead(key, (_LOG if log else _SEARCHES[name]).format(*numbers[:2]))
    return None


def list_of(key: str, value: str) -> str | None:
    """The hint for a list where one value is wanted: its values are searched without brackets."""
    values = _list(value)
    return f"to search its values {type_instead(key, ','.join(values))}" if len(values) > 1 else None


def _list(text: str) -> list[str]:
    inside = re.fullmatch(r"\s*[\[(]([^\[\](){}]*)[\])]\s*,?\s*", text)
    values = _arguments(inside[1]) if inside else []
    return values if all(re.fullmatch(r"""[\w.+-]+|'[\w.+-]+'|"[\w.+-]+\"""", v) for v in values) else []


def _arguments(text: str) -> list[str]:
    return [part.strip().strip("'\"") for part in text.split(",") if part.strip()]


def spaced(texts: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The overrides without those that spaces have torn apart; and those, as they were typed, each with the hint.

    `lr = 0.1` comes as three texts, `lr= 0.1` and `lr =0.1` as two, `interval(1, 2)` as two that have half of the brackets each.
    """
    rest: list[str] = []
    torn: list[tuple[str, str]] = []
    place = 0
    while place < len(texts):
        taken = _torn(texts[place:])
        if taken:
            typed = " ".join(texts[place : place + taken])
            torn.append((typed, _mended(texts[place : place + taken])))
        else:
            rest.append(texts[place])
        place += taken or 1
    return rest, torn


def _torn(texts: Sequence[str]) -> int:
    """How many texts at the beginning belong together; 0 where the first stands for itself."""
    first, *others = texts
    if others and others[0] == "=" and "=" not in first:
        return 3 if len(others) > 1 and "=" not in others[1] else 2
    if others and "=" not in first and others[0].startswith("=") and first:
        return 2
    if others and re.fullmatch(r"[\w.]+=", first) and "=" not in others[0] and not others[0].startswith("-"):
        return 2
    if "=" in first and _depth(first) > 0:
        depth = _depth(first)
        for number, text in enumerate(others, 2):
            depth += _depth(text)
            if re.match(r"[\w.]+=", text):
                return 0
            if depth == 0:
                return number
    return 0


def _depth(text: str) -> int:
    return sum(text.count(opening) - text.count(closing) for opening, closing in ("()", "[]", "{}"))


def _mended(texts: Sequence[str]) -> str:
    key, _, value = " ".join(texts).partition("=")
    if _depth(texts[0]) > 0:
        return f"quote what has brackets or spaces:  {shlex.quote(f'{key.strip()}={value.strip()}')}"
    return f"has spaces; {type_instead(key.strip(), value.strip())}"


def option(text: str, following: str | None) -> str | None:
    """The hint for an option that there is not: `--trials 5`, `--optimizer.lr=0.1`, `-m`; None where there is none.

    Args:
        following: the argument after it.
    """
    if text in MULTIRUN:
        return (
            "is not needed: a value that names several, or a range, is what is searched:  "
            "optimizer.lr=0.1,0.01  norm=batch,group  'optimizer.lr=tag(log,interval(1e-4,1))'"
        )
    found = re.fullmatch(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", text, re.DOTALL)
    if found is None:
        return None
    key, value = found[1].replace("-", "_"), found[2]
    if value is None and following is not None and not following.startswith("-") and "=" not in following:
        value = following
    return f"keys have no dashes; {type_instead(key, 'VALUE' if value is None else value)}"
