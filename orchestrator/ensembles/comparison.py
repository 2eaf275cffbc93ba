"""The record of a comparison: what was compared, what came out, and how sure it is. One JSON file, from which the table, the page
and the MLflow runs are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

from orchestrator.base.decode import COUNT, TIME_MS, Fits
from orchestrator.base.recorded import Spec

FORMAT = 1
RANKING = "ranking"
"""What `sizes` calls the mean of the best members by validation; no method has this name."""

ROUNDING = 1e-9


def _within(low: float, high: float, must: str) -> Fits:
    return Fits(lambda value: type(value) in (int, float) and low <= value <= high, must)


Number = Annotated[float, _within(-1e300, 1e300, "a number")]
Share = Annotated[float, _within(-ROUNDING, 1 + ROUNDING, "a share from 0 to 1")]
NotNegative = Annotated[float, _within(-ROUNDING, 1e300, "0 or more")]
Count = Annotated[int, COUNT]
Total = Annotated[int, Fits(lambda value: type(value) is int and 0 <= value <= 10**24, "a count")]
"""Parameters or multiply-adds of many members."""


class Estimate(TypedDict):
    """A number with its 95 % interval; None where nothing tells."""

    value: Number
    low: Number | None
    high: Number | None


class MemberRecord(TypedDict):
    """A candidate, as `pool.Member`; the same order as in the pool, the best first.

    Args:
        ingredients: of a network of averaged weights, which stands behind the candidates: whose weights, as places.
        evaluate, passes: of a network of one trial that is asked otherwise than that: how (a spec of the group `evaluate`), and
            how often an image goes through it.
        file: of its one ingredient, that has its weights: a snapshot.
    """

    name: str
    params: Mapping[str, Any]
    architecture: str
    configuration: str
    value: Number
    parameters: Total | None
    multiply_adds: Total | None
    val_accuracy: Share
    val_nll: NotNegative
    ingredients: NotRequired[Sequence[int]]
    evaluate: NotRequired[Spec]
    passes: NotRequired[Count]
    file: NotRequired[str]


class SweepRecordOf(TypedDict):
    """A sweep that was compared.

    Args:
        look: the how manyth comparison of this sweep read its test predictions; the first is 1. 0 of a sweep that is read from a
            server which did not record it.
    """

    uid: str
    metric: str
    mode: str
    look: Count


class Scores(TypedDict):
    """Measures of one split, see `measures.measures`; keys accuracy, top5_error, nll, brier, ece, classwise_ece."""

    measures: Mapping[str, Number]
    per_class_accuracy: Sequence[Share | None]
    reliability: Sequence[tuple[Share, Share, Count]]


class Row(TypedDict):
    """A method and its ensemble.

    Args:
        method: the choice in `conf/ensemble`.
        members: places in `members` of the comparison, with `weights`; these say nothing of a stacked ensemble.
        member_temperatures: of its members where temperatures come before pooling, else empty.
        coefficients, intercept: of a stacked ensemble: [member][class of the member][class].
        allowed: whether it is within the budget; others cannot win.
        steps: (place, score) of a selection.
        val: measures of cross-fitted validation predictions, by which the winner is chosen: each example is predicted by an
            ensemble, and with a temperature, that did not see it.
        test: of the test; absent before the winner is fixed.
        accuracy, nll: of the test, with intervals over its examples.
        gain_accuracy, gain_nll: over the best single member, positive where the ensemble is better; Tango's interval for
            accuracy, the paired bootstrap's for NLL.
        gain_over_mean: of accuracy, over the mean of its members; of a network of averaged weights over that of its ingredients.
        gain_over_seeds: of accuracy, over the seeds of one configuration; absent where no configuration has several.
        trainings: how many trials it takes to get there: all candidates that it chose from; of the seeds of one configuration
            these, and one trial of each other configuration.
        p_value, p_holm: McNemar's exact test against the best single member; corrected for the tests of all other methods.
        in_set: whether the test cannot tell it from the most accurate one: it is in the model confidence set, or McNemar's exact
            test against that one, with Holm's correction, does not tell them apart.
        multiply_adds, parameters: of all members together; None where they are not known.
        latency_ms: of a batch of `latency_batch` images on `latency_on`, members one after the other; None where not measured.
        disagreement: mean share of examples on which two members say different classes; `q_statistic`, `kl` likewise. Reported,
            never selected by.
    """

    method: str
    described: str
    members: Sequence[int]
    weights: Sequence[Share]
    pooling: str
    temperature: Number
    member_temperatures: Sequence[Number]
    coefficients: NotRequired[Sequence[Sequence[Sequence[Number]]]]
    intercept: NotRequired[Sequence[Number]]
    allowed: bool
    steps: Sequence[tuple[int, Number]]
    val: Scores
    test: NotRequired[Scores]
    accuracy: NotRequired[Estimate]
    nll: NotRequired[Estimate]
    gain_accuracy: NotRequired[Estimate]
    gain_nll: NotRequired[Estimate]
    gain_over_mean: NotRequired[Number]
    gain_over_seeds: NotRequired[Estimate]
    trainings: NotRequired[Count]
    p_value: NotRequired[Share]
    p_holm: NotRequired[Share]
    in_set: NotRequired[bool]
    parameters: Total | None
    multiply_adds: Total | None
    latency_ms: NotNegative | None
    disagreement: Share | None
    q_statistic: Number | None
    kl: Number | None


class Worst(TypedDict):
    """A test example on which the winner errs with most confidence.

    Args:
        id: the row of the data set.
        said: the winner's class and its probability.
        members: what each of the winner's members says, and how sure it is, in the order of its row; of more than 50 members the
            50 with the largest weights.
    """

    id: Count
    label: int
    said: tuple[int, Share]
    members: Sequence[tuple[int, Share]]


class Comparison(TypedDict):
    """All of it.

    Args:
        uid: the name with 8 hex digits, the folder `comparisons/<uid>` in the runs folder.
        settings: filter, methods, temperature, budget, macs, seed, resamples, as they were given.
        left_out: (name, reason).
        not_tried: (method, reason).
        examples: how many of `val` and `test`.
        rows: of the methods; before the test is read in the order of `conf`, afterwards the best first by test accuracy.
        winner: the method, fixed by validation alone.
        corrected: the best single trial's validation accuracy, `naive`, and `value`, `low`, `high` corrected for having been
            chosen (`correction`); the same of the winner among the methods: `winner_naive`, ...; `seeds`, `seeds_test`: the
            standard deviation of accuracy over seeds of one configuration, None without repeats.
        sizes: for each prefix of the greedy selection and of the ranking by value: (method or `RANKING`, members, test accuracy,
            test nll).
        agreement: members of the winner, at most 50, so ordered that those that agree stand together: places, and the matrix of
            the shares of test examples on which two say different classes.
        confusion: of the winner on the test, rows are labels.
    """

    format: int
    uid: str
    created_ms: Annotated[int, TIME_MS]
    command: Sequence[str]
    settings: Mapping[str, Any]
    sweeps: Sequence[SweepRecordOf]
    classes: Sequence[str]
    fingerprint: str
    examples: Mapping[str, Count]
    members: Sequence[MemberRecord]
    left_out: Sequence[tuple[str, str]]
    not_tried: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    winner: str
    corrected: Mapping[str, Number | None]
    sizes: NotRequired[Sequence[tuple[str, Count, Share, NotNegative]]]
    agreement: NotRequired[tuple[Sequence[int], Sequence[Sequence[Share]]]]
    confusion: NotRequired[Sequence[Sequence[Count]]]
    worst: NotRequired[Sequence[Worst]]
    environment: Mapping[str, str]


def trials_of(members: Sequence[MemberRecord]) -> list[MemberRecord]:
    """The candidates, without the networks that were made of their weights."""
    return [member for member in members if "ingredients" not in member]


def dropped_sweeps(comparison: Comparison) -> dict[str, list[str]]:
    """Sweeps of which no trial is compared, with the reasons, that of most trials first."""
    compared = {sweep["uid"] for sweep in comparison["sweeps"]}
    reasons: dict[str, list[str]] = {}
    for name, reason in comparison["left_out"]:
        sweep = name.rpartition("/")[0] or name
        if sweep not in compared:
            reasons.setdefault(sweep, []).append(reason)
    return {sweep: sorted(found, key=lambda reason: -found.count(reason)) for sweep, found in reasons.items()}


def has_weights(row: Row) -> bool:
    """Whether some members have more weight than others; of a stacked ensemble none has one weight, but coefficients."""
    return row["pooling"] != "stacked" and len(set(row["weights"])) > 1


def network_of(comparison: Comparison, row: Row) -> MemberRecord | None:
    """The network made of weights that is a row's only member; None of another row."""
    members = [comparison["members"][place] for place in row["members"] if 0 <= place < len(comparison["members"])]
    return members[0] if len(members) == 1 and members[0].get("ingredients") else None
