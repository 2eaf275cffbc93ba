"""The searched settings of one choice, tried together: two that are right alone may not go together, and the other way round."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, product
from typing import Any

from orchestrator.base.errors import ConfigError, OrchestratorError, Problem
from orchestrator.base.groups import GROUPS
from orchestrator.config.plan import SweepPlan, trial_config
from orchestrator.space import Condition, Parameter, Space
from orchestrator.space.domains import spell

BUILT_WITH_DATA = ("data", "model")
"""Groups whose targets cannot be had alone, or are dear: their settings are tried one at a time."""

BESIDE = {"schedule": ("epochs",)}
"""Group -> the root keys that its target is told, too."""

MOST = 300
"""So many combinations of a choice are tried in full; where there are more, every pair of values is."""

MOST_PAIRED = 30
"""Of one setting so many values are paired with those of another."""

MOST_TOLD = 4
"""So many refused combinations of a choice are told one by one."""

BUDGET_S = 3.0
"""Seconds for all of them. Each takes well below a millisecond, unless it is code of the user's."""

Settings = Mapping[str, Any]
"""Key -> value, of searched keys."""


@dataclass(frozen=True)
class Combination:
    """Settings of one choice, what else they need in order to apply, and why its target refuses them."""

    settings: Settings
    needs: Settings
    refusal: str | None


@dataclass
class Joint:
    """The searched settings of each choice of a plan, tried together.

    Args:
        clock: in seconds, never backwards.
    """

    made: SweepPlan
    clock: Callable[[], float] = time.monotonic
    _refusals: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        deadline = self.clock() + BUDGET_S
        self._tried: dict[tuple[str, str], list[Combination]] = {}
        for group in GROUPS:
            if group not in BUILT_WITH_DATA and any(_is_of(group, key) for key in self.made.space.keys):
                for choice in _choices(self.made, group):
                    self._tried[group, choice] = list(self._try(group, choice, deadline))

    def problems(self) -> list[Problem]:
        """Each value that no combination takes, and each combination that is refused although its parts are not."""
        return [problem for place, tried in self._tried.items() for problem in self._of_choice(*place, tried)]

    def tells(self, problem: Problem) -> bool:
        """Whether a problem that trying single values showed is among what is told here."""
        place = (problem.key, str(problem.value))
        if place not in self._tried or self._refused_anyway(*place, self._tried[place]):
            return False
        return any(why is not None and problem.why.startswith(why) for why in self._refusals.values())

    def completed(self, params: Settings) -> Settings:
        """The values, beside which those searched settings are set whose defaults do not go with them."""
        for (group, choice), tried in self._tried.items():
            if params.get(group, self.made.base["choices"][group]) != choice:
                continue
            if self._refusal(group, params) is not None:
                params = {
                    **next((c.needs for c in tried if c.refusal is None and _agree(c.needs, params)), {}),
                    **params,
                }
        return params

    def _of_choice(self, group: str, choice: str, tried: Sequence[Combination]) -> list[Problem]:
        if self._refused_anyway(group, choice, tried):
            return []  # told where the choice is tried alone
        causes = _causes(tried)
        problems: list[Problem] = []
        for cause, why in causes[:MOST_TOLD]:
            where = ", ".join(_spelled(cause))
            more = len(causes) - MOST_TOLD
            if more > 0 and len(problems) == MOST_TOLD - 1:
                where += f" and {more} more"
            problems.append(Problem(group, why, choice, where=where, hint=_advice(cause)))
        return problems

    def _refused_anyway(self, group: str, choice: str, tried: Sequence[Combination]) -> bool:
        """Whether a choice is refused for one reason whatever is searched of it."""
        chosen = {group: choice} if group in self.made.space.keys else {}
        return {self._refusal(group, chosen)} == {c.refusal for c in tried}

    def _try(self, group: str, choice: str, deadline: float) -> Iterator[Combination]:
        """The combinations of a choice's settings, each once, for as long as there is time."""
        known: set[str] = set()
        parameters = _concerned(self.made.space, group, choice)
        chosen = {group: choice} if group in self.made.space.keys else {}
        waiting = _few(parameters, chosen) or _pairwise(parameters, chosen)
        for row in waiting:
            for needs in (row, *_neighbours(parameters, row)) if self._refusal(group, row) else (row,):
                if self.clock() >= deadline:
                    return
                settings = {key: value for key, value in needs.items() if _is_of(group, key)}
                text = json.dumps(settings, sort_keys=True)
                if settings and text not in known:
                    known.add(text)
                    yield Combination(settings, needs, self._refusal(group, needs))

    def _refusal(self, group: str, params: Settings) -> str | None:
        """Why the target of a group does not take its arguments; None where it does, and for what is told elsewhere."""
        own = {key: value for key, value in params.items() if key == group or _is_of(group, key)}
        text = json.dumps([group, own], sort_keys=True)
        if text not in self._refusals:
            self._refusals[text] = _refusal(trial_config(self.made, own), group)
        return self._refusals[text]


