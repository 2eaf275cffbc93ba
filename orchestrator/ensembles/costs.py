"""What an ensemble costs: the sum over its members, which are computed one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

from orchestrator.base.errors import OrchestratorError
from orchestrator.ensembles.catalogue import SEEDS
from orchestrator.ensembles.pool import HasMembers, Pool

MISSING = "multiply_adds_missing"
"""In the environment of a record: of which members they are not known, and why."""
BATCH = 64
THREADS = 1
WARM_UP, BLOCKS, ROUNDS_OF_BLOCK = 2, 3, 7
"""Rounds: those that are not counted, and then blocks of rounds, of each of which the median is taken."""

AT_ONCE = 32
"""Networks that are held in memory and take turns."""

BUSY = 1.25
"""A spread from which on the machine is called busy."""


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


@dataclass(frozen=True)
class Latency:
    """How long a network takes.

    Args:
        value_ms: the least of the medians of `BLOCKS`.
        spread: the largest of these medians over the least; 1 of a machine that does nothing else.
    """

    value_ms: float
    spread: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Latency:
        """From one time a round, in their order."""
        size = max(1, len(times_ms) // BLOCKS)
        blocks = [times_ms[start : start + size] for start in range(0, size * (len(times_ms) // size), size)]
        medians = [statistics.median(block) for block in blocks]
        return cls(min(medians), max(medians) / min(medians) if min(medians) > 0 else 1.0)


class Latencies:
    """How long the members' networks take for a batch of images on one thread of this machine's CPU.

    Networks take turns, round after round, so that what else the machine does at a time meets all of them alike; and the least of
    several medians is taken, since other work makes a network slower and never faster.

    Args:
        folders: sweep -> its folder, of those that are here.
        batch: images that are computed together.
    """

    def __init__(self, folders: dict[str, Path], batch: int = BATCH) -> None:
        self._folders, self._batch = folders, batch
        self._known: dict[str, Latency] = {}  # of one pass
        self._passes: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        """Of members that could not be measured."""

    def measure(self, names: Sequence[str]) -> None:
        """Times these members, each once."""
        new = [name for name in dict.fromkeys(names) if name not in self._known and name not in self.reasons]
        with _threads(THREADS):
            for start in range(0, len(new), AT_ONCE):
                self._measure_together(new[start : start + AT_ONCE])

    def of(self, names: Sequence[str], passes: Sequence[int | None] = ()) -> float | None:
        """Milliseconds of all members together, all their passes counted; None where one has no weights here.

        Args:
            passes: of members that are asked otherwise than their trials, how often an image goes through them.
        """
        self.measure(names)
        counts = [count or self._passes.get(name, 1) for name, count in zip_longest(names, passes)]
        found = [
            self._known[name].value_ms * count for name, count in zip(names, counts, strict=True) if name in self._known
        ]
        return sum(found) if len(found) == len(names) else None

    @property
    def spread(self) -> float | None:
        """The median over networks of their spreads; None where none was timed."""
        return statistics.median(one.spread for one in self._known.values()) if self._known else None

    def _measure_together(self, names: Sequence[str]) -> None:
        runs = {name: run for name in names if (run := self._loaded(name)) is not None}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(WARM_UP + BLOCKS * ROUNDS_OF_BLOCK):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if round_ >= WARM_UP:
                    times[name].append(1000 * (time.perf_counter() - start))
        self._known |= {name: Latency.of(found) for name, found in times.items()}

    def _loaded(self, name: str) -> Callable[[], object] | None:
        """What computes a batch; None of a member that has no weights here."""
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
        self._passes[name] = predictor.passes
        images = torch.zeros(self._batch, predictor.channels, *predictor.image_size)
        return torch.inference_mode()(partial(predictor.network, images))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads compute a network, and afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
