"""Whether a claim can be made of a sweep: its trials, their values and epochs, known before any is run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.base.errors import Problem, nearest
from orchestrator.base.groups import GROUPS, OF_COSTS, SEARCHABLE_ARGUMENTS
from orchestrator.config.claims import SEED, Claim, Measure, Reducer
from orchestrator.config.measured import OF_NETWORK, needs_diagnostics
from orchestrator.config.plan import SweepPlan, domain_max, get_key
from orchestrator.space import Choice, Interval, Space
from orchestrator.space.domains import same, spell


def misfits(claim: Claim, plan: SweepPlan) -> list[tuple[str, Problem]]:
    """(key of a configuration, what is wrong with a claim about it in this sweep); empty where it can be evaluated."""
    found: list[tuple[str, Problem]] = []
    for measure in claim.measures():
        found += [(key, Problem(f"claims.{claim.id}.{at}", *why)) for key, at, why in _misfits(measure, plan)]
    return found


def _misfits(measure: Measure, plan: SweepPlan) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    keys = list(plan.space.keys)
    for key, wanted in measure.of.items():
        if key not in keys and not _is_key(key, plan):
            yield (
                key,
                f"of.{key}",
                ("is no key of this sweep's trials", None, nearest(key, [*keys, *GROUPS]), None, tuple(keys)),
            )
            continue
        there = _possible(key, plan)
        for value in alternatives(wanted, there):
            if not any(alike(value, one) for one in there):
                shown = tuple(map(spell, there))
                yield key, f"of.{key}", ("no trial has this value", value, nearest(str(value), shown), None, shown)
    most = _most_epochs(measure, plan)
    for at, epoch in (("at", measure.at), ("chosen_at", measure.chosen_at)):
        if isinstance(epoch, int) and epoch > most:
            yield "epochs", at, (f"no trial has so many epochs; the most are {most}", epoch)
    if needs_diagnostics(measure.metric) and not plan.base.get("diagnostics"):
        yield "diagnostics", "metric", ("is measured by trials with diagnostics: true; set it", measure.metric)
    for key, reducer in measure.over.items():
        if reducer.of is not None:
            yield from _misfits_of_groups(reducer, plan)
        elif key not in keys:
            yield key, f"over.{key}", ("is not searched", None, nearest(key, keys), None, tuple(keys))
    if measure.metric in OF_NETWORK and (uncounted := _uncounted(plan)):
        yield uncounted
    for parameter in plan.space.parameters:
        wanted = alternatives(measure.of.get(parameter.key), _possible(parameter.key, plan))
        told = parameter.key in measure.over or (parameter.key in measure.of and len(wanted) == 1)
        excluded = any(
            condition.key in measure.of
            and not any(map(condition.holds, alternatives(measure.of[condition.key], condition.values)))
            for condition in parameter.conditions
        )
        one_value = isinstance(parameter.domain, Choice) and len(parameter.domain.values) == 1
        if not told and not excluded and not one_value:
            why = "is searched: give its value in `of`, or say in `over` what becomes of its values"
            yield parameter.key, parameter.key, (why,)


def _misfits_of_groups(reducer: Reducer, plan: SweepPlan) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    assert reducer.of is not None
    if SEED in plan.space.keys:
        yield SEED, "over.seed", ("is searched, and groups are of the seeds of `repeat`",)
    elif plan.root.repeat < reducer.of:
        yield "repeat", "over.seed", (f"takes {reducer.of} seeds a group; set repeat to a multiple", plan.root.repeat)


MOST_NETWORKS = 500
"""Different ones of a sweep that are built while it is planned, to count what they cost."""


def networks(plan: SweepPlan) -> Iterator[dict[str, Any]]:
    """The searched values that decide a trial's network, of each network; none where they are too many, or continuous."""
    space, points = _of_networks(plan.space), getattr(plan.part("sampler"), "points", None)
    if (count := space.count(points)) is not None and count <= MOST_NETWORKS:
        yield from space.grid(points)


def _uncounted(plan: SweepPlan) -> tuple[str, str, tuple[Any, ...]] | None:
    """Why the networks of a sweep cannot all be counted while it is planned."""
    space, points = _of_networks(plan.space), getattr(plan.part("sampler"), "points", None)
    count = space.count(points)
    if count is None:
        key = next(p.key for p in space.parameters if p.domain.size is None)
        return key, "metric", (f"is counted before a launch: give {key} single values, with choice(...)",)
    if count > MOST_NETWORKS:
        key = max(space.parameters, key=lambda p: len(_possible(p.key, plan))).key
        why = f"is counted before a launch, and the sweep has {count:,} networks; the most are {MOST_NETWORKS}"
        return key, "metric", (why,)
    return None


def _of_networks(space: Space) -> Space:
    """What decides the networks of trials: the parameters of such groups, and those that their conditions name."""
    deciding = [
        p for p in space.parameters if p.key.partition(".")[0] in OF_COSTS and p.key not in SEARCHABLE_ARGUMENTS
    ]
    keys = {p.key for p in deciding}
    while more := {c.key for p in space.parameters if p.key in keys for c in p.conditions} - keys:
        keys |= more
    return Space(tuple(p for p in space.parameters if p.key in keys))


def _is_key(key: str, plan: SweepPlan) -> bool:
    group, _, name = key.partition(".")
    specs = [plan.base.get(group), *plan.choices.get(group, {}).values()]
    return key in GROUPS or key in plan.base or any(isinstance(spec, Mapping) and name in spec for spec in specs)


def _possible(key: str, plan: SweepPlan) -> list[Any]:
    """The values of a key that trials have."""
    points = getattr(plan.part("sampler"), "points", None)
    domains = [parameter.domain for parameter in plan.space.parameters if parameter.key == key]
    if domains:
        finite = [d for d in domains if not isinstance(d, Interval) or points is not None]
        values = [value for domain in finite for value in domain.grid(points)]
        return [value for place, value in enumerate(values) if not any(same(value, one) for one in values[:place])]
    if key in GROUPS:
        return [plan.base["choices"][key]]
    return [get_key(plan.base, key)]


def _most_epochs(measure: Measure, plan: SweepPlan) -> int:
    """The epochs of the longest trial that a measure may be of."""
    most = domain_max(plan.space, "epochs") or plan.root.epochs
    wanted = alternatives(measure.of.get("epochs", most), [])
    return min(most, max((int(one) for one in wanted if isinstance(one, int | float)), default=most))


def alternatives(wanted: object, there: Sequence[object]) -> Sequence[object]:
    """The values that an entry of `of` stands for: those of a list, unless trials have the list itself as their value."""
    whole = not isinstance(wanted, list | tuple) or any(alike(wanted, one) for one in there)
    return [wanted] if whole else wanted  # type: ignore[return-value]


def alike(one: object, other: object) -> bool:
    """Whether two values of a key are the same, but for the rounding of a float."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other
