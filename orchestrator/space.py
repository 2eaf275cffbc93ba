"""The search space: domains, parameters and the conditions under which they apply. Plain data, no library.

A configuration drawn from a space is a dict `{key: value}` that holds the active parameters only. Several parameters
may have one key with different domains (the usual learning rate of sgd and of adam), where their conditions exclude
each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
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
                raise ValueError(f"has {_word(value)} twice")
        if len(kinds := {_kind(value) for value in self.values if value is not None}) > 1:
            raise ValueError(f"mixes {' and '.join(sorted(kinds))}: {', '.join(map(_word, self.values))}")

    @property
    def size(self) -> int:
        return len(self.values)

    def from_unit(self, u: float) -> Any:
        return self.values[min(int(u * self.size), self.size - 1)]

    def contains(self, value: object) -> bool:
        return any(same(value, own) for own in self.values)

    def grid(self, points: int | None = None) -> Sequence[Any]:
        return self.values

    def ends(self) -> tuple[Any, ...]:
        """The values that a check has to try: all of them."""
        return self.values

    def __str__(self) -> str:
        return f"choice({', '.join(map(_word, self.values))})"

    def describe(self) -> str:
        return ", ".join(map(_word, self.values))


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

    def from_unit(self, u: float) -> float:
        return self.at(min(int(u * self.size), self.size - 1))

    def contains(self, value: object) -> bool:
        if not _is_number(value) or not self.start <= value < self.stop:
            return False
        place = round((value - self.start) / self.step)  # a value that went through floats may be off by a hair
        return math.isclose(self.at(place), value, rel_tol=1e-9, abs_tol=1e-9 * self.step)

    def grid(self, points: int | None = None) -> Sequence[float]:
        if self.is_integer:
            return range(int(self.start), math.ceil(self.stop), int(self.step))
        return [self.at(place) for place in range(self.size)]

    def ends(self) -> tuple[float, ...]:
        """The first and the last value."""
        return (self.at(0), self.at(self.size - 1)) if self.size > 1 else (self.at(0),)

    def __str__(self) -> str:
        return f"range({_word(self.start)}, {_word(self.stop)}, {_word(self.step)})"

    def describe(self) -> str:
        if self.size <= 12:
            return ", ".join(_word(value) for value in self.grid())
        return f"{_word(self.at(0))} to {_word(self.at(self.size - 1))} in steps of {_word(self.step)}"


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
        half = 0.5 if self.integer else 0.0  # so that both ends are as likely as the integers between them
        low, high = self.low - half, self.high + half
        if self.log:
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            value = low + u * (high - low)
        return self._inside(value)

    def contains(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high and not (self.integer and value != int(value))

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
        if points > 1:
            spaced[-1] = high
        return list(dict.fromkeys(self._inside(math.exp(x) if self.log else x) for x in spaced))

    def ends(self) -> tuple[float, ...]:
        """Both ends."""
        return (self._inside(self.low), self._inside(self.high))

    def _inside(self, value: float) -> float:
        """The nearest value of the domain, which rounding may have left by a hair."""
        value = min(max(value, self.low), self.high)
        return min(max(round(value), int(self.low)), int(self.high)) if self.integer else float(value)

    def __str__(self) -> str:
        text = f"interval({_word(self.low)}, {_word(self.high)})"
        text = f"int({text})" if self.integer else text
        return f"tag(log, {text})" if self.log else text

    def describe(self) -> str:
        notes = ["integers"] * self.integer + ["log"] * self.log
        return f"{_word(self.low)} to {_word(self.high)}" + (f" ({', '.join(notes)})" if notes else "")


Domain = Choice | Range | Interval


@dataclass(frozen=True)
class Condition:
    """Holds where the parameter `key` is active and has one of `values`."""

    key: str
    values: tuple[Any, ...]

    def holds(self, value: object) -> bool:
        return any(same(value, own) for own in self.values)

    def __str__(self) -> str:
        return f"{self.key}={','.join(map(_word, self.values))}"


@dataclass(frozen=True)
class Parameter:
    """A searched key with its domain; active where all its conditions hold."""

    key: str
    domain: Domain
    conditions: tuple[Condition, ...] = ()

    def active(self, params: Mapping[str, Any]) -> bool:
        return all(c.key in params and c.holds(params[c.key]) for c in self.conditions)

    @property
    def condition(self) -> str | None:
        """The conditions in words, or None."""
        return " and ".join(map(str, self.conditions)) or None

    def describe(self) -> str:
        """`optimizer.lr: 0.0001 to 1 (log), when optimizer=sgd`."""
        return f"{self.key}: {self.domain.describe()}" + (f", when {self.condition}" if self.conditions else "")


@dataclass(frozen=True)
class Space:
    """Parameters in an order in which each stands after those that its conditions name.

    Raises:
        ValueError: conditions that go round in a circle or name no parameter, or a key twice at the same time.
    """

    parameters: tuple[Parameter, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(_ordered(self.parameters)))
        for place, parameter in enumerate(self.parameters):
            for other in self.parameters[:place]:
                if other.key == parameter.key and not _exclusive(other, parameter):
                    raise ValueError(f"{parameter.key} is searched twice: {other.describe()}; {parameter.describe()}")

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The searched keys, each once."""
        return tuple(dict.fromkeys(parameter.key for parameter in self.parameters))

    @property
    def is_finite(self) -> bool:
        return all(parameter.domain.size is not None for parameter in self.parameters)

    def name(self, parameter: Parameter) -> str:
        """A name that no other parameter of the space has: the key, with the condition where the key occurs twice."""
        alone = sum(other.key == parameter.key for other in self.parameters) == 1
        return parameter.key if alone else f"{parameter.key} ({parameter.condition})"

    def from_unit(self, u: Sequence[float]) -> dict[str, Any]:
        """The configuration at a point of the unit cube: a coordinate in [0, 1) for each parameter, active or not."""
        if len(u) != len(self.parameters):
            raise ValueError(f"needs {len(self.parameters)} coordinates, got {len(u)}")
        params: dict[str, Any] = {}
        for parameter, coordinate in zip(self.parameters, u, strict=True):
            if parameter.active(params):
                params[parameter.key] = parameter.domain.from_unit(coordinate)
        return params

    def contains(self, params: Mapping[str, Any]) -> list[str]:
        """What keeps `params` from being a configuration of this space; empty where it is one."""
        problems = []
        active = {p.key: p for p in self.parameters if p.active(params)}
        for key, parameter in active.items():
            if key not in params:
                problems.append(f"{key} is missing")
            elif not parameter.domain.contains(params[key]):
                problems.append(f"{key}={_word(params[key])} is outside {parameter.domain.describe()}")
        for key in params:
            if key not in active:
                problems.append(f"{key} does not apply" if key in self.keys else f"{key} is not searched")
        return problems

    def count(self, points: int | None = None) -> int | None:
        """How many configurations there are, with `points` for each interval; None where they are continuous.

        Counted by arithmetic over the conditions, never by enumeration.
        """
        conditions = {c for parameter in self.parameters for c in parameter.conditions}
        ways: dict[frozenset[Condition], int] = {frozenset(): 1}  # conditions that hold -> number of ways to get there
        for place, parameter in enumerate(self.parameters):
            later = {c for p in self.parameters[place:] for c in p.conditions}
            after = {c for p in self.parameters[place + 1 :] for c in p.conditions}
            own = [c for c in conditions & later if c.key == parameter.key]
            reached: dict[frozenset[Condition], int] = {}
            for held, number in ways.items():
                if all(c in held for c in parameter.conditions):
                    outcomes = _outcomes(parameter.domain, own, points)
                    if outcomes is None:
                        return None
                else:
                    outcomes = {frozenset(): 1}
                for holding, values in outcomes.items():
                    state = (held | holding) & after
                    reached[state] = reached.get(state, 0) + number * values
            ways = reached
        return sum(ways.values())

    def grid(self, points: int | None = None) -> Iterator[dict[str, Any]]:
        """All configurations, the last parameter changing fastest.

        Raises:
            ValueError: an interval and no `points`.
        """
        return self._grid(0, {}, points)

    def _grid(self, place: int, params: dict[str, Any], points: int | None) -> Iterator[dict[str, Any]]:
        if place == len(self.parameters):
            yield dict(params)
            return
        parameter = self.parameters[place]
        if not parameter.active(params):
            yield from self._grid(place + 1, params, points)
            return
        for value in parameter.domain.grid(points):
            yield from self._grid(place + 1, {**params, parameter.key: value}, points)

    def encode(self) -> list[dict[str, Any]]:
        """The space as plain JSON."""
        return [
            {
                "key": p.key,
                "domain": {"kind": type(p.domain).__name__.lower(), **_fields(p.domain)},
                "conditions": [{"key": c.key, "values": list(c.values)} for c in p.conditions],
            }
            for p in self.parameters
        ]

    @staticmethod
    def decode(encoded: Sequence[Mapping[str, Any]]) -> Space:
        """The space that `encode` wrote."""
        return Space(
            tuple(
                Parameter(
                    p["key"],
                    _decode_domain(p["domain"]),
                    tuple(Condition(c["key"], tuple(c["values"])) for c in p["conditions"]),
                )
                for p in encoded
            )
        )


