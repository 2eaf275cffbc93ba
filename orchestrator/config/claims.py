"""What an experiment claims of its results: inequalities between measures of the sweep, as plain data, decoded strictly.

A claim is written in the `claims:` list of an experiment:

    - id: E05-22-layers
      lecture: 004 L1976
      says: at 22 layers Kaiming trains and Xavier does not
      left: {metric: val/accuracy, of: {init: kaiming, model.hidden: 21}, over: {optimizer.lr: best}}
      at_least: {metric: val/accuracy, of: {init: xavier, model.hidden: 21}, over: {optimizer.lr: best}}
      margin: 0.05
      piloted: true

It holds where `left >= at_least + margin`, or `left <= at_most + margin`. A side is a number, a measure as above, or a formula of
sides (`FORMULAS`). `claims_of_sweep` checks it against the sweep, `orchestrator.analysis.claims` evaluates it.

`over: {model: ensemble}` pools the predictions of the trials along a key, and `over: {seed: {ensemble: 7}}` those of each seven
seeds in their order. What it is compared with is of the same trials and the same epoch (`at: kept`): `over: {model: mean}`, or
`over: {seed: {mean: 7}}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.base.errors import Problem, nearest
from orchestrator.config.measured import EXAMPLES, better, has_epochs, is_measured
from orchestrator.space.domains import spell

FORMULAS = {"difference": 2, "ratio": 2, "product": 2, "absolute": 1, "max": None, "min": None}
"""Formula -> how many sides it takes; None for one or more."""

REDUCERS = ("best", "worst", "max", "min", "sum", "mean", "median", "argbest", "rise", "fall")
"""What becomes of the values along a searched key. `argbest` is the key's value where the measure is best; `rise` and `fall` are
the largest step up or down from one value of the key to the next."""

SHARED_REDUCERS = ("plateau", "largest")
"""With a share s: how many decades of the key, around the best, have at least s times the best; and the largest such value."""

OF_THE_BEST = ("best", "worst", "argbest", *SHARED_REDUCERS)
"""They go by which way of a metric is better."""

ENSEMBLE = "ensemble"
"""A reducer: the metric of the mean of the members' probabilities, which are stored with the weights that are kept."""

POOLED = ("val/accuracy", "val/nll")
"""What is measured of an ensemble; the test is read once, by trials."""

SEED = "seed"

OF_SEEDS = (ENSEMBLE, "mean", "median", "best", "worst")
"""What may become of groups of seeds: `{ensemble: 7}` of each seven, `{ensemble: 3, of: 7}` of the first three of each seven."""

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")


@dataclass(frozen=True)
class Reducer:
    """
    Args:
        members, of: of groups of seeds: the first so many of each so many.
    """

    name: str
    share: float | None = None
    members: int | None = None
    of: int | None = None

    def __str__(self) -> str:
        if self.members is not None:
            return f"{self.name} of {self.members}" + (f" (of each {self.of})" if self.of != self.members else "")
        return self.name if self.share is None else f"{self.name} of {self.share:g} x best"


@dataclass(frozen=True)
class Measure:
    """A number for each seed.

    Args:
        metric: what `measured.is_measured`.
        at: the epoch: `last`, `best` (the best over the epochs), `kept` (that of the weights that are kept: the best by the
            sweep's metric), or its number. Of ensembles it is `kept`.
        until: count instead the epochs until the metric is as good as this; infinite where it never is.
        of: key -> its value, or a list of values: which trials. Keys are those of a configuration, groups among them. Where
            values are lists, a list is one of them where trials have it, and a list of values otherwise.
        over: searched key -> what becomes of the values along it, the first key first.
        chosen_at: the trial that is best at this epoch is taken along all keys of `over`, and its value is that of `at`; where
            None, the best is that of the values themselves.
    """

    metric: str
    at: str | int = "last"
    until: float | None = None
    chosen_at: int | None = None
    of: Mapping[str, Any] = field(default_factory=dict)
    over: Mapping[str, Reducer] = field(default_factory=dict)

    def __str__(self) -> str:
        name = self.metric if self.until is None else f"epochs until {self.metric} {_sign(self.metric)} {self.until:g}"
        name += (
            "" if self.at == "last" else f" ({self.at} epoch)" if self.at in ("best", "kept") else f" (epoch {self.at})"
        )
        parts = [f"{key}={_values(value)}" for key, value in self.of.items()]
        if self.chosen_at is not None:
            parts.append(f"best at epoch {self.chosen_at} over {' and '.join(self.over)}")
        else:
            parts += [f"{reducer} over {key}" for key, reducer in self.over.items()]
        return f"{name} [{', '.join(parts)}]" if parts else name

    @property
    def pools(self) -> bool:
        """Whether it is of ensembles, and needs predictions."""
        return any(reducer.name == ENSEMBLE for reducer in self.over.values())

    @property
    def group(self) -> Reducer | None:
        """What becomes of groups of seeds; None where each seed is by itself."""
        found = self.over.get(SEED)
        return found if found is not None and found.of is not None else None


