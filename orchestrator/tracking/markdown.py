"""Text of a journal in Markdown: whatever a name or a value holds, it is shown as it is, and forms no markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 200
_SPECIAL = re.compile(r"([\\`*_\[\]#|~])")


def plain(text: str, longest: int = LONGEST) -> str:
    """Text on one line, cut if long, with everything written out that Markdown or HTML would act on."""
    text = _SPECIAL.sub(r"\\\1", _one_line(text, longest))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str, longest: int = LONGEST) -> str:
    """Text on one line, cut if long, in a fixed width; the fence is longer than any in it."""
    text = _one_line(text, longest)
    runs = [len(run) for run in re.findall("`+", text)]
    if not runs:
        return f"`{text}`" if text.strip() else "` `"
    fence = "`" * (max(runs) + 1)
    return f"{fence} {text} {fence}"


def block(text: str) -> str:
    """Lines in a fixed width."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}\n{text}\n{fence}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; a bar in one is written out, if it is not."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in line) + " |" for line in lines)


def _one_line(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."