def same(a: object, b: object) -> bool:
    """Equality that tells true from 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _ordered(parameters: Sequence[Parameter]) -> list[Parameter]:
    """As given, but each after those that its conditions name."""
    keys = {parameter.key for parameter in parameters}
    waiting, done, ordered = list(parameters), set[str](), list[Parameter]()
    for parameter in parameters:
        for c in parameter.conditions:
            if c.key not in keys:
                raise ValueError(f"{parameter.key} depends on {c}, but {c.key} is not searched")
    while waiting:
        ready = next((p for p in waiting if all(c.key in done for c in p.conditions)), None)
        if ready is None:
            raise ValueError(f"conditions go round in a circle: {' -> '.join(_circle(waiting))}")
        waiting.remove(ready)
        ordered.append(ready)
        if all(p.key != ready.key for p in waiting):
            done.add(ready.key)
    return ordered


def _circle(parameters: Sequence[Parameter]) -> list[str]:
    """Keys that lead back to the first of them; every parameter given depends on another one given."""
    keys = [p.key for p in parameters]
    depends = {p.key: next(c.key for c in p.conditions if c.key in keys) for p in parameters if p.conditions}
    path = [next(iter(depends))]
    while path[-1] not in path[:-1]:
        path.append(depends[path[-1]])
    return path[path.index(path[-1]) :]


def _exclusive(a: Parameter, b: Parameter) -> bool:
    """Whether the conditions of both can never hold at once."""
    return any(
        one.key == two.key and not any(two.holds(value) for value in one.values)
        for one in a.conditions
        for two in b.conditions
    )


def _outcomes(
    domain: Domain, conditions: Sequence[Condition], points: int | None
) -> dict[frozenset[Condition], int] | None:
    """How many values of the domain fulfil each set of the conditions; None where they cannot be counted."""
    size = domain.size
    if isinstance(domain, Interval) and points is not None:
        size = len(domain.grid(points)) if domain.integer else points
    if size is None:
        return None
    named: list[Any] = []
    for c in conditions:
        named += [v for v in c.values if domain.contains(v) and not any(same(v, known) for known in named)]
    outcomes = {frozenset[Condition](): size - len(named)}
    for value in named:
        holding = frozenset(c for c in conditions if c.holds(value))
        outcomes[holding] = outcomes.get(holding, 0) + 1
    return outcomes


def _fields(domain: Domain) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(domain).items()}


def _decode_domain(encoded: Mapping[str, Any]) -> Domain:
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


def _word(value: object) -> str:
    """A value as the override grammar writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)
