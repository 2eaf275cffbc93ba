"""What the sides of a claim come to: a number for each seed, of the trials of a sweep's record. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from orchestrator.analysis.pooled import NoMemberError, Predictions, ensemble, groups_of_seeds
from orchestrator.base.costs import key_of, known_costs
from orchestrator.base.groups import GROUPS
from orchestrator.base.records import State
from orchestrator.config.claims import ENSEMBLE, SEED, Measure, Reducer, Side
from orchestrator.config.claims_of_sweep import alike, alternatives
from orchestrator.config.measured import FIRST, LAST, OF_NETWORK, better, needs_diagnostics, of_layer
from orchestrator.config.plan import SweepPlan, get_key
from orchestrator.journal.record import SweepRecord, TrialRecord, is_number

Seeds = Mapping[int, float]
"""Seed, or number of a group of seeds -> value."""


class MissingError(Exception):
    """A side has no value; says why."""


class Trials:
    """The trials of a sweep, of which sides are made."""

    def __init__(self, record: SweepRecord, plan: SweepPlan, predictions: Predictions | None = None) -> None:
        self._trials = [record.trials[index] for index in sorted(record.trials)]
        self._repeat = int(plan.settings.get("repeat") or 1)
        self._classes = int(plan.facts.get("num_classes") or 10)
        self._predictions = predictions
        self._ensembles: dict[tuple[int, ...], Mapping[str, float]] = {}
        self._costs = known_costs(plan.facts, {key_of(trial.config) for trial in self._trials})

    def side(self, side: Side) -> Seeds | float:
        """A number, or one for each seed.

        Raises:
            MissingError: a run is missing.
        """
        if isinstance(side, int | float):
            return float(side)
        if isinstance(side, Measure):
            return self._measured(side)
        parts = [self.side(one) for one in side.sides]
        seeds = [set(part) for part in parts if not isinstance(part, float)]
        apply = _FORMULAS[side.name]
        if not seeds:
            return apply([part for part in parts if isinstance(part, float)])
        if not (shared := set.intersection(*seeds)):
            raise MissingError(f"the measures of {side} share no seed")
        return {seed: apply([at_seed(part, seed) for part in parts]) for seed in sorted(shared)}

    def _measured(self, measure: Measure) -> Seeds:
        chosen = [trial for trial in self._trials if _fits(trial, measure.of)]
        if not chosen:
            raise MissingError(f"there is no trial for {measure}")
        by_itself = _of_one_seed(measure) if measure.group else measure
        if len({trial.config_index for trial in chosen}) > len({_along(trial, by_itself) for trial in chosen}):
            raise MissingError(f"several configurations fit {measure}")
        by_seed: dict[int, list[TrialRecord]] = defaultdict(list)
        for trial in chosen:
            by_seed[int(trial.config.get("seed", trial.repeat))].append(trial)
        complete = _complete(by_seed, measure)
        if len(by_seed) < self._repeat:
            raise MissingError(f"{self._repeat - len(by_seed)} of {self._repeat} seeds are missing for {measure}")
        if len(complete) < self._repeat:
            keys = " and ".join(measure.over)
            raise MissingError(f"{len(complete)} of {self._repeat} seeds have every value of {keys} for {measure}")
        units = groups_of_seeds(complete, measure.group) if measure.group else complete
        if not units:
            raise MissingError(f"{len(complete)} seeds are no whole group for {measure}")
        return {unit: self._of_unit(trials, measure) for unit, trials in units.items()}

    def _of_unit(self, trials: Sequence[TrialRecord], measure: Measure) -> float:
        """The one number of the trials of a seed, or of a group of seeds."""
        if measure.pools:
            return self._of_ensembles(trials, measure)
        if measure.chosen_at is None:
            table = {_along(trial, measure): self._value(trial, measure) for trial in reversed(trials)}
            return _reduced(table, measure)
        then = replace(measure, at=measure.chosen_at)
        sign = 1 if better(measure.metric) == "max" else -1
        return self._value(max(trials, key=lambda trial: sign * self._value(trial, then)), measure)

    def _of_ensembles(self, trials: Sequence[TrialRecord], measure: Measure) -> float:
        rest = replace(measure, over={key: one for key, one in measure.over.items() if one.name != ENSEMBLE})
        members: dict[tuple[Any, ...], dict[tuple[Any, ...], TrialRecord]] = defaultdict(dict)
        for trial in trials:
            members[_along(trial, rest)].setdefault(_along(trial, measure), trial)
        return _reduced({along: self._ensemble([*ones.values()], measure) for along, ones in members.items()}, rest)

    def _ensemble(self, members: Sequence[TrialRecord], measure: Measure) -> float:
        if self._predictions is None:
            raise MissingError("predictions are not read here")
        key = tuple(sorted(trial.index for trial in members))
        if key not in self._ensembles:
            try:
                self._ensembles[key] = ensemble(members, self._predictions)
            except NoMemberError as error:
                raise MissingError(str(error)) from error
        return self._ensembles[key][measure.metric]

    def _value(self, trial: TrialRecord, measure: Measure) -> float:
        """A trial's number before anything is reduced."""
        diverged, metric = trial.state is State.DIVERGED, measure.metric
        if not diverged and trial.state not in (State.COMPLETED, State.STOPPED):
            raise MissingError(f"trial {trial.index} {'has not ended' if not trial.ended else f'is {trial.state}'}")
        if metric in OF_NETWORK:
            return self._of_network(trial, metric)
        if metric == "epochs":
            return float(trial.epoch)
        if needs_diagnostics(metric):
            return _looked_at(trial, measure)
        if measure.until is not None:
            return _first_reach(trial, measure)
        if diverged:
            return self._of_chance(metric)
        if metric.startswith("test/"):
            found: object = trial.metrics.get(metric)
            if not is_number(found):
                raise MissingError(f"trial {trial.index} has no {metric}")
            return float(found)
        return _at_epoch(trial, measure, _curve(trial, metric))

    def _of_network(self, trial: TrialRecord, metric: str) -> float:
        parameters, macs = self._costs.get(key_of(trial.config), (None, None))
        found = parameters if metric == "parameters" else macs
        if found is None:
            raise MissingError(f"the {metric} of trial {trial.index} were not counted when the sweep was planned")
        return float(found)

    def _of_chance(self, metric: str) -> float:
        """What a trial that diverged counts as."""
        if metric in ("gap", "images_per_s"):
            return 0.0
        if better(metric) == "min":
            return math.inf
        return min(1.0, (5 if "top5" in metric else 1) / self._classes)


