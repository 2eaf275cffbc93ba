"""Every combination, in the order of the parameters; the last one changes fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.scheduling.samplers import Enumerated, Sampler
from orchestrator.space import Space

LIMIT = 10_000


@dataclass(frozen=True)
class Grid:
    """A full grid.

    Args:
        points: how many values each interval gets (evenly spaced, in the logarithm where the interval is logarithmic).
        allow_huge: whether more than 10,000 configurations are accepted.

    Raises:
        ValueError: `points` is below 2.
    """

    points: int | None = None
    allow_huge: bool = False

    def __post_init__(self) -> None:
        if self.points is not None and self.points < 2:
            raise ValueError(f"points must be at least 2, got {self.points}")

    repeats: ClassVar[bool] = False

    def problems(self, space: Space, trials: int) -> list[str]:
        del trials
        count = space.count(self.points)
        if count is None:
            return ["a grid cannot enumerate an interval; say how many points each gets with sampler.points=N"]
        if count > LIMIT and not self.allow_huge:
            return [
                f"the grid has {count:,} points, the limit is {LIMIT:,}; use sampler=random or tpe, or sampler.allow_huge=true"
            ]
        return []

    def limit(self, space: Space, trials: int) -> int:
        del trials
        count = space.count(self.points)
        assert count is not None, "problems() refuses intervals"
        return count

    def start(self, space: Space, *, seed: int, mode: str, first: int = 0) -> Sampler:
        del seed, mode
        return Enumerated(space, space.grid(self.points), first)
