"""Whether what an experiment claims holds in its sweep: a record in, a row for each claim out. Pure functions.

Each side of a claim is worked out for each seed by itself; a seed counts where it has every point along the keys of `over`. Shown
are the medians over seeds. What decides is the 95 % interval of `left - right - margin`: Student's t over the differences
of seeds that both sides share, Welch's where they share none, and the range of the seeds where a value is infinite.
A trial that diverged is a result and not missing: it has the accuracy of chance and an infinite loss. A claim is undecided
where the interval holds 0, where a run is missing, and where one seed gives no interval.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from orchestrator.analysis.intervals import t_quantile, welch
from orchestrator.base.groups import GROUPS
from orchestrator.base.records import State
from orchestrator.config.claims import (
    MEASURED,
    Claim,
    ClaimError,
    Measure,
    Reducer,
    Side,
    alike,
    alternatives,
    decode_claims,
)
from orchestrator.config.plan import SweepPlan, get_key
from orchestrator.journal.record import SweepRecord, TrialRecord, is_number

Outcome = Literal["holds", "does not hold", "undecided"]
HOLDS: Outcome = "holds"
FAILS: Outcome = "does not hold"
UNDECIDED: Outcome = "undecided"

ENDED = ("finished", "exhausted")
"""The reasons for which a sweep is closed that leave no run out."""

RANGE = "range of the seeds"

Seeds = Mapping[int, float]
"""Seed -> value."""


@dataclass(frozen=True)
class Verdict:
    """What a claim came to.

    Args:
        left, right: medians over seeds; None where there is no trial.
        low, high: the interval of left - right - margin; None where there is none.
        interval: how it was made.
        n: seeds that decide.
        why: why it is undecided; "" otherwise.
    """

    claim: Claim
    verdict: Outcome
    left: float | None = None
    right: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n: int = 0
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain data; what is infinite is a text."""
        claim = self.claim
        numbers = {"left": self.left, "right": self.right, "low": self.low, "high": self.high}
        return {
            "id": claim.id,
            "lecture": claim.lecture,
            "says": claim.says,
            "inequality": claim.inequality,
            **{name: value if value is None or math.isfinite(value) else str(value) for name, value in numbers.items()},
            "margin": claim.margin,
            "piloted": claim.piloted,
            "interval": self.interval,
            "n": self.n,
            "verdict": self.verdict,
            "why": self.why,
        }


def verdicts(record: SweepRecord, *, closed_for: str | None = None) -> list[Verdict]:
    """One for each claim that the sweep's plan records, in its order.

    Args:
        record: with the epochs of its trials (`keep_epochs`).
        closed_for: why the sweep ends, where the record does not say so yet.
    """
    if not record.plan or '"claims"' not in record.plan:
        return []
    plan = SweepPlan.from_json(record.plan)
    reason = closed_for or (record.closed.reason if record.closed else None)
    try:
        claims = decode_claims(plan.claims)
    except ClaimError:  # a newer version wrote them
        return []
    return [_verdict(claim, _Trials(record, plan), reason) for claim in claims]


class _MissingError(Exception):
    """A side has no value; says why."""


def _verdict(claim: Claim, trials: _Trials, reason: str | None) -> Verdict:
    try:
        left, right = trials.side(claim.left), trials.side(claim.right)
        if reason not in ENDED:
            missing = f"the sweep {'was ended: ' + reason if reason else 'has not ended'}"
            return Verdict(claim, UNDECIDED, left=_median(left), right=_median(right), why=missing)
    except _MissingError as error:
        return Verdict(claim, UNDECIDED, why=str(error))
    shared, differences = _differences(left, right, claim.margin)
    low, high, how = _interval(left, right, claim.margin, differences)
    sides = [one for one in (left, right) if not isinstance(one, float)]
    n = len(shared) or min(map(len, sides), default=0)
    made = Verdict(claim, UNDECIDED, _median(left), _median(right), low, high, how, n)
    if any(map(math.isnan, differences)):
        return replace(made, why="both sides are infinite")
    sign = 1.0 if claim.relation == "at_least" else -1.0
    if claim.every_seed and shared:
        verdict = HOLDS if all(sign * one >= 0 for one in differences) else FAILS
        return replace(made, verdict=verdict, low=min(differences), high=max(differences), interval=RANGE)
    if low is None or high is None:
        return replace(made, why="one seed, or infinite values, give no interval")
    near, far = (low, high) if sign > 0 else (-high, -low)
    if near <= 0 <= far:
        return replace(made, why="the interval holds 0")
    return replace(made, verdict=HOLDS if near > 0 else FAILS)


