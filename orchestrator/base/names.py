"""What a sweep may be called, and the folder name that is made from it."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 100
RULE = f"must be 1 to {MAX_LENGTH} letters, digits, '_', '-' or '.', of which the first is a letter or digit"


def check_name(name: str) -> str | None:
    """Why `name` cannot be a sweep's name, or None where it can; letters of every script are allowed."""
    if name != unicodedata.normalize("NFC", name):
        return "is written with combining characters (NFD) that look like others; type it in composed form (NFC)"
    if not 1 <= len(name) <= MAX_LENGTH or not re.fullmatch(r"[^\W_][\w.-]*", name):
        return RULE
    return None


def slug(name: str) -> str:
    """`name` in lower-case ASCII, fit for a folder on any file system; not unique, so an id has to follow it."""
    return in_ascii(name) or "sweep"


def in_ascii(name: str) -> str:
    """What of `name` can be written in lower-case ASCII; "" where nothing can."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_.-]+", "-", plain).strip("-_.")[:60]