def _refusal(config: Mapping[str, Any], group: str) -> str | None:
    from orchestrator.training.alone import try_alone

    try:
        try_alone(config, group)
    except ConfigError:
        return None  # an argument that is none, or of another type
    except ValueError as error:
        return str(error)
    except OrchestratorError:
        return None
    except Exception as error:  # a target may be code of the user's, which raises what it likes
        return f"raises {type(error).__name__}: {error}"
    return None


# which combinations there are


def _choices(made: SweepPlan, group: str) -> list[str]:
    """The choices of a group that trials may have."""
    searched = [str(name) for p in made.space.parameters if p.key == group for name in p.domain.ends()]
    always = any(p.key == group and not p.conditions for p in made.space.parameters)
    return list(dict.fromkeys(searched if always else [made.base["choices"][group], *searched]))


def _is_of(group: str, key: str) -> bool:
    return key.startswith(f"{group}.") or key in BESIDE.get(group, ())


def _concerned(space: Space, group: str, choice: str) -> list[Parameter]:
    """The parameters of a choice's settings, and those that their conditions name, in the space's order."""
    keys = {key for key in space.keys if _is_of(group, key)}
    keys |= {c.key for c in _conditions(space.parameters, keys)}
    here = [p for p in space.parameters if p.key in keys - {group}]
    return [p for p in here if all(c.holds(choice) for c in p.conditions if c.key == group)]


def _few(parameters: Sequence[Parameter], chosen: Settings) -> list[dict[str, Any]]:
    """All combinations; none where there are too many."""
    found = list(islice(_all(parameters, parameters, dict(chosen)), MOST + 1))
    return found if len(found) <= MOST else []