def _median(side: Seeds | float) -> float:
    return side if isinstance(side, float) else statistics.median(side.values())


def _differences(left: Seeds | float, right: Seeds | float, margin: float) -> tuple[list[int], list[float]]:
    """The seeds that both sides have, a number having all, and left - right - margin of each."""
    seeds = [set(side) for side in (left, right) if not isinstance(side, float)]
    shared = sorted(set.intersection(*seeds)) if seeds else []
    return shared, [_at(left, seed) - _at(right, seed) - margin for seed in shared]


def _at(side: Seeds | float, seed: int) -> float:
    return side if isinstance(side, float) else side[seed]


def _interval(
    left: Seeds | float, right: Seeds | float, margin: float, differences: Sequence[float]
) -> tuple[float | None, float | None, str]:
    """Its two ends, and how it was made."""
    if any(not math.isfinite(one) for one in differences):
        known = [one for one in differences if not math.isnan(one)]
        return (min(known), max(known), RANGE) if known else (None, None, "")
    if not differences and not isinstance(left, float) and not isinstance(right, float):
        if max(len(left), len(right)) < 2 or not all(map(math.isfinite, [*left.values(), *right.values()])):
            return None, None, ""
        low, high = welch([*left.values()], [*right.values()])
        return low - margin, high - margin, "Welch's t"
    if len(differences) < 2:
        return None, None, ""
    mean, half = statistics.fmean(differences), t_quantile(len(differences) - 1) * statistics.stdev(differences)
    half /= math.sqrt(len(differences))
    return mean - half, mean + half, "t over seeds"


# Sides ----------------------------------------------------------------------------------------------------------------


class _Trials:
    """The trials of a sweep, of which sides are made."""

    def __init__(self, record: SweepRecord, plan: SweepPlan) -> None:
        self._trials = [record.trials[index] for index in sorted(record.trials)]
        self._repeat = int(plan.settings.get("repeat") or 1)
        self._classes = int(plan.facts.get("num_classes") or 10)

    def side(self, side: Side) -> Seeds | float:
        """A number, or one for each seed.

        Raises:
            _MissingError: a run is missing.
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
            raise _MissingError(f"the measures of {side} share no seed")
        return {seed: apply([_at(part, seed) for part in parts]) for seed in sorted(shared)}

    def _measured(self, measure: Measure) -> Seeds:
        chosen = [trial for trial in self._trials if _fits(trial, measure.of)]
        if not chosen:
            raise _MissingError(f"there is no trial for {measure}")
        if len({trial.config_index for trial in chosen}) > len({_along(trial, measure) for trial in chosen}):
            raise _MissingError(f"several configurations fit {measure}")
        by_seed: dict[int, list[TrialRecord]] = defaultdict(list)
        for trial in chosen:
            by_seed[int(trial.config.get("seed", trial.repeat))].append(trial)
        complete = _complete(by_seed, measure)
        if len(by_seed) < self._repeat:
            raise _MissingError(f"{self._repeat - len(by_seed)} of {self._repeat} seeds are missing for {measure}")
        if len(complete) < self._repeat:
            keys = " and ".join(measure.over)
            raise _MissingError(f"{len(complete)} of {self._repeat} seeds have every value of {keys} for {measure}")
        return {
            seed: _reduced([(trial, self._value(trial, measure)) for trial in trials], measure)
            for seed, trials in complete.items()
        }

    def _value(self, trial: TrialRecord, measure: Measure) -> float:
        """A trial's number before anything is reduced."""
        if trial.state is State.DIVERGED:
            return _first_reach(trial, measure) if measure.until is not None else self._of_chance(measure.metric)
        if trial.state not in (State.COMPLETED, State.STOPPED):
            raise _MissingError(f"trial {trial.index} {'has not ended' if not trial.ended else f'is {trial.state}'}")
        if measure.until is not None:
            return _first_reach(trial, measure)
        if measure.metric.startswith("test/"):
            found: object = trial.metrics.get(measure.metric)
            if not is_number(found):
                raise _MissingError(f"trial {trial.index} has no {measure.metric}")
            return float(found)
        curve = _curve(trial, measure.metric)
        if not curve:
            raise _MissingError(f"trial {trial.index} has no {measure.metric}")
        if measure.at == "best":
            return max(curve.values()) if MEASURED[measure.metric] == "max" else min(curve.values())
        epoch = max(curve) if measure.at == "last" else measure.at
        if epoch not in curve:
            raise _MissingError(f"trial {trial.index} has no epoch {epoch}")
        return curve[int(epoch)]

    def _of_chance(self, metric: str) -> float:
        """What a trial that diverged counts as."""
        if metric in ("gap", "images_per_s"):
            return 0.0
        if MEASURED[metric] == "min":
            return math.inf
        return min(1.0, (5 if "top5" in metric else 1) / self._classes)


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


