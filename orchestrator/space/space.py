"""The search space: parameters and the conditions under which they apply. Plain data, no library.

A configuration drawn from a space is a dict `{key: value}` that holds the active parameters only. Several parameters
may have one key with different domains (the usual learning rate of sgd and of adam), where their conditions exclude
each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.space.domains import Domain, Interval, decode_domain, encode_domain, same, spell


@dataclass(frozen=True)
class Condition:
    """Holds where the parameter `key` is active and has one of `values`."""

    key: str
    values: tuple[Any, ...]

    def holds(self, value: object) -> bool:
        return any(same(value, own) for own in self.values)

    def __str__(self) -> str:
        return f"{self.key}={','.join(map(spell, self.values))}"


Held = frozenset[Condition]
"""Conditions that hold."""
Outcomes = dict[Held, int | None]
"""Conditions that hold -> in how many ways; None where they are continuous."""


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
                problems.append(f"{key}={spell(params[key])} is outside {parameter.domain.describe()}")
        for key in params:
            if key not in active:
                problems.append(f"{key} does not apply" if key in self.keys else f"{key} is not searched")
        return problems

    def nearest(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration of this space in the domains' own spelling, its keys in the space's order."""
        return {p.key: p.domain.nearest(params[p.key]) for p in self.parameters if p.active(params)}

    def count(self, points: int | None = None) -> int | None:
        """How many configurations there are, with `points` for each interval; None where they are continuous.

        Counted by arithmetic over the conditions, never by enumeration.
        """
        return self._ways(points)[0][frozenset()]

    def completions(self, params: Mapping[str, Any], place: int) -> int | None:
        """In how many ways the parameters from number `place` on can be set, given those before; None where continuous."""
        held = frozenset(c for c in self._named_from[place] if c.key in params and c.holds(params[c.key]))
        return self._discrete_ways[place][held]

    @cached_property
    def _named_from(self) -> list[Held]:
        """For each place, the conditions that parameters from there on have."""
        named = [frozenset[Condition]()]
        for parameter in reversed(self.parameters):
            named.append(named[-1] | set(parameter.conditions))
        return named[::-1]

    @cached_property
    def _discrete_ways(self) -> list[Outcomes]:
        return self._ways(None)

    def _ways(self, points: int | None) -> list[Outcomes]:
        """For each place, and each set of later conditions that can hold there, the number of ways to set the rest."""
        steps = list[dict[Held, Outcomes]]()
        reached: set[Held] = {frozenset()}
        for place in range(len(self.parameters)):
            step = {held: self._step(place, held, points) for held in reached}
            reached = {after for outcomes in step.values() for after in outcomes}
            steps.append(step)
        ways: list[Outcomes] = [{frozenset(): 1}]
        for step in reversed(steps):
            ways.append({held: _total(outcomes, ways[-1]) for held, outcomes in step.items()})
        return ways[::-1]

    def _step(self, place: int, held: Held, points: int | None) -> Outcomes:
        """Where the values of the parameter at `place` lead: the later conditions that hold then -> number of values."""
        parameter, later = self.parameters[place], self._named_from[place + 1]
        if not held.issuperset(parameter.conditions):
            return {held & later: 1}
        outcomes: Outcomes = {}
        for holding, values in _outcomes(
            parameter.domain, [c for c in later if c.key == parameter.key], points
        ).items():
            after = (held | holding) & later
            known = outcomes.get(after, 0)
            outcomes[after] = None if values is None or known is None else known + values
        return outcomes

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
                "domain": encode_domain(p.domain),
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
                    decode_domain(p["domain"]),
                    tuple(Condition(c["key"], tuple(c["values"])) for c in p["conditions"]),
                )
                for p in encoded
            )
        )


def _total(outcomes: Outcomes, ways: Outcomes) -> int | None:
    """The number of ways through all outcomes together."""
    total = 0
    for after, number in outcomes.items():
        rest = ways[after]
        if number is None or rest is None:
            return None
        total += number * rest
    return total


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


def _outcomes(domain: Domain, conditions: Sequence[Condition], points: int | None) -> Outcomes:
    """How many values of the domain fulfil each set of the conditions."""
    size = domain.size
    if isinstance(domain, Interval) and points is not None:
        size = len(domain.grid(points)) if domain.integer else points
    named: list[Any] = []
    for c in conditions:
        named += [v for v in c.values if domain.contains(v) and not any(same(v, known) for known in named)]
    outcomes: Outcomes = {}
    if size is None or size > len(named):
        outcomes[frozenset()] = None if size is None else size - len(named)
    for value in named:
        holding = frozenset(c for c in conditions if c.holds(value))
        known = outcomes.get(holding, 0)
        outcomes[holding] = None if known is None else known + 1
    return outcomes