def _all(
    parameters: Sequence[Parameter], left: Sequence[Parameter], params: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if not left:
        yield params
        return
    first, *rest = left
    if not first.active(params):
        yield from _all(parameters, rest, params)
        return
    for value in _values(parameters, first):
        yield from _all(parameters, rest, {**params, first.key: value})


def _pairwise(parameters: Sequence[Parameter], chosen: Settings) -> Iterator[dict[str, Any]]:
    """Combinations in which every two values of two settings occur together."""
    covered: set[frozenset[str]] = set()
    for one, other in combinations(parameters, 2):
        for first, second in product(_some(_values(parameters, one)), _some(_values(parameters, other))):
            pair = {one.key: first, other.key: second}
            if frozenset(_spelled(pair)) in covered:
                continue
            row = _filled(parameters, {**chosen, **pair})
            if pair.keys() <= row.keys() and _agree(pair, row):
                covered |= {frozenset(two) for two in combinations(_spelled(row), 2)}
                yield row


def _some(values: Sequence[Any]) -> Sequence[Any]:
    """The values, or so many of them as are paired, with both ends."""
    step = math.ceil(len(values) / MOST_PAIRED)
    return values if step <= 1 else [*values[:-1:step], values[-1]]


def _filled(parameters: Sequence[Parameter], wanted: Settings) -> dict[str, Any]:
    """A combination with the wanted values, if there is one under which they apply."""
    needed = _conditions(parameters, set(wanted))
    params = {key: value for key, value in wanted.items() if all(p.key != key for p in parameters)}
    for parameter in parameters:
        if parameter.active(params):
            values = _values(parameters, parameter)
            fitting = [v for v in values if all(c.holds(v) for c in needed if c.key == parameter.key)]
            params[parameter.key] = wanted.get(parameter.key, (fitting or values)[0])
    return params


def _conditions(parameters: Sequence[Parameter], keys: set[str]) -> list[Condition]:
    """The conditions of the parameters with these keys, and of those that the conditions name."""
    found = [c for p in parameters if p.key in keys for c in p.conditions]
    named = {c.key for c in found}
    return found if named <= keys else _conditions(parameters, keys | named)


def _neighbours(parameters: Sequence[Parameter], row: Settings) -> Iterator[dict[str, Any]]:
    """What differs from a combination in one value on which nothing depends: it shows which of the values are at fault."""
    named = {c.key for p in parameters for c in p.conditions}
    for parameter in parameters:
        if parameter.key in row and parameter.key not in named and parameter.active(row):
            yield from ({**row, parameter.key: value} for value in _some(_values(parameters, parameter)))


def _values(parameters: Sequence[Parameter], parameter: Parameter) -> list[Any]:
    """The ends of a domain, and its values that conditions name."""
    named = [v for p in parameters for c in p.conditions if c.key == parameter.key for v in c.values]
    values = [*parameter.domain.ends(), *(v for v in named if parameter.domain.contains(v))]
    return list({json.dumps(value): value for value in values}.values())


def _agree(one: Settings, other: Settings) -> bool:
    return all(other[key] == value for key, value in one.items() if key in other)


# what is at fault


def _causes(tried: Sequence[Combination]) -> list[tuple[Settings, str]]:
    """The fewest settings that only refused combinations have, with the reason: single values before pairs."""
    accepted = [frozenset(_spelled(c.settings)) for c in tried if c.refusal is None]
    refused = {frozenset(_spelled(c.settings)): c for c in tried if c.refusal is not None}
    left = dict(refused)
    causes: list[tuple[Settings, str]] = []
    for size in range(1, max(map(len, refused), default=0) + 1):
        for part in _faulty(size, left.values(), refused, accepted):
            having = [settings for settings in left if part <= settings]
            if having:
                first = left[having[0]]
                causes.append(({k: v for k, v in first.settings.items() if _spell(k, v) in part}, str(first.refusal)))
            for settings in having:
                del left[settings]
    return causes


def _faulty(
    size: int,
    left: Iterable[Combination],
    refused: Mapping[frozenset[str], Combination],
    accepted: Sequence[frozenset[str]],
) -> list[frozenset[str]]:
    """Parts of that size that no accepted combination has: first those always refused for one reason, then the most frequent."""
    parts = dict.fromkeys(frozenset(part) for c in left for part in combinations(_spelled(c.settings), size))
    faulty = [part for part in parts if not any(part <= settings for settings in accepted)]

    def rank(part: frozenset[str]) -> tuple[bool, int, list[str]]:
        having = [combination.refusal for settings, combination in refused.items() if part <= settings]
        return len(set(having)) > 1, -len(having), sorted(one.partition("=")[0] for one in part)

    return sorted(faulty, key=rank)


def _advice(cause: Settings) -> str | None:
    """What to do where only settings together are refused."""
    if len(cause) < 2:
        return None
    *_, first, last = cause
    parts = " or ".join(_spelled(cause))
    return f"leave out {parts}, or search {last} under a condition on {first} (when: in a search or an experiment)"


def _spelled(settings: Settings) -> list[str]:
    return [_spell(key, value) for key, value in settings.items()]


def _spell(key: str, value: object) -> str:
    return f"{key}={spell(value)}"