def _first_reach(trial: TrialRecord, measure: Measure) -> float:
    """The epoch at which the metric is as good as asked for; infinite where it never is."""
    assert measure.until is not None
    sign = 1 if MEASURED[measure.metric] == "max" else -1
    reached = [epoch for epoch, value in _curve(trial, measure.metric).items() if sign * value >= sign * measure.until]
    return float(min(reached, default=math.inf))


# Along searched keys --------------------------------------------------------------------------------------------------


def _complete(by_seed: Mapping[int, list[TrialRecord]], measure: Measure) -> dict[int, list[TrialRecord]]:
    """The seeds with every point along the keys that are reduced: a few configurations may have been given more seeds."""
    others = replace(measure, over={key: reducer for key, reducer in measure.over.items() if key != "seed"})
    points = {seed: {_along(trial, others) for trial in trials} for seed, trials in by_seed.items()}
    every = set.union(*points.values())
    return {seed: trials for seed, trials in by_seed.items() if points[seed] == every}


def _reduced(rows: Sequence[tuple[TrialRecord, float]], measure: Measure) -> float:
    """The one number of a seed."""
    table = {_along(trial, measure): value for trial, value in reversed(rows)}
    upward = MEASURED[measure.metric] == "max" and measure.until is None
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
        "mean": statistics.fmean,
        "median": statistics.median,
    }
    if reducer.name in simple:
        return float(simple[reducer.name](values))
    if not all(is_number(at) for at, _ in points):
        raise _MissingError(f"{reducer} needs a key of numbers")
    ordered = sorted(points)
    if reducer.name in ("rise", "fall"):
        sign = 1 if reducer.name == "rise" else -1
        return max((sign * (b - a) for (_, a), (_, b) in pairwise(ordered)), default=0.0)
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
        raise _MissingError("a plateau in decades needs a key above 0")
    first = last = ordered.index(best)
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(ordered) and good[last + 1]:
        last += 1
    return math.log10(ordered[last][0] / ordered[first][0])


# In words -------------------------------------------------------------------------------------------------------------

HEADS = ("claim", "verdict", "left", "right", "interval", "n")

LEGEND = "left and right (with its margin): medians over n seeds; interval: of left - right - margin over seeds, 95 %"


def claim_row(verdict: Verdict) -> tuple[str, ...]:
    """A claim's cells under `HEADS`."""
    margin = f" {verdict.claim.margin:+g}" if verdict.claim.margin else ""
    sign = ">=" if verdict.claim.relation == "at_least" else "<="
    right = "" if verdict.right is None else f"{sign} {shown(verdict.right)}{margin}"
    return (
        verdict.claim.id,
        verdict.verdict,
        shown(verdict.left),
        right,
        interval_words(verdict),
        str(verdict.n) if verdict.n else "",
    )


def shown(value: float | None) -> str:
    """A side in four digits."""
    return "" if value is None else f"{value:.4g}"


def interval_words(verdict: Verdict) -> str:
    """`-0.0123 to 0.456`; nothing where there is none, as `why` says."""
    if verdict.low is None or verdict.high is None:
        return ""
    return f"{verdict.low:.3g} to {verdict.high:.3g}"


def tally(found: Sequence[Verdict]) -> str:
    """`4 claims: 3 hold, 1 undecided`."""
    counts = {"hold": HOLDS, "do not hold": FAILS, "undecided": UNDECIDED}
    told = [f"{n} {name}" for name, verdict in counts.items() if (n := sum(one.verdict == verdict for one in found))]
    return f"{len(found)} claim{'s' if len(found) != 1 else ''}" + (f": {', '.join(told)}" if told else "")
