"""Lines that fit a terminal: what matters most stays whole, the rest is cut with an ellipsis, and nothing wraps."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.base.secrets import redact
from orchestrator.base.text import visible

LEAST_NAME = 24
"""A name keeps at least so many columns before what stands beside it gives way."""


def columns(names: Sequence[str], cells: Sequence[Sequence[str]], width: int, sure: int) -> list[str]:
    """Lines in columns: the name, then the first `sure` cells, then as many of the others as there is room for.

    Names are cut where they are long; columns are those of the terminal, in which a Chinese letter takes two.
    """
    from rich.cells import cell_len, set_cell_size

    if not names:
        return []
    names = [clean(name).strip() for name in names]
    cells = [[clean(cell) for cell in line] for line in cells]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    longest = max(map(cell_len, names))
    shown = sure
    while shown < len(widths) and _wide(widths[: shown + 1]) + min(longest, LEAST_NAME) <= width:
        shown += 1
    of_name = min(longest, max(width - _wide(widths[:shown]), 1))
    lines = []
    for name, line in zip(names, cells, strict=True):
        padded = [set_cell_size(fitted(name, of_name), of_name)]
        padded += [set_cell_size(cell, wide) for cell, wide in zip(line, widths[:shown], strict=False) if wide]
        lines.append(fitted("  ".join(padded).rstrip(), width))
    return lines


def _wide(widths: Sequence[int]) -> int:
    """What columns of these widths take beside a name."""
    return sum(wide + 2 for wide in widths if wide)


def fitted(text: str, width: int) -> str:
    """The text in at most `width` columns, cut with an ellipsis where it is longer."""
    from rich.cells import cell_len, set_cell_size

    text = clean(text)
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def wrapped(parts: Sequence[str], width: int, between: str = ", ") -> list[str]:
    """The parts on as few lines as hold them, each line cut where one part alone is longer."""
    from rich.cells import cell_len

    lines: list[str] = []
    for part in map(clean, parts):
        if lines and cell_len(lines[-1] + between + part) <= width:
            lines[-1] += between + part
        else:
            lines.append(part)
    return [fitted(line, width) for line in lines]


def clean(text: str) -> str:
    """On one line, without credentials and without what would act on the terminal."""
    return visible(redact(text)).replace("\n", " ").replace("\t", " ")


def clock(seconds: float) -> str:
    """`0:42`, `12:05`, `1:02:03`."""
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