def at_seed(side: Seeds | float, seed: int) -> float:
    """What a side is in a seed; a number is the same in all."""
    return side if isinstance(side, float) else side[seed]


def _ratio(sides: Sequence[float]) -> float:
    above, below = sides
    return above / below if below else math.copysign(math.inf, above) if above else math.nan


_FORMULAS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "difference": lambda sides: sides[0] - sides[1],
    "ratio": _ratio,
    "product": lambda sides: sides[0] * sides[1],
    "absolute": lambda sides: abs(sides[0]),
    "max": max,
    "min": min,
}


def _fits(trial: TrialRecord, of: Mapping[str, Any]) -> bool:
    return all(_is_one(value_of(trial, key), wanted) for key, wanted in of.items())


def _is_one(value: object, wanted: object) -> bool:
    return any(alike(one, value) for one in alternatives(wanted, [value]))


def value_of(trial: TrialRecord, key: str) -> Any:
    """What a trial's configuration has under a key; of a group, the name of its choice."""
    if key in trial.params:
        return trial.params[key]
    return trial.config.get("choices", {}).get(key) if key in GROUPS else get_key(trial.config, key)


def _curve(trial: TrialRecord, metric: str) -> dict[int, float]:
    """Epoch -> value; what is not finite is infinite."""
    if metric == "gap":
        train, val = _curve(trial, "train/accuracy"), _curve(trial, "val/accuracy")
        return {epoch: train[epoch] - val[epoch] for epoch in train if epoch in val}
    found = {}
    for epoch in trial.epochs:
        if metric in epoch["metrics"]:
            value = epoch["metrics"][metric]
            found[int(epoch["epoch"])] = float(value) if is_number(value) else math.inf
    return found


def _at_epoch(trial: TrialRecord, measure: Measure, curve: Mapping[int, float]) -> float:
    if not curve:
        raise MissingError(f"trial {trial.index} has no {measure.metric}")
    if measure.at == "best":
        return max(curve.values()) if better(measure.metric) == "max" else min(curve.values())
    epoch = max(curve) if measure.at == "last" else trial.best_epoch if measure.at == "kept" else int(measure.at)
    if epoch is None or epoch not in curve:
        raise MissingError(f"trial {trial.index} has no epoch {measure.at if epoch is None else epoch}")
    return curve[epoch]


def _looked_at(trial: TrialRecord, measure: Measure) -> float:
    """A metric of `diagnostics=true`. An epoch lacks it where it was not finite or its layer was skipped; no other stands for it.

    Of a trial that diverged, what was measured before counts, but it has no last epoch.
    """
    curve = _looked_at_curve(trial, measure.metric)
    if measure.metric.startswith("init/"):
        return curve[min(curve)]  # of the first step alone
    if measure.until is not None:
        return _first_reach(trial, measure)
    if trial.state is State.DIVERGED and not isinstance(measure.at, int):
        raise MissingError(f"trial {trial.index} diverged, and has no last epoch for {measure.metric}")
    if measure.at == "last" and max(curve) != trial.epoch:
        raise MissingError(
            f"trial {trial.index} has no {measure.metric} in its last epoch: it was not finite, or not reached"
        )
    return _at_epoch(trial, measure, curve)


