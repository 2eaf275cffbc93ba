"""Plain data: what a YAML file or an override may hold, of bounded depth and size."""

from __future__ import annotations

from collections.abc import Mapping

MAX_DEPTH = 16
"""Lists and mappings within each other."""

MAX_VALUES = 100_000
MAX_INTEGER = 2**63 - 1
MAX_CHARACTERS = 10_000


def why_not_plain(value: object) -> str | None:
    """Why a value is no plain data within these bounds ("holds a set"), or None where it is."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for node in level:
            if why := _why_no_node(node):
                return why
            if isinstance(node, Mapping):
                inner += node.values()
            elif isinstance(node, list | tuple):
                inner += node
        count += len(inner)
        if count > MAX_VALUES:
            return f"holds more than {MAX_VALUES:,} values"
        if not inner:
            return None
        level = inner
    return f"is nested more than {MAX_DEPTH} deep"


def _why_no_node(node: object) -> str | None:
    """What is wrong with a value, apart from those within it."""
    if isinstance(node, Mapping):
        odd = next((key for key in node if not isinstance(key, str)), None)
        return None if odd is None and None not in node else f"has the key {odd}, which is no text; quote it"
    if isinstance(node, bool | float | list | tuple | None):
        return None
    if isinstance(node, int):
        return None if abs(node) <= MAX_INTEGER else f"holds an integer beyond {MAX_INTEGER:,}"
    if isinstance(node, str):
        return None if len(node) <= MAX_CHARACTERS else f"holds a text of more than {MAX_CHARACTERS:,} characters"
    return f"holds a {type(node).__name__}"
