"""A scrambled Sobol sequence: points that fill the space more evenly than independent draws.

Source: Sobol 1967; scrambling by Owen 1998, as in scipy.stats.qmc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.scheduling.samplers import Params, Sampler, finite_limit, generator, key_of
from orchestrator.space import Space

MAX_DIMENSIONS = 21_201
TRIES = 4_096


@dataclass(frozen=True)
class Sobol:
    """No settings. Points that give a configuration tried before (possible where values are discrete) are skipped."""

    def problems(self, space: Space, trials: int) -> list[str]:
        del trials
        if len(space.parameters) > MAX_DIMENSIONS:
            return [f"a Sobol sequence has at most {MAX_DIMENSIONS} parameters"]
        return []

    def limit(self, space: Space, trials: int) -> int:
        return finite_limit(space, trials)

    def start(self, space: Space, *, seed: int, mode: str) -> Sampler:
        del mode
        return _Sequence(space, seed)


class _Sequence(Sampler):
    def __init__(self, space: Space, seed: int) -> None:
        from scipy.stats import qmc

        self._space = space
        scramble = generator("sobol", seed).getrandbits(32)
        self._points: Any = qmc.Sobol(max(1, len(space.parameters)), scramble=True, rng=scramble)
        self._seen: set[str] = set()
        self._drawn: list[Params] = []

    def suggest(self, index: int) -> Params | None:
        """Configurations are a function of the index: the sequence without its repetitions."""
        while len(self._drawn) <= index:
            for _ in range(TRIES):
                params = self._space.from_unit([float(u) for u in self._points.random(1)[0]])
                if key_of(params) not in self._seen:
                    self._seen.add(key_of(params))
                    self._drawn.append(params)
                    break
            else:
                return None
        return self._drawn[index]
