"""Samplers: which configuration to try next. One algorithm a file; a choice in `conf/sampler/` names it.

A sampler file holds a frozen dataclass of settings, whose `start` gives the running sampler. A suggestion depends on the seed,
the index and what was suggested and observed before, on nothing else: a resumed sweep suggests what an uninterrupted one would.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from random import Random as Generator
from typing import Any, Protocol

from orchestrator.space import Space

Params = dict[str, Any]


class Sampler(ABC):
    """A running sampler.

    Attributes:
        learns: whether suggestions depend on results; if so, no configuration is drawn before it is needed.
    """

    learns: bool = False

    @abstractmethod
    def suggest(self, index: int) -> Params | None:
        """The configuration of trial `index`, or None where the space holds no further one."""

    def observe(self, index: int, params: Params, value: float | None) -> None:
        """Tells the outcome of a trial; None is a trial without one (failed)."""
        del index, params, value

    def recall(self, index: int, params: Params) -> None:
        """Tells of a configuration that was suggested before this sampler was started (a resumed sweep), in order."""
        del index, params


class SamplerSettings(Protocol):
    """What a file of this folder offers.

    Where a sampler draws otherwise than an earlier version did, `under(rules)` gives the sampler of a sweep that began under the
    earlier rules (orchestrator.base.rules).
    """

    @property
    def repeats(self) -> bool:
        """Whether the same configuration may come twice, as in evolution or for a noisy objective; its trials are then two."""
        ...

    def problems(self, space: Space, trials: int) -> list[str]:
        """What does not fit between the settings and the space, in words; empty where all is well."""
        ...

    def limit(self, space: Space, trials: int) -> int:
        """How many configurations there can be at most: fewer than `trials` where the space is smaller and none repeats."""
        ...

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        """The running sampler.

        Args:
            first: the index of its first suggestion; above 0 where another sampler, or another space, had the ones before.
        """
        ...


ENUMERABLE = 10_000
"""Spaces of at most so many configurations are enumerated, so that none is tried twice."""


def finite_limit(space: Space, trials: int) -> int:
    """`trials`, or the number of configurations of a finite space where that is less."""
    count = space.count()
    return trials if count is None else min(trials, count)


def key_of(params: Mapping[str, Any]) -> str:
    """The same text for the same configuration."""
    return json.dumps(params, sort_keys=True)


class Enumerated(Sampler):
    """One configuration after the other, without those that were tried before `first`."""

    def __init__(self, space: Space, configurations: Iterator[Params], first: int = 0) -> None:
        self._space, self._configurations, self._first = space, configurations, first
        self._drawn: list[Params] = []
        self._earlier: set[str] = set()

    def suggest(self, index: int) -> Params | None:
        while len(self._drawn) <= index - self._first:
            params = next(self._configurations, None)
            if params is None:
                return None
            if key_of(params) not in self._earlier:
                self._drawn.append(params)
        return self._drawn[index - self._first]

    def recall(self, index: int, params: Params) -> None:
        if index < self._first:
            self._earlier.add(key_of(self._space.nearest(params)))


class Distinct:
    """Draws that do not repeat: remembers what was drawn and draws again, at most `tries` times."""

    def __init__(self, tries: int = 100) -> None:
        self._seen: set[str] = set()
        self._tries = tries

    def add(self, params: Params) -> None:
        self._seen.add(key_of(params))

    def first_new(self, draw: Callable[[int], Params], tries: int | None = None) -> Params | None:
        """The first of `draw(0), draw(1), ...` that is new; None where all were seen."""
        for attempt in range(tries or self._tries):
            params = draw(attempt)
            if key_of(params) not in self._seen:
                self.add(params)
                return params
        return None


def generator(*parts: object) -> Generator:
    """A random generator that is a function of the parts alone, the same on every machine."""
    return Generator("/".join(map(str, parts)))
