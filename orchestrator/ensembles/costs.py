"""What an ensemble costs: the sum over its members, which are computed one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.base.errors import OrchestratorError
from orchestrator.ensembles.catalogue import SEEDS
from orchestrator.ensembles.pool import HasMembers, Pool

MISSING = "multiply_adds_missing"
"""In the environment of a record: of which members they are not known, and why."""
BATCH = 64
REPEATS = 5


def parameters(pool: HasMembers, members: Sequence[int]) -> int | None:
    """Of all members together; None where one's number is not known."""
    return _total([pool.members[place].parameters for place in members])


def trainings(pool: Pool, members: Sequence[int], method: str) -> int:
    """How many trials it takes to get this ensemble: all of the pool; the seeds of one configuration take themselves, and one
    trial of each other configuration, among which it was chosen.
    """
    if method != SEEDS:
        return len(pool)
    return len({member.configuration for member in pool.members}) + len(members) - 1


def multiply_adds(pool: HasMembers, members: Sequence[int]) -> int | None:
    """For one image, of all members together; None where one's number is not known."""
    return _total([pool.members[place].multiply_adds for place in members])


def missing(pool: Pool) -> dict[str, str]:
    """Why multiply-adds of members are not known, for the record; empty where all are."""
    reasons: dict[str, list[str]] = {}
    for member in pool.members:
        if member.multiply_adds is None:
            reasons.setdefault(member.unpriced or "nothing says them", []).append(member.name)
    said = [
        f"{names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {why}"
        for why, names in reasons.items()
    ]
    return {MISSING: "; ".join(said)[:2_000]} if said else {}


def _total(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


class Latencies:
    """How long the members' networks take for a batch of images on this machine's CPU, each measured once.

    Args:
        folders: sweep -> its folder, of those that are here.
        batch: images that are computed together.
    """

    def __init__(self, folders: dict[str, Path], batch: int = BATCH) -> None:
        self._folders, self._batch = folders, batch
        self._known: dict[str, float | None] = {}
        self.reasons: dict[str, str] = {}
        """Of members that could not be measured."""

    def of(self, names: Sequence[str]) -> float | None:
        """Milliseconds of all members together; None where one has no weights here."""
        found = [self._of_one(name) for name in names]
        known = [value for value in found if value is not None]
        return sum(known) if len(known) == len(found) else None

    def _of_one(self, name: str) -> float | None:
        if name not in self._known:
            self._known[name] = self._measured(name)
        return self._known[name]

    def _measured(self, name: str) -> float | None:
        sweep = name.rpartition("/")[0]
        if sweep not in self._folders:
            self.reasons[name] = "its weights are not on this machine"
            return None
        import torch

        from orchestrator.serving.loading import load_model
        from orchestrator.serving.predictor import Predictor

        try:
            predictor = load_model(name, self._folders[sweep].parent)
            assert isinstance(predictor, Predictor)
        except OrchestratorError as error:
            self.reasons[name] = str(error)
            return None
        images = torch.zeros(self._batch, predictor.channels, *predictor.image_size)
        times = []
        with torch.inference_mode():
            for _ in range(1 + REPEATS):  # the first one warms up
                start = time.perf_counter()
                predictor.network(images)
                times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times[1:])
