"""Names of other libraries for the weights of our networks, so that their files can be read and their networks compared.

A family's file ends with its tables, by the name of the function that builds the network:
`FOREIGN = {"resnet": {"torchvision": by_rules(...), "timm": by_rules(...)}}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from torch import nn

Table = Callable[[nn.Module], dict[str, str]]
"""A network of ours -> for each entry of its state dict the name of the same tensor in the other library."""

Replacement = str | Callable[[re.Match[str]], str]


def by_rules(*rules: tuple[str, Replacement]) -> Table:
    """The table in which each name follows from the first rule, (regular expression, replacement), that matches all of it.

    A name that no rule matches stays as it is.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]  # more than `re` remembers
    return lambda model: {name: renamed(name, compiled) for name in model.state_dict()}


def renamed(name: str, rules: Iterable[tuple[str | re.Pattern[str], Replacement]]) -> str:
    """What the first of the rules that matches all of a name makes of it."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return name


def tables(function: Callable[..., Any]) -> Mapping[str, Table]:
    """Library -> table, of the family whose networks `function` builds; empty where there are none."""
    found: Mapping[str, Mapping[str, Table]] = getattr(import_module(function.__module__), "FOREIGN", {})
    return found.get(function.__name__, {})


def same_names(names: Iterable[str], foreign: Iterable[str]) -> bool:
    """Whether a table's foreign names are those of a file, but for counters that files leave out."""
    counters = "num_batches_tracked"
    return {name for name in names if counters not in name} <= set(foreign)