@dataclass(frozen=True)
class Formula:
    name: str
    sides: tuple[Side, ...]

    def __str__(self) -> str:
        if self.name in _BETWEEN:
            return f"({_BETWEEN[self.name].join(map(words, self.sides))})"
        return f"{self.name}({', '.join(map(words, self.sides))})"


_BETWEEN = {"difference": " - ", "ratio": " / ", "product": " x "}

Side = float | Measure | Formula


@dataclass(frozen=True)
class Claim:
    """An inequality: `left >= right + margin`, or `left <= right + margin`.

    Args:
        lecture: where it is said.
        says: it, in words.
        piloted: whether it was seen to hold, with this margin, before it was written here.
        every_seed: it must hold in each seed, equality allowed, instead of beyond the chance of seeds.
    """

    id: str
    lecture: str
    says: str
    left: Side
    relation: Literal["at_least", "at_most"]
    right: Side
    margin: float = 0.0
    piloted: bool = False
    every_seed: bool = False

    @property
    def inequality(self) -> str:
        """In words, with the metrics' names."""
        sign = ">=" if self.relation == "at_least" else "<="
        margin = f" {'+' if self.margin > 0 else '-'} {abs(self.margin):g}" if self.margin else ""
        every = f" in every {'group' if self.group else 'seed'}" if self.every_seed else ""
        return f"{words(self.left)} {sign} {words(self.right)}{margin}{every}"

    @property
    def group(self) -> int | None:
        """How many seeds there are in a group; None where each seed is by itself."""
        return next((one.group.of for one in self.measures() if one.group is not None), None)

    def measures(self) -> Iterator[Measure]:
        yield from _measures(self.left)
        yield from _measures(self.right)


def words(side: Side) -> str:
    return f"{side:g}" if isinstance(side, int | float) else str(side)


def _measures(side: Side) -> Iterator[Measure]:
    if isinstance(side, Measure):
        yield side
    elif isinstance(side, Formula):
        for inner in side.sides:
            yield from _measures(inner)


def _sign(metric: str) -> str:
    return ">=" if better(metric) == "max" else "<="


def _values(value: object) -> str:
    return "|".join(map(spell, value)) if isinstance(value, list | tuple) else spell(value)


# From plain data ------------------------------------------------------------------------------------------------------


class ClaimError(ValueError):
    """What is wrong with a claim.

    Args:
        at: the path of keys within it.
    """

    def __init__(self, at: str, why: str, value: object = None, near: str | None = None, known: Sequence[str] = ()):
        super().__init__(f"{at}: {why}")
        self.problem = Problem(at, why, value, near, known=tuple(known))


def decode_claims(written: object) -> list[Claim]:
    """The claims of a list of plain data.

    Raises:
        ClaimError: something in it is none; says where, and what is known there.
    """
    if not isinstance(written, list | tuple):
        raise ClaimError("claims", "must be a list of claims", written)
    found = [_claim(one, f"claims[{place}]") for place, one in enumerate(written)]
    for place, claim in enumerate(found):
        if claim.id in [earlier.id for earlier in found[:place]]:
            raise ClaimError(f"claims[{place}].id", "is the id of two claims", claim.id)
    return found


_CLAIM_KEYS = ("id", "lecture", "says", "left", "at_least", "at_most", "margin", "piloted", "every_seed")
_MEASURE_KEYS = ("metric", "at", "until", "chosen_at", "of", "over")


