"""Whether what an experiment claims holds in its sweep: a record in, a row for each claim out. Pure functions.

Each side of a claim is worked out for each seed by itself; a seed counts where it has every point along the keys of `over`. Shown
are the medians over seeds. What decides is the 95 % interval of `left - right - margin`: Student's t over the differences
of seeds that both sides share, Welch's where they share none, and the range of the seeds where a value is infinite.
A trial that diverged is a result and not missing: it has the accuracy of chance and an infinite loss. A claim is undecided
where the interval holds 0, where a run is missing, and where one seed gives no interval.
In claims about groups of seeds a group stands in the place of a seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from orchestrator.analysis.intervals import t_quantile, welch
from orchestrator.analysis.measures import MissingError, Seeds, Trials, at_seed
from orchestrator.analysis.pooled import Predictions
from orchestrator.config.claims import Claim, ClaimError, decode_claims
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.record import SweepRecord

Outcome = Literal["holds", "does not hold", "undecided"]
HOLDS: Outcome = "holds"
FAILS: Outcome = "does not hold"
UNDECIDED: Outcome = "undecided"

ENDED = ("finished", "exhausted")
"""The reasons for which a sweep is closed that leave no run out."""

RANGE = "range of the seeds"


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


def verdicts(
    record: SweepRecord, *, closed_for: str | None = None, predictions: Predictions | None = None
) -> list[Verdict]:
    """One for each claim that the sweep's plan records, in its order.

    Args:
        record: with the epochs of its trials (`keep_epochs`).
        closed_for: why the sweep ends, where the record does not say so yet.
        predictions: called for claims about ensembles alone, see `analysis.predicted`.
    """
    if not record.plan or '"claims"' not in record.plan:
        return []
    plan = SweepPlan.from_json(record.plan)
    reason = closed_for or (record.closed.reason if record.closed else None)
    try:
        claims = decode_claims(plan.claims)
    except ClaimError:  # a newer version wrote them
        return []
    trials = Trials(record, plan, predictions)
    return [_verdict(claim, trials, reason) for claim in claims]


def _verdict(claim: Claim, trials: Trials, reason: str | None) -> Verdict:
    try:
        left, right = trials.side(claim.left), trials.side(claim.right)
        if reason not in ENDED:
            missing = f"the sweep {'was ended: ' + reason if reason else 'has not ended'}"
            return Verdict(claim, UNDECIDED, left=_median(left), right=_median(right), why=missing)
    except MissingError as error:
        return Verdict(claim, UNDECIDED, why=str(error))
    shared, differences = _differences(left, right, claim.margin)
    low, high, how = _interval(left, right, claim.margin, differences)
    sides = [one for one in (left, right) if not isinstance(one, float)]
    n = len(shared) or min(map(len, sides), default=0)
    made = Verdict(claim, UNDECIDED, _median(left), _median(right), low, high, _told(how, claim), n)
    if any(map(math.isnan, differences)):
        return replace(made, why="both sides are infinite")
    sign = 1.0 if claim.relation == "at_least" else -1.0
    if claim.every_seed and shared:
        verdict = HOLDS if all(sign * one >= 0 for one in differences) else FAILS
        return replace(made, verdict=verdict, low=min(differences), high=max(differences), interval=_told(RANGE, claim))
    if low is None or high is None:
        return replace(made, why=f"one {_unit(claim)}, or infinite values, give no interval")
    near, far = (low, high) if sign > 0 else (-high, -low)
    if near <= 0 <= far:
        return replace(made, why="the interval holds 0")
    return replace(made, verdict=HOLDS if near > 0 else FAILS)


def _told(interval: str, claim: Claim) -> str:
    """How an interval was made, of groups where a claim is about them."""
    return interval if claim.group is None else interval.replace("seeds", f"groups of {claim.group} seeds")


def _unit(claim: Claim) -> str:
    return "seed" if claim.group is None else f"group of {claim.group} seeds"


def _median(side: Seeds | float) -> float:
    return side if isinstance(side, float) else statistics.median(side.values())


def _differences(left: Seeds | float, right: Seeds | float, margin: float) -> tuple[list[int], list[float]]:
    """The seeds that both sides have, a number having all, and left - right - margin of each."""
    seeds = [set(side) for side in (left, right) if not isinstance(side, float)]
    shared = sorted(set.intersection(*seeds)) if seeds else []
    return shared, [at_seed(left, seed) - at_seed(right, seed) - margin for seed in shared]


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


# In words -------------------------------------------------------------------------------------------------------------

HEADS = ("claim", "verdict", "left", "right", "interval", "n")

LEGEND = "left and right (with its margin): medians over n seeds or groups; interval: of left - right - margin over seeds, 95 %"


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
