"""Tables and sentences that fit the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.base.text import table, word

LONGEST_CELL = 20
WIDEST = 120
"""Sentences are not wider, however wide the terminal."""


def wrapped(lines: Sequence[str]) -> list[str]:
    """Sentences cut into lines that fit the terminal."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ")]


def cell(value: object) -> str:
    """A value on one line, cut if long."""
    text = "" if value is None else " ".join(word(value).split())
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 3] + "..."


def fitting(columns: Mapping[str, Sequence[str]], first: Sequence[str]) -> tuple[list[str], list[str]]:
    """The table of the columns that fit, and the names of the others. Keys lose their group before a column goes.

    Args:
        first: the columns, those first that are to stay.
    """
    width = shutil.get_terminal_size((80, 24)).columns
    heads = _short_heads(columns)
    if _width(columns, {name: name for name in columns}) <= width:
        heads = {name: name for name in columns}
    kept = dict(columns)
    for name in reversed(first):
        if _width(kept, heads) > width and len(kept) > 1:
            del kept[name]
    rows = [list(row) for row in zip(*kept.values(), strict=True)]
    return table([cell(heads[name]) for name in kept], rows), [cell(name) for name in columns if name not in kept]


def _width(columns: Mapping[str, Sequence[str]], heads: Mapping[str, str]) -> int:
    return sum(max(len(cell(heads[name])), *map(len, cells)) + 2 for name, cells in columns.items()) - 2


def _short_heads(columns: Iterable[str]) -> dict[str, str]:
    """`lr` for `optimizer.lr`, where no other column is called so."""
    last = [name.rpartition(".")[2] for name in columns]
    return {name: short if last.count(short) == 1 else name for name, short in zip(columns, last, strict=True)}
