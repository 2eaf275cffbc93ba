"""Independent draws, each parameter uniform over its domain (log-uniform where it says so).

Source: Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.scheduling.samplers import (
    ENUMERABLE,
    Distinct,
    Enumerated,
    Params,
    Sampler,
    finite_limit,
    generator,
)
from orchestrator.space import Space


@dataclass(frozen=True)
class Random:
    """No settings. A finite space is shuffled, so that no configuration comes twice."""

    def problems(self, space: Space, trials: int) -> list[str]:
        del space, trials
        return []

    def limit(self, space: Space, trials: int) -> int:
        return finite_limit(space, trials)

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        del mode
        count = space.count()
        if count is not None and count <= ENUMERABLE:
            order = list(space.grid())
            generator("random", seed).shuffle(order)
            return Enumerated(iter(order), first)
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
