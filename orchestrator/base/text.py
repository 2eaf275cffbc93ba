"""What people read on the terminal: a line, a duration, a table, a value in few characters."""

from __future__ import annotations

import errno
import math
import os
import re
import sys
from typing import IO

from orchestrator.base.secrets import redact

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that act on a terminal: all controls but tab and new line, and those that turn the direction of writing."""


def visible(text: str) -> str:
    """The same text with characters that would act on the terminal written out: `\\x1b`, `\\u202e`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, out: IO[str] | None = None) -> None:
    """Prints a line at once: without credentials, and with characters that the terminal cannot show, or would obey, replaced.

    Where the reader has gone (`| head`, a closed terminal), this and all later lines go nowhere: a sweep does not end with it.
    """
    out = out or sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    text = visible(redact(text))
    try:
        print(text.encode(encoding, errors="replace").decode(encoding), file=out, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # a log file on a full disk: a sweep does not end with it
            raise


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def about(seconds: float | None) -> str:
    """`about 3 min left`, no more exact than it is known; `time left ?` before anything is."""
    if seconds is None:
        return "time left ?"
    if seconds < 10:
        return "a few seconds left"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10:.0f} s left"
    minutes = seconds / 60
    if minutes < 59.5:
        return f"about {max(round(minutes), 1)} min left"
    if minutes < 5.75 * 60:
        whole = round(minutes / 10) * 10
        return f"about {whole // 60} h {whole % 60} min left" if whole % 60 else f"about {whole // 60} h left"
    hours = minutes / 60
    return f"about {round(hours)} h left" if hours < 47.5 else f"about {round(hours / 24)} days left"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Columns aligned to the left, two spaces apart."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]


def short(number: float) -> str:
    """A large number in three digits: 11.7M, 4.09G."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * factor:
            return f"{number / factor:.3g}{letter}"
    return f"{number:.3g}"


def milliseconds(value: float) -> str:
    """In two digits: 0.21, 3.4, 110."""
    return f"{value:.2g}" if not 9.95 <= value < 1e7 else f"{float(f'{value:.2g}'):.0f}"


def signed(value: float, decimals: int) -> str:
    """`+1.20`; what rounds to 0 and is none has as many decimals as it takes to see its sign: `+0.0004`."""
    if value != 0 and math.isfinite(value):
        while decimals < 8 and round(value, decimals) == 0:
            decimals += 1
    return f"{value:+z.{decimals}f}"


def word(value: object) -> str:
    """A value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