def _claim(written: object, at: str) -> Claim:
    plain = _mapping(written, at, _CLAIM_KEYS)
    for key in ("id", "lecture", "says", "left"):
        if key not in plain:
            raise ClaimError(at, f"lacks {key}")
    for key in ("id", "lecture", "says"):
        if not isinstance(plain[key], str):
            raise ClaimError(f"{at}.{key}", "must be text", plain[key])
    if not ID.fullmatch(plain["id"]):
        raise ClaimError(f"{at}.id", "must be letters, digits, '.', '_' and '-', at most 61", plain["id"])
    at = f"claims.{plain['id']}"
    relations = [key for key in ("at_least", "at_most") if key in plain]
    if len(relations) != 1:
        raise ClaimError(at, "must have either at_least or at_most: what the left side is compared with")
    for key in ("piloted", "every_seed"):
        if not isinstance(plain.get(key, False), bool):
            raise ClaimError(f"{at}.{key}", "must be true or false", plain[key])
    made = Claim(
        id=plain["id"],
        lecture=plain["lecture"],
        says=plain["says"],
        left=_side(plain["left"], f"{at}.left"),
        relation="at_least" if relations == ["at_least"] else "at_most",
        right=_side(plain[relations[0]], f"{at}.{relations[0]}"),
        margin=_number(plain.get("margin", 0.0), f"{at}.margin"),
        piloted=plain.get("piloted", False),
        every_seed=plain.get("every_seed", False),
    )
    if len({measure.group.of if measure.group else None for measure in made.measures()}) > 1:
        why = "its measures must all be of single seeds, or of groups of equally many: say over: {seed: {mean: 7}} of the others"
        raise ClaimError(at, why)
    return made


def _side(written: object, at: str) -> Side:
    if not isinstance(written, Mapping):
        return _number(written, at)
    if "metric" in written:
        return _measure(written, at)
    plain = _mapping(written, at, ("metric", *FORMULAS))
    if len(plain) != 1:
        raise ClaimError(
            at, "must be a number, a measure ({metric: ..., of: ...}) or one formula", known=list(FORMULAS)
        )
    (name, inner) = next(iter(plain.items()))
    sides = inner if isinstance(inner, list | tuple) else [inner]
    if not sides or len(sides) != (FORMULAS[name] or len(sides)):
        raise ClaimError(f"{at}.{name}", f"takes {FORMULAS[name] or 'one or more'} sides, got {len(sides)}")
    return Formula(name, tuple(_side(side, f"{at}.{name}") for side in sides))


def _measure(written: Mapping[str, Any], at: str) -> Measure:
    plain = _mapping(written, at, _MEASURE_KEYS)
    metric = plain["metric"]
    if not is_measured(metric):
        raise ClaimError(f"{at}.metric", "is not measured", metric, nearest(str(metric), EXAMPLES), EXAMPLES)
    epoch = plain.get("at", "last")
    if epoch not in ("last", "best", "kept") and not _is_epoch(epoch):
        raise ClaimError(f"{at}.at", "must be last, best, kept or the number of an epoch", epoch)
    until, chosen_at = plain.get("until"), plain.get("chosen_at")
    if chosen_at is not None and not _is_epoch(chosen_at):
        raise ClaimError(f"{at}.chosen_at", "must be the number of an epoch", chosen_at)
    over = _mapping(plain.get("over", {}), f"{at}.over")
    measure = Measure(
        metric=metric,
        at=epoch,
        until=None if until is None else _number(until, f"{at}.until"),
        chosen_at=chosen_at,
        of=_mapping(plain.get("of", {}), f"{at}.of"),
        over={key: _reducer(value, f"{at}.over.{key}", key) for key, value in over.items()},
    )
    for key, why in _without_meaning(measure, plain):
        raise ClaimError(f"{at}.{key}", why, plain.get(key))
    return _checked_ensemble(measure, at, given="at" in plain) if measure.pools else measure


