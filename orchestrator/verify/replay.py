"""The journal's results given to a fresh sampler: it has to suggest what was suggested."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.base.errors import ConfigError
from orchestrator.base.records import State
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.events import Suggested, SweepResumed, Terminal
from orchestrator.verify.evidence import Case, Sweep
from orchestrator.verify.rules import Finding, Partly, Skip

LEARNING_LIMIT = 200
"""So many suggestions of a sampler that learns are replayed: each takes it longer than the one before."""

COUNTS = (State.COMPLETED, State.STOPPED, State.CANCELLED)


def same_suggestions(sweep: Sweep) -> Iterator[Finding]:
    """Every suggestion is the one that its sampler gives after the results up to then."""
    replay = _Replay(sweep)
    for entry in sweep.journal.entries:
        event = entry.event
        if isinstance(event, SweepResumed) and event.plan:
            replay.resume(sweep.plan_at(entry.seq), event.first_config_index)
        case = sweep.cases.get(entry.trial) if entry.trial is not None else None
        if case is None:
            continue
        if isinstance(event, Suggested) and case.repeat == 0:
            if replay.full:
                raise Partly(f"the first {LEARNING_LIMIT} suggestions")
            given = replay.suggested(case)
            if given is not None and not _same(given, case.suggested.params):
                yield Finding(
                    f"suggested {case.suggested.params}", f"{given}, as its sampler says", f"trial {case.index}"
                )
                return  # what follows rests on it
        elif isinstance(event, Terminal):
            replay.ended(case)


class _Replay:
    """A fresh sampler, and what it was told."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._groups: dict[int, list[Case]] = {}
        for case in sweep.cases.values():
            self._groups.setdefault(case.config_index, []).append(case)
        self._seen: list[tuple[str, Case]] = []
        self._ended: set[int] = set()
        self._worst: float | None = None
        self._count = 0
        self._begin(sweep.plans[0][1], 0)

    @property
    def full(self) -> bool:
        return bool(self._sampler.learns) and self._count >= LEARNING_LIMIT

    def resume(self, plan: SweepPlan, first_config_index: int) -> None:
        """Goes on under the plan of a resumed sweep; another sampler or space begins anew, told of what was before."""
        if first_config_index == self._first and (plan.space, plan.sampler) == (self._plan.space, self._plan.sampler):
            return
        self._begin(plan, first_config_index)
        self._ended, self._worst = set(), None
        for kind, case in list(self._seen):
            if kind == "suggested":
                self._recall(case)
            else:
                self._tell(case)

    def suggested(self, case: Case) -> Any:
        """What the sampler suggests for this trial's configuration."""
        self._seen.append(("suggested", case))
        if case.config_index < self._first:
            self._recall(case)
            return None
        self._count += 1
        return self._sampler.suggest(case.config_index)

    def ended(self, case: Case) -> None:
        self._seen.append(("ended", case))
        self._tell(case)

    def _begin(self, plan: SweepPlan, first_config_index: int) -> None:
        self._plan, self._first = plan, first_config_index
        first = {"first": first_config_index} if first_config_index else {}
        try:
            settings = plan.part("sampler")
            self._sampler = settings.start(plan.space, seed=plan.settings["seed"], mode=self._sweep.mode, **first)
        except (ConfigError, ImportError) as error:
            raise Skip(f"its sampler cannot be built here ({error})") from error

    def _recall(self, case: Case) -> None:
        if case.repeat == 0 and self._fits(case):
            self._sampler.recall(case.config_index, case.suggested.params)

    def _tell(self, case: Case) -> None:
        """The mean over a configuration's trials once the last of them has ended, as the driver does."""
        if case.index in self._ended:
            return
        self._ended.add(case.index)
        value = _value(case)
        sign = 1.0 if self._sweep.mode == "max" else -1.0
        if value is not None and (self._worst is None or sign * value < sign * self._worst):
            self._worst = value
        members = self._groups[case.config_index]
        if not all(member.index in self._ended for member in members) or not self._fits(case):
            return
        told = [
            self._worst if member.state in (State.DIVERGED, State.INFEASIBLE) else _value(member) for member in members
        ]
        values = [value for value in told if value is not None]
        mean = statistics.fmean(values) if values else None
        self._sampler.observe(case.config_index, dict(case.suggested.params), mean)

    def _fits(self, case: Case) -> bool:
        """Whether the sampler is told of it: what is outside a new space is kept for "best" alone."""
        return not self._plan.space.contains(case.suggested.params)


def _same(given: Mapping[str, Any], suggested: Mapping[str, Any]) -> bool:
    """Whether both are one configuration, but for the last digits of a number: an earlier version may have rounded otherwise."""
    return given.keys() == suggested.keys() and all(_equal(given[key], suggested[key]) for key in given)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return one == other


def _value(case: Case) -> float | None:
    value = case.terminal.value if case.terminal else None
    if case.state in COUNTS and isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None
