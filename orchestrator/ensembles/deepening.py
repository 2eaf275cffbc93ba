"""Which configurations of a sweep are trained with more seeds before they are compared, and with how many.

K picks of a greedy selection over the configurations with K seeds each take K(K-1) further trainings (Wenzel et al. 2020,
arXiv:2006.13570): 12 are 4 picks with 3 further seeds each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.recorded import read_plan
from orchestrator.base.records import State
from orchestrator.ensembles.gathering import Gathered, Source
from orchestrator.ensembles.methods.greedy import selected
from orchestrator.ensembles.methods.hyper_deep import distinct, seeds_of
from orchestrator.ensembles.pool import Pool
from orchestrator.journal.events import MOST_REPEATS
from orchestrator.journal.finding import runs_dir_option
from orchestrator.journal.record import SweepRecord, read_sweep

MOST_TRAININGS = 10_000
PICKS = 50
ENDED = ("finished", "exhausted")


@dataclass(frozen=True)
class Deepening:
    """The further trainings of one sweep.

    Args:
        seeds: trial -> with how many seeds its configuration is to be trained in all; empty where what was begun goes on.
        trainings: how many are still to come.
    """

    folder: Path
    seeds: Mapping[int, int]
    trainings: int


def deepenings(gathered: Gathered, trainings: int, *, budget: int | None = None) -> list[Deepening]:
    """What is still to be trained until there are so many further trainings in all; nothing where there are.

    Seeds that an earlier call asked for count, so that the same command trains nothing twice.

    Args:
        trainings: further ones, of all sweeps together.
        budget: members that the winner may have: no more configurations are picked.

    Raises:
        ConfigError: the number is wrong, a sweep is read from a server, or it searches the seed.
        NotReadyError: a sweep has not come to its end.
    """
    if not 1 <= trainings <= MOST_TRAININGS:
        raise ConfigError(Problem("--deepen", f"must be from 1 to {MOST_TRAININGS}", trainings))
    sweeps = {source.uid: _Sweep.of(source) for source in gathered.sources}
    for sweep in sweeps.values():
        sweep.check_ended()
    further = {(uid, key): more for uid, sweep in sweeps.items() for key, more in sweep.further.items()}
    size = max(len(further), size_of(trainings, budget))
    picks = [*dict.fromkeys([*further, *_picked(gathered.pool, sweeps)])][:size]
    shared = _shared(picks, further, trainings)
    for (uid, _), count in shared.items():
        sweeps[uid].check_seeds(count)
    return [found for uid, sweep in sweeps.items() if (found := sweep.deepened(uid, shared)).trainings]


def size_of(trainings: int, budget: int | None = None) -> int:
    """K: the most picks that can have K seeds each; more than the winner may have members are of no use."""
    size = max(1, (1 + math.isqrt(1 + 4 * trainings)) // 2)
    return size if budget is None else max(1, min(size, budget))


@dataclass(frozen=True)
class _Sweep:
    """A sweep as its journal has it.

    Args:
        repeat: trials of each configuration.
        space: the keys that it searches.
        further: configuration -> the trials beyond `repeat` that were asked for, in that order.
    """

    folder: Path
    record: SweepRecord
    repeat: int
    space: frozenset[str]
    further: Mapping[int, int]

    @classmethod
    def of(cls, source: Source) -> _Sweep:
        """
        Raises:
            ConfigError: it is read from a server.
        """
        if source.folder is None:
            why = f"trains more seeds where the sweep's folder is, and {source.uid} is read from a server"
            raise ConfigError(Problem("--deepen", why))
        record = read_sweep(source.folder)
        plan = read_plan(record.plan)
        repeat = int(plan["settings"].get("repeat") or 1)
        further = {key: max(0, repeats - repeat) for key, repeats in record.repeats_of.items()}
        space = frozenset(str(one["key"]) for one in plan["space"])
        return cls(source.folder, record, repeat, space, further)

    def check_ended(self) -> None:
        """
        Raises:
            NotReadyError: the sweep itself has not come to its end. Seeds that were asked for may be under way.
        """
        record, name, there = self.record, self.folder.name, runs_dir_option(self.folder)
        if record.closed is not None and record.closed.reason in ENDED:
            return
        changed = [resume for resume in record.resumes if resume.changes]
        if changed and changed[-1].repeats_of and self._asked_for_seeds_alone(changed[-1].changes):
            return  # the sweep had ended, and what may be under way are seeds
        state = "was interrupted" if record.closed is None else f"ended early ({record.closed.reason})"
        raise NotReadyError(
            f"sweep {name} {state}, and --deepen picks from a whole one: finish it with `orchestrator resume {name}{there}`, "
            f"or take what there is with `orchestrator resume {name}{there} trials={record.configurations}`"
        )

    @staticmethod
    def _asked_for_seeds_alone(changes: Mapping[str, object]) -> bool:
        return all(key.startswith("seeds of configuration") for key in changes)

    def check_seeds(self, further: int) -> None:
        """
        Raises:
            ConfigError: the sweep searches the seed, or so many further seeds are too many.
        """
        if "seed" in self.space:
            why = f"the seed is searched in {self.folder.name}, so that its configurations have no further ones"
            raise ConfigError(Problem("--deepen", why))
        if self.repeat + further > MOST_REPEATS:
            why = f"at most {MOST_REPEATS} seeds of a configuration, and this asks for {self.repeat + further}"
            raise ConfigError(Problem("--deepen", why))

    def deepened(self, uid: str, shared: Mapping[tuple[str, int], int]) -> Deepening:
        """What is still to be trained here so that its picks have so many further trials each."""
        there = Counter(trial.config_index for trial in self.record.trials.values())
        missing = {key: self.repeat + more - there[key] for (of, key), more in shared.items() if of == uid}
        completed = {
            trial.config_index: trial.index
            for trial in reversed(self.record.trials.values())
            if trial.state is State.COMPLETED
        }
        seeds = {completed[key]: there[key] + count for key, count in missing.items() if count > 0 and key in completed}
        under_way = len(self.record.unfinished) if self.record.closed is None else 0
        return Deepening(self.folder, seeds, under_way + sum(count for count in missing.values() if count > 0))


def _picked(pool: Pool, sweeps: Mapping[str, _Sweep]) -> Iterator[tuple[str, int]]:
    """(sweep, configuration) in the order in which a greedy selection takes the first trials of all configurations.

    Where one is so much better than the others that it is taken again and again, the others follow by their objective: a
    hyper-deep ensemble has several configurations.
    """
    firsts = [places[0] for places in seeds_of(pool).values()]
    taken = distinct(selected(pool.of(firsts), PICKS), len(firsts))
    by_value = sorted(range(len(firsts)), key=lambda place: firsts[place])  # the pool has the best first
    for place in dict.fromkeys([*taken, *by_value]):
        uid, _, index = pool.members[firsts[place]].name.rpartition("/")
        yield uid, sweeps[uid].record.trials[int(index)].config_index


def _shared(
    picks: Sequence[tuple[str, int]], further: Mapping[tuple[str, int], int], trainings: int
) -> dict[tuple[str, int], int]:
    """Pick -> its further trials: each next one is that of the pick with fewest, of equal ones the first's."""
    found = {pick: further.get(pick, 0) for pick in picks}
    for _ in range(max(0, trainings - sum(found.values()))):
        found[min(picks, key=lambda pick: found[pick])] += 1
    return found