def _is_epoch(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _without_meaning(measure: Measure, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, why) of what a measure gives and cannot have."""
    epochs = [key for key in ("at", "until", "chosen_at") if key in given]
    if epochs and not has_epochs(measure.metric):
        yield epochs[0], f"has no meaning: {measure.metric} is not measured in each epoch"
    if len(epochs) > 1 and "until" in epochs:
        yield epochs[0] if epochs[0] != "until" else epochs[1], "has no meaning with until"
    if measure.chosen_at is not None and {one.name for one in measure.over.values()} != {"best"}:
        yield "chosen_at", "chooses the best trial: give the searched keys as best in `over`"
    if better(measure.metric) is None:
        why = f"neither more nor less of {measure.metric} is better: "
        if measure.at == "best" or "until" in given or "chosen_at" in given:
            yield next(key for key in epochs if given[key] is not None), f"{why}give the number of an epoch in `at`"
        for key, reducer in measure.over.items():
            if reducer.name in OF_THE_BEST:
                yield f"over.{key}", f"{why}take max, min, mean or median"


def _checked_ensemble(measure: Measure, at: str, *, given: bool) -> Measure:
    """A measure of ensembles, whose epoch is that of the weights that are kept.

    Args:
        given: whether it says an epoch.
    """
    if measure.metric not in POOLED:
        raise ClaimError(f"{at}.metric", "is not measured of ensembles", measure.metric, known=POOLED)
    if measure.until is not None:
        raise ClaimError(f"{at}.until", "has no meaning for ensembles: of one epoch alone predictions are stored")
    if given and measure.at != "kept":
        why = "of ensembles must be kept, or left out: the predictions that are stored are of the weights that are kept"
        raise ClaimError(f"{at}.at", why, measure.at)
    names = [reducer.name for reducer in measure.over.values()]
    if ENSEMBLE in names[names.count(ENSEMBLE) :]:
        raise ClaimError(f"{at}.over", "must name keys with ensemble first: what is reduced has no predictions")
    return replace(measure, at="kept")


def _reducer(written: object, at: str, key: str) -> Reducer:
    known = [*REDUCERS, ENSEMBLE, *(f"{{{name}: 0.8}}" for name in SHARED_REDUCERS)]
    if key == SEED:
        known += [f"{{{name}: 7}}" for name in OF_SEEDS]
    if key == SEED and written == ENSEMBLE:
        raise ClaimError(at, "must say of how many seeds, such as {ensemble: 7}", written)
    if isinstance(written, str) and written in (*REDUCERS, ENSEMBLE):
        return Reducer(written)
    if isinstance(written, Mapping) and key == SEED and next(iter(written), None) in OF_SEEDS:
        return _group(written, at)
    if isinstance(written, Mapping) and len(written) == 1:
        name, share = next(iter(written.items()))
        if name in SHARED_REDUCERS:
            share = _number(share, f"{at}.{name}")
            if not 0 < share <= 1:
                raise ClaimError(f"{at}.{name}", "must be above 0 and at most 1", share)
            return Reducer(str(name), share)
    near = nearest(written, REDUCERS) if isinstance(written, str) else None
    raise ClaimError(at, "is no way to reduce a key's values to one", written, near, known)


def _group(written: Mapping[str, Any], at: str) -> Reducer:
    """`{ensemble: 3, of: 7}`; without `of` the groups have as many seeds as members."""
    name, members = next(iter(written.items()))
    plain = _mapping(written, at, (name, "of"))
    of = plain.get("of", members)
    for entry, count in ((name, members), ("of", of)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ClaimError(f"{at}.{entry}", "must be how many seeds, 1 or more", count)
    if members > of:
        raise ClaimError(f"{at}.{name}", f"must be at most the {of} seeds of a group", members)
    return Reducer(name, members=members, of=of)


def _number(written: object, at: str) -> float:
    if isinstance(written, bool) or not isinstance(written, int | float):
        raise ClaimError(at, "must be a number", written)
    if not math.isfinite(written):
        raise ClaimError(at, "must be a finite number", written)
    return float(written)


def _mapping(written: object, at: str, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(written, Mapping):
        raise ClaimError(at, "must be a mapping", written)
    for key in written:
        if not isinstance(key, str) or (known is not None and key not in known):
            raise ClaimError(f"{at}.{key}", "unknown key", near=nearest(str(key), known or ()), known=known or ())
    return written
