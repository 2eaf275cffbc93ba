"""Which ensemble of the candidates is best: every method on the same validation predictions, the winner fixed and recorded by
them alone, and only then the test.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from orchestrator.base.errors import ConfigError, NotReadyError, Problem, RunningElsewhereError
from orchestrator.base.layout import LOCK
from orchestrator.base.locks import holder
from orchestrator.base.names import check_name, slug
from orchestrator.base.secrets import redact
from orchestrator.ensembles import costs
from orchestrator.ensembles.catalogue import BASELINE, chosen
from orchestrator.ensembles.comparison import FORMAT, Comparison, MemberRecord, Row, SweepRecordOf
from orchestrator.ensembles.crossfitting import FOLDS, Fitted, Temperature, fit, ordered
from orchestrator.ensembles.gathering import Gathered, Source
from orchestrator.ensembles.judging import Unseen, judge, scores_of
from orchestrator.ensembles.limits import Limits
from orchestrator.ensembles.looking import agreement, confusion, seed_spread, sizes, worst
from orchestrator.ensembles.measures import is_right
from orchestrator.ensembles.pool import Pool
from orchestrator.ensembles.pooling import SMALLEST, Ensemble
from orchestrator.ensembles.statistics.bootstrap import RESAMPLES
from orchestrator.ensembles.statistics.correction import corrected

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

KEY = "comparison"
"""Of the `published` events that say which winner was fixed; their number is how often the test of a sweep was looked at."""

LOSSES = ("val/loss", "val/nll")
RESAMPLES_OF_CORRECTION = 1_000


def compare(
    gathered: Gathered,
    *,
    methods: Sequence[str] | None = None,
    temperature: Temperature = "after",
    budget: int | None = None,
    macs: int | None = None,
    seed: int = 1,
    resamples: int = RESAMPLES,
    name: str | None = None,
    filter_string: str | None = None,
    latency: bool = False,
    command: Sequence[str] = (),
) -> Comparison:
    """Compares the methods; `record.write` keeps what is returned.

    Args:
        methods: choices of `conf/ensemble`; None tries all. The best single member is always tried.
        temperature: fitted to the pooled probabilities (`after`), to each member (`before`), or not at all.
        budget: distinct members that the winner may have.
        macs: multiply-adds an image that the winner may take.
        resamples: of the bootstrap over test examples.
        name: of the comparison; made from the sweeps where it is None.
        latency: whether networks whose weights are here are timed.
        command: the words that were typed, for the record.

    Raises:
        ConfigError: an argument is wrong, nothing is within the limits, or there are too few examples.
        RunningElsewhereError: a driver works on one of the sweeps.
        NotReadyError: a journal cannot be written, or the test cannot be read.
    """
    _check(gathered, temperature, budget, macs, seed, resamples, name)
    _check_idle(gathered.sources)
    choices = chosen(methods)
    pool, limits = ordered(gathered.pool), Limits(budget, macs)
    metric = _metric(gathered.sources)
    fitted, not_tried = fit(choices, pool, metric=metric, temperature=temperature, limits=limits, seed=seed)
    rows = [_row(one, pool, limits) for one in fitted]
    first = _winner(rows, metric, limits)
    settings = {
        "filter": filter_string,
        "methods": None if methods is None else [*methods],
        "temperature": temperature,
        "budget": budget,
        "macs": macs,
        "seed": seed,
        "resamples": resamples,
        "chosen_by": "nll" if metric in LOSSES else "accuracy",
        "folds": FOLDS,
    }
    comparison: Comparison = {
        "format": FORMAT,
        "uid": f"{slug(name or _default_name(gathered.sources))}-{secrets.token_hex(4)}",
        "created_ms": time.time_ns() // 1_000_000,
        "command": [redact(word) for word in command],
        "settings": settings,
        "sweeps": [],
        "classes": [*pool.classes],
        "fingerprint": gathered.fingerprint,
        "examples": {"val": len(pool.labels_N), "test": 0},
        "members": _member_records(pool),
        "left_out": [(one.name, one.reason) for one in gathered.left_out],
        "not_tried": not_tried,
        "rows": rows,
        "winner": rows[first]["method"],
        "corrected": _corrections(pool, fitted, first, [row["allowed"] for row in rows], seed, resamples),
        "environment": _environment(),
    }
    if latency:
        _add_latency(comparison, gathered.sources)
    comparison["sweeps"] = _fix(comparison, rows[first], gathered.sources)
    unseen = _read_test(gathered, pool)
    if len(unseen.labels_N):
        _add_test(comparison, [one.ensemble for one in fitted], first, pool, unseen, calibrate=temperature == "after")
    return comparison


# Before anything is computed ------------------------------------------------------------------------------------------


def _check(
    gathered: Gathered,
    temperature: str,
    budget: int | None,
    macs: int | None,
    seed: int,
    resamples: int,
    name: str | None,
) -> None:
    problems = []
    if len(gathered.pool) < 2:
        left_out = "".join(f"; {one.name}: {one.reason}" for one in gathered.left_out[:8])
        problems.append(Problem("compare", f"takes two members, there are {len(gathered.pool)}{left_out}"))
    if temperature not in get_args(Temperature):
        allowed = f"must be one of {', '.join(get_args(Temperature))}"
        problems.append(Problem("--temperature", allowed, temperature))
    for option, value, least in (
        ("--budget", budget, 1),
        ("--macs", macs, 1),
        ("--seed", seed, 0),
        ("resamples", resamples, 100),
    ):
        if value is not None and not least <= value <= 2**53:
            problems.append(Problem(option, f"must be at least {least}", value))
    if name is not None and (why := check_name(name)):
        problems.append(Problem("--name", why, name))
    if problems:
        raise ConfigError(problems)


def _check_idle(sources: Sequence[Source]) -> None:
    """
    Raises:
        RunningElsewhereError: a driver works on one of the sweeps, or another process publishes something of it.
    """
    for source in sources:
        if source.folder is not None and (other := holder(source.folder / LOCK)) is not None:
            does = other.doing or f"works on {source.uid}"
            stop = f"orchestrator stop {source.uid}"
            raise RunningElsewhereError(
                f"{other} {does}; its trials are compared when it has ended: wait, or end it with `{stop}`"
            )


def _metric(sources: Sequence[Source]) -> str:
    """The objective that all sweeps share; accuracy where they do not, or there is none."""
    metrics = {source.metric for source in sources}
    return metrics.pop() if len(metrics) == 1 else "val/accuracy"


def _default_name(sources: Sequence[Source]) -> str:
    first = sources[0].uid.rpartition("-")[0] if sources else ""
    more = f"-and-{len(sources) - 1}-more" if len(sources) > 1 else ""
    return f"compare-{first or 'sweeps'}{more}"


# Validation -----------------------------------------------------------------------------------------------------------


def _row(fitted: Fitted, pool: Pool, limits: Limits) -> Row:
    ensemble = fitted.ensemble
    row: Row = {
        "method": fitted.choice.name,
        "described": fitted.choice.described,
        "members": [*ensemble.members],
        "weights": [*ensemble.weights],
        "pooling": ensemble.pooling,
        "temperature": ensemble.temperature,
        "member_temperatures": [*ensemble.member_temperatures],
        "allowed": limits.hold(pool, ensemble.members),
        "steps": [(step.member, step.score) for step in ensemble.steps],
        "val": scores_of(fitted.honest_NK, pool.labels_N),
        "parameters": costs.parameters(pool, ensemble.members),
        "multiply_adds": costs.multiply_adds(pool, ensemble.members),
        "latency_ms": None,
        "disagreement": None,
        "q_statistic": None,
        "kl": None,
    }
    if ensemble.coefficients_mKK is not None and ensemble.intercept_K is not None:
        row["coefficients"] = ensemble.coefficients_mKK.tolist()
        row["intercept"] = ensemble.intercept_K.tolist()
    return row


def _winner(rows: Sequence[Row], metric: str, limits: Limits) -> int:
    """The row with the best cross-fitted validation score within the limits; of equal ones that of fewer members.

    Raises:
        ConfigError: none is within the limits.
    """
    allowed = [place for place, row in enumerate(rows) if row["allowed"]]
    if not allowed:
        given = f"--macs {limits.multiply_adds}" if limits.members is None else f"--budget {limits.members}, --macs"
        known = [row["multiply_adds"] for row in rows if row["multiply_adds"] is not None]
        least = (
            f"; the cheapest takes {min(known)} multiply-adds an image" if known else "; what members take is not known"
        )
        raise ConfigError(Problem(given, f"no ensemble and no single member costs so little{least}"))

    def order(place: int) -> tuple[float, float, int]:
        said = rows[place]["val"]["measures"]
        main = said["nll"] if metric in LOSSES else -said["accuracy"]
        return main, said["nll"], len(rows[place]["members"])

    return min(allowed, key=order)


def _member_records(pool: Pool) -> list[MemberRecord]:
    import numpy as np

    accuracy_M = (pool.logits_MNK.argmax(axis=2) == pool.labels_N).mean(axis=1)
    nll_M = -np.log(np.maximum(pool.right_MN, SMALLEST)).mean(axis=1)
    return [
        {
            "name": member.name,
            "params": member.params,
            "architecture": member.architecture,
            "configuration": member.configuration,
            "value": member.value,
            "parameters": member.parameters,
            "multiply_adds": member.multiply_adds,
            "val_accuracy": float(accuracy),
            "val_nll": float(nll),
        }
        for member, accuracy, nll in zip(pool.members, accuracy_M, nll_M, strict=True)
    ]


def _corrections(
    pool: Pool, fitted: Sequence[Fitted], winner: int, allowed: Sequence[bool], seed: int, resamples: int
) -> dict[str, float | None]:
    """What validation accuracy is worth of the best of all members, and of the winner among the methods."""
    import numpy as np

    resamples = min(resamples, RESAMPLES_OF_CORRECTION)
    right_MN = pool.logits_MNK.argmax(axis=2) == pool.labels_N
    single = corrected(right_MN, np.random.default_rng([seed, 3]), resamples)
    candidates = [one for one, may in zip(fitted, allowed, strict=True) if may]
    right_VN = np.stack([is_right(one.honest_NK, pool.labels_N) for one in candidates])
    best = corrected(right_VN, np.random.default_rng([seed, 4]), resamples)
    return {
        "naive": single.naive,
        "value": single.value,
        "low": single.low,
        "high": single.high,
        "winner_naive": float(is_right(fitted[winner].honest_NK, pool.labels_N).mean()),
        "winner_value": best.value,
        "winner_low": best.low,
        "winner_high": best.high,
        "seeds": seed_spread(pool, right_MN.mean(axis=1)),
        "seeds_test": None,
    }


def _environment() -> dict[str, str]:
    from orchestrator.base.environment import environment

    found = environment()
    return {key: str(found[key]) for key in ("code", "python", "platform", "processor", "cpus")}


def _add_latency(comparison: Comparison, sources: Sequence[Source]) -> None:
    timer = costs.Latencies({source.uid: source.folder for source in sources if source.folder is not None})
    names = [member["name"] for member in comparison["members"]]
    for row in comparison["rows"]:
        row["latency_ms"] = timer.of([names[place] for place in row["members"]])
    missing = {"latency_missing": "; ".join(f"{name}: {why}" for name, why in timer.reasons.items())[:2_000]}
    on = {"latency_batch": str(costs.BATCH), "latency_on": f"{comparison['environment']['processor']}, CPU"}
    comparison["environment"] = {**comparison["environment"], **on, **(missing if timer.reasons else {})}


# The winner is fixed --------------------------------------------------------------------------------------------------


def _fix(comparison: Comparison, winner: Row, sources: Sequence[Source]) -> list[SweepRecordOf]:
    """Records the winner in the journal of every sweep that is here, and counts how often its test was looked at.

    Raises:
        RunningElsewhereError, NotReadyError: a journal cannot be written now.
    """
    from orchestrator.journal.publishing import publish

    text = json.dumps(_announcement(comparison, winner))
    for source in sources:
        if source.folder is not None:
            publish(source.folder, comparison["uid"], KEY, text)
    return [
        {
            "uid": source.uid,
            "metric": source.metric,
            "mode": source.mode,
            "look": 0 if source.folder is None else looks(source.folder),
        }
        for source in sources
    ]


def _announcement(comparison: Comparison, winner: Row) -> Mapping[str, Any]:
    names = [member["name"] for member in comparison["members"]]
    return {
        "winner": winner["method"],
        "members": [names[place] for place in winner["members"]],
        "weights": winner["weights"],
        "pooling": winner["pooling"],
        "temperature": winner["temperature"],
        "validation": winner["val"]["measures"],
        "methods": [row["method"] for row in comparison["rows"]],
        "settings": comparison["settings"],
    }


def looks(folder: Path) -> int:
    """How many comparisons fixed a winner of the sweep in this folder, after which each read its test."""
    import contextlib

    from orchestrator.base.layout import JOURNAL
    from orchestrator.journal.events import Published
    from orchestrator.journal.file import Reader

    with contextlib.closing(Reader(folder / JOURNAL)) as reader:
        events = (entry.event for entry in reader.events())
        return len({event.run for event in events if isinstance(event, Published) and event.key == KEY})


# The test -------------------------------------------------------------------------------------------------------------


def _read_test(gathered: Gathered, pool: Pool) -> Unseen:
    """
    Raises:
        NotReadyError: what is read does not fit the pool.
    """
    logits_MNK, labels_N, ids_N = gathered.read_test([member.name for member in pool.members])
    unseen = Unseen(logits_MNK, labels_N, ids_N)
    if logits_MNK.shape != (len(pool), len(labels_N), len(pool.classes)) or ids_N.shape != labels_N.shape:
        raise NotReadyError(f"the test predictions of the members do not fit each other: {logits_MNK.shape}")
    return unseen


def _add_test(
    comparison: Comparison, ensembles: Sequence[Ensemble], first: int, pool: Pool, unseen: Unseen, *, calibrate: bool
) -> None:
    """Puts what the test says into the comparison, whose rows are then in its order."""
    rows, settings = [*comparison["rows"]], comparison["settings"]
    baseline = next(place for place, row in enumerate(rows) if row["method"] == BASELINE)
    judge(rows, ensembles, baseline, unseen, seed=settings["seed"], resamples=settings["resamples"])
    winner, said_NK = ensembles[first], unseen.of(ensembles[first])
    longest = max(range(len(rows)), key=lambda place: len(rows[place]["steps"]))
    selection = (rows[longest]["method"], ensembles[longest]) if rows[longest]["steps"] else None
    comparison["examples"] = {**comparison["examples"], "test": len(unseen.labels_N)}
    comparison["sizes"] = sizes(selection, pool, unseen, calibrate=calibrate)
    comparison["agreement"] = agreement(winner, unseen)
    comparison["confusion"] = confusion(said_NK, unseen.labels_N)
    comparison["worst"] = worst(winner, said_NK, unseen)
    accuracy_M = (unseen.logits_MNK.argmax(axis=2) == unseen.labels_N).mean(axis=1)
    comparison["corrected"] = {**comparison["corrected"], "seeds_test": seed_spread(pool, accuracy_M)}
    comparison["rows"] = sorted(
        rows, key=lambda row: (-row["test"]["measures"]["accuracy"], row["test"]["measures"]["nll"], row["method"])
    )
