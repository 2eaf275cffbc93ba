"""Domains: the values that a searched parameter can take. Plain data, no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("needs at least one value")
        for place, value in enumerate(self.values):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"must be finite, got {value}")
            if any(same(value, other) for other in self.values[:place]):
                raise ValueError(f"has {spell(value)} twice")
        if len(kinds := {_kind(value) for value in self.values if value is not None}) > 1:
            raise ValueError(f"mixes {' and '.join(sorted(kinds))}: {', '.join(map(spell, self.values))}")

    @property
    def size(self) -> int:
        return len(self.values)

    def from_unit(self, u: float) -> Any:
        return self.values[min(int(u * self.size), self.size - 1)]

    def contains(self, value: object) -> bool:
        return any(same(value, own) for own in self.values)

    def nearest(self, value: object) -> Any:
        """The domain's own spelling of a value that it contains: 1 for 1.0."""
        return next(own for own in self.values if same(value, own))

    def grid(self, points: int | None = None) -> Sequence[Any]:
        return self.values

    def ends(self) -> tuple[Any, ...]:
        """The values that a check has to try: all of them."""
        return self.values

    def __str__(self) -> str:
        return f"choice({', '.join(map(spell, self.values))})"

    def describe(self) -> str:
        return ", ".join(map(spell, self.values))


@dataclass(frozen=True)
class Range:
    """`start`, `start + step`, ... below `stop`, in exact decimal steps."""

    start: float
    stop: float
    step: float = 1

    def __post_init__(self) -> None:
        _check_finite(start=self.start, stop=self.stop, step=self.step)
        if self.step <= 0:
            raise ValueError(f"step must be above 0, got {self.step}")
        if self.start >= self.stop:
            raise ValueError(f"start {self.start} must be below stop {self.stop} (which is left out)")
        if self.step > self.stop - self.start:
            raise ValueError(f"step {self.step} is larger than the range from {self.start} to {self.stop}")

    @property
    def size(self) -> int:
        return math.ceil((_exact(self.stop) - _exact(self.start)) / _exact(self.step))

    @property
    def is_integer(self) -> bool:
        return isinstance(self.start, int) and isinstance(self.step, int)

    def at(self, place: int) -> float:
        """The value number `place`, from 0."""
        value = _exact(self.start) + place * _exact(self.step)
        return int(value) if self.is_integer else float(value)

    def place(self, value: float) -> int:
        """The number of the value nearest to `value`, which rounding may have moved by a hair."""
        return min(max(round((value - self.start) / self.step), 0), self.size - 1)

    def from_unit(self, u: float) -> float:
        return self.at(min(int(u * self.size), self.size - 1))

    def contains(self, value: object) -> bool:
        """Whether `value` is one of the domain's, but for the rounding of a float: 0.1 + 0.2 is 0.3."""
        if not _is_number(value):
            return False
        return abs(self.nearest(value) - value) <= max(1e-9 * self.step, 4 * math.ulp(value))

    def nearest(self, value: float) -> float:
        """The domain's own spelling of a value that it contains: 0.3 for 0.1 + 0.2."""
        return self.at(self.place(value))

    def grid(self, points: int | None = None) -> Sequence[float]:
        if self.is_integer:
            return range(int(self.start), math.ceil(self.stop), int(self.step))
        return [self.at(place) for place in range(self.size)]

    def ends(self) -> tuple[float, ...]:
        """The first and the last value."""
        return (self.at(0), self.at(self.size - 1)) if self.size > 1 else (self.at(0),)

    def __str__(self) -> str:
        return f"range({spell(self.start)}, {spell(self.stop)}, {spell(self.step)})"

    def describe(self) -> str:
        if self.size <= 12:
            return ", ".join(spell(value) for value in self.grid())
        return f"{spell(self.at(0))} to {spell(self.at(self.size - 1))} in steps of {spell(self.step)}"


