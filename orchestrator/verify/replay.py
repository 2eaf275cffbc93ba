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
from orchestrator.verify.evidence import SweepEvidence, TrialEvidence
from orchestrator.verify.rules import Finding, NotChecked, PartlyChecked

LEARNING_LIMIT = 200
"""So many suggestions of a sampler that learns are replayed: each takes it longer than the one before."""

COUNTS = (State.COMPLETED, State.STOPPED, State.CANCELLED)


def same_suggestions(sweep: SweepEvidence) -> Iterator[Finding]:
    """Every suggestion is the one that its sampler gives after the results up to then."""
    replay = _Replay(sweep)
    for entry in sweep.journal.entries:
        event = entry.event
        if isinstance(event, SweepResumed) and event.plan:
            replay.resume(sweep.plan_at(entry.seq), event.first_config_index)
        trial = sweep.trials.get(entry.trial) if entry.trial is not None else None
        if trial is None:
            continue
        if isinstance(event, Suggested) and trial.repeat == 0:
            if replay.full:
                raise PartlyChecked(f"the first {LEARNING_LIMIT} suggestions")
            given = replay.suggested(trial)
            if given is not None and not _same(given, trial.suggested.params):
                yield Finding(
                    f"suggested {trial.suggested.params}", f"{given}, as its sampler says", f"trial {trial.index}"
                )
                return  # what follows rests on it
        elif isinstance(event, Terminal):
            replay.ended(trial)


class _Replay:
    """A fresh sampler, and what it was told."""

    def __init__(self, sweep: SweepEvidence) -> None:
        self._sweep = sweep
        self._repeat = int(sweep.setting("repeat", 1))
        self._groups: dict[int, list[TrialEvidence]] = {}
        for trial in sweep.trials.values():
            self._groups.setdefault(trial.config_index, []).append(trial)
        self._seen: list[tuple[str, TrialEvidence]] = []
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
        for kind, trial in list(self._seen):
            if kind == "suggested":
                self._recall(trial)
            else:
                self._tell(trial)

    def suggested(self, trial: TrialEvidence) -> Any:
        """What the sampler suggests for this trial's configuration."""
        self._seen.append(("suggested", trial))
        if trial.config_index < self._first:
            self._recall(trial)
            return None
        self._count += 1
        return self._sampler.suggest(trial.config_index)

    def ended(self, trial: TrialEvidence) -> None:
        self._seen.append(("ended", trial))
        self._tell(trial)

    def _begin(self, plan: SweepPlan, first_config_index: int) -> None:
        self._plan, self._first = plan, first_config_index
        first = {"first": first_config_index} if first_config_index else {}
        try:
            settings = plan.part("sampler")
            self._sampler = settings.start(plan.space, seed=plan.settings["seed"], mode=self._sweep.mode, **first)
        except (ConfigError, ImportError) as error:
            raise NotChecked(f"its sampler cannot be built here ({error})") from error

    def _recall(self, trial: TrialEvidence) -> None:
        if trial.repeat == 0 and self._fits(trial):
            self._sampler.recall(trial.config_index, trial.suggested.params)

    def _tell(self, trial: TrialEvidence) -> None:
        """The mean over a configuration's trials once the last of them has ended, as the driver does."""
        if trial.index in self._ended:
            return
        self._ended.add(trial.index)
        value = _value(trial)
        sign = 1.0 if self._sweep.mode == "max" else -1.0
        if value is not None and (self._worst is None or sign * value < sign * self._worst):
            self._worst = value
        members = [member for member in self._groups[trial.config_index] if member.repeat < self._repeat]
        if trial.repeat >= self._repeat or not all(member.index in self._ended for member in members):
            return
        if not self._fits(trial):
            return
        told = [
            self._worst if member.state in (State.DIVERGED, State.INFEASIBLE) else _value(member) for member in members
        ]
        values = [value for value in told if value is not None]
        mean = statistics.fmean(values) if values else None
        self._sampler.observe(trial.config_index, dict(trial.suggested.params), mean)

    def _fits(self, trial: TrialEvidence) -> bool:
        """Whether the sampler is told of it: what is outside a new space is kept for "best" alone."""
        return not self._plan.space.contains(trial.suggested.params)


def _same(given: Mapping[str, Any], suggested: Mapping[str, Any]) -> bool:
    """Whether both are one configuration, but for the last digits of a number: an earlier version may have rounded otherwise."""
    return given.keys() == suggested.keys() and all(_equal(given[key], suggested[key]) for key in given)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return one == other


def _value(trial: TrialEvidence) -> float | None:
    value = trial.terminal.value if trial.terminal else None
    if trial.state in COUNTS and isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None
