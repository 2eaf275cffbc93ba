"""A scrambled Sobol sequence: points that fill the space more evenly than independent draws.

Source: Sobol 1967; scrambling by Owen 1998, as in scipy.stats.qmc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.scheduling.samplers import Enumerated, Params, Sampler, finite_limit, generator, key_of
from orchestrator.space import Space

MAX_DIMENSIONS = 21_201
TRIES = 4_096


@dataclass(frozen=True)
class Sobol:
    """No settings. Points that give a configuration tried before (possible where values are discrete) are skipped."""

    repeats: ClassVar[bool] = False

    def problems(self, space: Space, trials: int) -> list[str]:
        del trials
        if len(space.parameters) > MAX_DIMENSIONS:
            return [f"a Sobol sequence has at most {MAX_DIMENSIONS} parameters"]
        return []

    def limit(self, space: Space, trials: int) -> int:
        return finite_limit(space, trials)

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        del mode
        return Enumerated(space, _points(space, seed, first), first)


def _points(space: Space, seed: int, first: int) -> Iterator[Params]:
    """The sequence without its repetitions; it ends where a long stretch brings nothing new."""
    from scipy.stats import qmc

    scramble = generator("sobol", seed, *([first] if first else [])).getrandbits(32)
    points: Any = qmc.Sobol(max(1, len(space.parameters)), scramble=True, rng=scramble)
    seen: set[str] = set()
    tries = 0
    while tries < TRIES:
        params = space.from_unit([float(u) for u in points.random(1)[0]])
        tries += 1
        if key_of(params) not in seen:
            seen.add(key_of(params))
            tries = 0
            yield params