@dataclass(frozen=True)
class Interval:
    """All numbers, or all integers, from `low` to `high`, both included; with `log`, each factor is equally likely."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        _check_finite(low=self.low, high=self.high)
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.low == self.high:
            raise ValueError(f"low and high are both {self.low}; write the value itself to fix it")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range needs low > 0, got {self.low}")
        if self.integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError(f"an integer range needs integer ends, got {self.low} and {self.high}")

    @property
    def size(self) -> int | None:
        return int(self.high) - int(self.low) + 1 if self.integer else None

    def from_unit(self, u: float) -> float:
        if u <= 0 or u >= 1:
            return self._inside(self.low if u <= 0 else self.high)
        half = 0.5 if self.integer else 0.0  # so that both ends are as likely as the integers between them
        low, high = self.low - half, self.high + half
        if self.log:
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            value = low + u * (high - low)
        return self._inside(value)

    def contains(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high and not (self.integer and value != int(value))

    def nearest(self, value: float) -> float:
        """The domain's own spelling of a value that it contains: 3 for 3.0 where it holds integers."""
        return self._inside(value)

    def grid(self, points: int | None = None) -> Sequence[float]:
        """`points` values evenly spaced (by factors with `log`), both ends among them; one point is the middle.

        Raises:
            ValueError: no points given and the numbers are not integers.
        """
        if points is None:
            if self.size is None:
                raise ValueError(f"a grid over {self} needs a number of points")
            return range(int(self.low), int(self.high) + 1)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        steps = [0.5] if points == 1 else [place / (points - 1) for place in range(points)]
        spaced = [low + step * (high - low) for step in steps]
        values = [math.exp(x) if self.log else x for x in spaced]
        if points > 1:
            values[0], values[-1] = self.low, self.high  # exactly: exp(log(0.001)) is not 0.001
        return list(dict.fromkeys(self._inside(value) for value in values))

    def ends(self) -> tuple[float, ...]:
        """Both ends."""
        return (self._inside(self.low), self._inside(self.high))

    def _inside(self, value: float) -> float:
        """The nearest value of the domain, which rounding may have left by a hair."""
        value = min(max(value, self.low), self.high)
        return min(max(round(value), int(self.low)), int(self.high)) if self.integer else float(value)

    def __str__(self) -> str:
        text = f"interval({spell(self.low)}, {spell(self.high)})"
        text = f"int({text})" if self.integer else text
        return f"tag(log, {text})" if self.log else text

    def describe(self) -> str:
        notes = ["integers"] * self.integer + ["log"] * self.log
        return f"{spell(self.low)} to {spell(self.high)}" + (f" ({', '.join(notes)})" if notes else "")


Domain = Choice | Range | Interval


def same(a: object, b: object) -> bool:
    """Equality that tells true from 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def encode_domain(domain: Domain) -> dict[str, Any]:
    """The domain as plain JSON."""
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(domain).items()}
    return {"kind": type(domain).__name__.lower(), **fields}


def decode_domain(encoded: Mapping[str, Any]) -> Domain:
    """The domain that `encode_domain` wrote."""
    fields = {name: value for name, value in encoded.items() if name != "kind"}
    match encoded["kind"]:
        case "choice":
            return Choice(tuple(fields["values"]))
        case "range":
            return Range(**fields)
        case "interval":
            return Interval(**fields)
        case kind:
            raise ValueError(f"unknown domain {kind!r}")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "numbers"
    return "lists" if isinstance(value, list | tuple) else "text" if isinstance(value, str) else type(value).__name__


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_finite(**numbers: float) -> None:
    for name, value in numbers.items():
        if not _is_number(value):
            raise ValueError(f"{name} must be finite, got {value}")


def _exact(number: float) -> Decimal:
    """The decimal number that was written, so that 0.1 + 0.2 is 0.3."""
    return Decimal(str(number))


def spell(value: object) -> str:
    """A value as the override grammar writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)
