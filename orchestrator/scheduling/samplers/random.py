"""Independent draws, each parameter uniform over its domain (log-uniform where it says so).

Source: Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random as Generator
from typing import Any, ClassVar

from orchestrator.base.rules import FIRST_RULES
from orchestrator.scheduling.samplers import (
    ENUMERABLE,
    Distinct,
    Enumerated,
    Params,
    Sampler,
    finite_limit,
    generator,
    key_of,
)
from orchestrator.space import Parameter, Space

TRIES = 100


@dataclass(frozen=True)
class Random:
    """No settings. No configuration comes twice."""

    repeats: ClassVar[bool] = False

    def problems(self, space: Space, trials: int) -> list[str]:
        del space, trials
        return []

    def limit(self, space: Space, trials: int) -> int:
        return finite_limit(space, trials)

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        del mode, first
        return _Ancestral(space, seed)

    def under(self, rules: int) -> Random:
        """The sampler of a sweep that began under these rules."""
        return _FirstRandom() if rules == FIRST_RULES else self


@dataclass
class _Region:
    """The configurations that share the values of the first parameters."""

    tried: int = 0
    parts: dict[str, _Region] = field(default_factory=dict)


class _Ancestral(Sampler):
    """Draws one parameter after the other, each after those that its conditions name, whatever the number of values below.

    A value below which every configuration was tried is passed over: among those that are left the draw goes on as before. So a
    finite space ends when all of it was tried, not earlier.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._tried = _Region()
        self._known: set[str] = set()

    def suggest(self, index: int) -> Params | None:
        numbers = generator("random", self._seed, index)
        for _ in range(TRIES):
            params = self._draw(numbers)
            if params is None:
                return None
            if key_of(params) not in self._known:  # it can be known where an interval holds but a few floats
                self._add(params)
                return params
        return None

    def recall(self, index: int, params: Params) -> None:
        del index
        self._add(self._space.nearest(params))

    def _draw(self, numbers: Generator) -> Params | None:
        """A configuration with something new in it, or None where nothing is left."""
        if not self._has_left(0, {}, self._tried):
            return None
        params: Params = {}
        region = self._tried
        for place, parameter in enumerate(self._space.parameters):
            if parameter.active(params):
                params[parameter.key] = self._value(place, parameter, params, region, numbers)
                region = region.parts.get(_spelled(params[parameter.key]), _Region())
        return params

    def _value(self, place: int, parameter: Parameter, params: Params, region: _Region, numbers: Generator) -> Any:
        def has_left(value: Any) -> bool:
            part = region.parts.get(_spelled(value), _Region())
            return self._has_left(place + 1, {**params, parameter.key: value}, part)

        for _ in range(TRIES):
            value = parameter.domain.from_unit(numbers.random())
            if has_left(value):
                return value
        # Few are left of many: one of those, all equally likely.
        return numbers.choice([value for value in parameter.domain.grid() if has_left(value)])

    def _has_left(self, place: int, params: Mapping[str, Any], region: _Region) -> bool:
        ways = self._space.completions(params, place)
        return ways is None or region.tried < ways

    def _add(self, params: Params) -> None:
        if key_of(params) in self._known:
            return
        self._known.add(key_of(params))
        region = self._tried
        region.tried += 1
        for parameter in self._space.parameters:
            if parameter.active(params):
                region = region.parts.setdefault(_spelled(params[parameter.key]), _Region())
                region.tried += 1


def _spelled(value: Any) -> str:
    return json.dumps(value)


# Under the first rules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _FirstRandom(Random):
    """Shuffles a small finite space, so that choices with many values below them come more often."""

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        del mode
        count = space.count()
        if count is not None and count <= ENUMERABLE:
            order = list(space.grid())
            generator("random", seed).shuffle(order)
            return Enumerated(space, iter(order), first)
        return _Independent(space, seed)


class _Independent(Sampler):
    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._distinct = Distinct()

    def suggest(self, index: int) -> Params | None:
        def draw(attempt: int) -> Params:
            numbers = generator("random", self._seed, index, attempt)
            return self._space.from_unit([numbers.random() for _ in self._space.parameters])

        return self._distinct.first_new(draw)

    def recall(self, index: int, params: Params) -> None:
        self._distinct.add(params)