def _looked_at_curve(trial: TrialRecord, metric: str) -> dict[int, float]:
    """Epoch -> value. `first` and `last` are those of the layers that the step of an epoch reached."""
    asked, curve, layers = of_layer(metric), {}, dict[str, None]()
    for epoch in trial.epochs:
        names = [one for name in epoch["metrics"] if asked and (one := of_layer(name)) and one.prefix == asked.prefix]
        reached = list(dict.fromkeys(one.layer for one in names))
        layers |= dict.fromkeys(reached)
        own = metric
        if asked and asked.layer in (FIRST, LAST) and reached:
            own = str(asked._replace(layer=reached[0 if asked.layer == FIRST else -1]))
        if is_number(value := epoch["metrics"].get(own)):
            curve[int(epoch["epoch"])] = float(value)
    if not curve:
        there = f": its layers are {', '.join(layers)}" if layers else ""
        raise MissingError(f"trial {trial.index} has no {metric}{there}")
    return curve


def _first_reach(trial: TrialRecord, measure: Measure) -> float:
    """The epoch at which the metric is as good as asked for; infinite where it never is."""
    assert measure.until is not None
    sign = 1 if better(measure.metric) == "max" else -1
    curve = (_looked_at_curve if needs_diagnostics(measure.metric) else _curve)(trial, measure.metric)
    reached = [epoch for epoch, value in curve.items() if sign * value >= sign * measure.until]
    return float(min(reached, default=math.inf))


# Along searched keys --------------------------------------------------------------------------------------------------


def _complete(by_seed: Mapping[int, list[TrialRecord]], measure: Measure) -> dict[int, list[TrialRecord]]:
    """The seeds with every point along the keys that are reduced: a few configurations may have been given more seeds."""
    others = _of_one_seed(measure)
    points = {seed: {_along(trial, others) for trial in trials} for seed, trials in by_seed.items()}
    every = set.union(*points.values())
    return {seed: trials for seed, trials in by_seed.items() if points[seed] == every}


def _of_one_seed(measure: Measure) -> Measure:
    return replace(measure, over={key: reducer for key, reducer in measure.over.items() if key != SEED})


def _reduced(table: Mapping[tuple[Any, ...], float], measure: Measure) -> float:
    """One number of a table of the values along the keys."""
    upward = better(measure.metric) == "max" and measure.until is None
    for reducer in measure.over.values():
        along: dict[tuple[Any, ...], list[tuple[Any, float]]] = defaultdict(list)
        for (first, *rest), value in table.items():
            along[tuple(rest)].append((first, value))
        table = {rest: _reduce(reducer, points, upward=upward) for rest, points in along.items()}
    return table[()]


def _along(trial: TrialRecord, measure: Measure) -> tuple[Any, ...]:
    """Its values of the keys that are reduced."""
    return tuple(_hashable(value_of(trial, key)) for key in measure.over)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _reduce(reducer: Reducer, points: Sequence[tuple[Any, float]], *, upward: bool) -> float:
    """What becomes of the values along one key, of which larger ones are better with `upward`."""
    values = [value for _, value in points]
    simple: dict[str, Callable[[Sequence[float]], float]] = {
        "best": max if upward else min,
        "worst": min if upward else max,
        "max": max,
        "min": min,
        "sum": math.fsum,
        "mean": statistics.fmean,
        "median": statistics.median,
    }
    if reducer.name in simple:
        return float(simple[reducer.name](values))
    if not all(is_number(at) for at, _ in points):
        raise MissingError(f"{reducer} needs a key of numbers")
    ordered = sorted(points)
    if reducer.name in ("rise", "fall"):
        sign = 1 if reducer.name == "rise" else -1
        return max((sign * (b - a) if a != b else 0.0 for (_, a), (_, b) in pairwise(ordered)), default=0.0)
    best = max(ordered, key=lambda point: point[1] if upward else -point[1])
    if reducer.name == "argbest":
        return float(best[0])
    return _within_share(reducer, ordered, best)


def _within_share(reducer: Reducer, ordered: Sequence[tuple[float, float]], best: tuple[float, float]) -> float:
    """The decades of the plateau around the best, or the largest value of the key, with at least a share of the best."""
    assert reducer.share is not None
    good = [value >= reducer.share * best[1] for _, value in ordered]
    if reducer.name == "largest":
        return float(max(at for (at, _), inside in zip(ordered, good, strict=True) if inside))
    if ordered[0][0] <= 0:
        raise MissingError("a plateau in decades needs a key above 0")
    first = last = ordered.index(best)
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(ordered) and good[last + 1]:
        last += 1
    return math.log10(ordered[last][0] / ordered[first][0])
