"""Durations in the unit of an axis, and in two digits, which the short times of small networks need."""

from __future__ import annotations

UNITS = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)]


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a duration has at least two of it, and its seconds; seconds for what is shorter."""
    return next(((name, size) for name, size in reversed(UNITS) if seconds >= 2 * size), UNITS[0])


def duration(seconds: float) -> str:
    """`0.34 s`, `41 s`, `3.2 min`, `26 h`."""
    name, size = time_unit(seconds)
    amount = seconds / size
    return f"{amount:.0f} {name}" if amount >= 10 else f"{amount:.2g} {name}"
