"""Which ensemble of the candidates is best: every method on the same validation predictions, the winner fixed and recorded by
them alone, and only then the test.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.layout import COMPARISON
from orchestrator.base.names import slug
from orchestrator.base.secrets import redact
from orchestrator.ensembles import costs, record
from orchestrator.ensembles.catalogue import chosen
from orchestrator.ensembles.checks import check, check_idle
from orchestrator.ensembles.comparison import FORMAT, Comparison, MemberRecord, Row
from orchestrator.ensembles.cooking import cook, of_predictions, with_networks
from orchestrator.ensembles.correcting import LOSSES, corrections
from orchestrator.ensembles.crossfitting import FOLDS, Fitted, Temperature, fit, ordered
from orchestrator.ensembles.fixing import fix, fixed_before
from orchestrator.ensembles.gathering import Gathered, Source
from orchestrator.ensembles.judging import scores_of
from orchestrator.ensembles.limits import Limits
from orchestrator.ensembles.measures import losses_of_logits
from orchestrator.ensembles.pool import Entrants, Pool
from orchestrator.ensembles.statistics.bootstrap import RESAMPLES
from orchestrator.ensembles.testing import add_test, read_test


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
    networks: dict[str, bytes] | None = None,
    kept_in: Path | None = None,
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
        networks: is told the weights of each network made of weights, by the name of the member.
        kept_in: the folder of sweeps; the same comparison, where one is kept there already, is returned instead.

    Raises:
        ConfigError: an argument is wrong, nothing is within the limits, or there are too few examples.
        RunningElsewhereError: a driver works on one of the sweeps.
        NotReadyError: a journal cannot be written, or the test cannot be read.
    """
    check(gathered, temperature, budget, macs, seed, resamples, name)
    check_idle(gathered.sources)
    choices = chosen(methods)
    pool, limits = ordered(gathered.pool), Limits(budget, macs)
    metric = _metric(gathered.sources)
    fitted, not_tried = fit(
        of_predictions(choices), pool, metric=metric, temperature=temperature, limits=limits, seed=seed
    )
    cooked = cook(choices, pool, gathered, metric=metric, temperature=temperature, seed=seed)
    fitted += cooked.fitted
    entrants = Entrants((*pool.members, *(one.member for one in cooked.networks)))
    rows = [_row(one, pool, entrants, limits) for one in fitted]
    if networks is not None:
        networks |= {one.member.name: one.packed() for one in cooked.networks if one.file is None}
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
        "members": [*_member_records(pool), *(one.record(pool.labels_N) for one in cooked.networks)],
        "left_out": [(one.name, one.reason) for one in (*gathered.left_out, *cooked.left_out)],
        "not_tried": sorted([*not_tried, *cooked.not_tried]),
        "rows": rows,
        "winner": rows[first]["method"],
        "corrected": corrections(
            pool,
            fitted,
            first,
            [row["allowed"] for row in rows],
            metric=metric,
            seed=seed,
            resamples=resamples,
        ),
        "environment": {**_environment(), **costs.missing(pool)},
    }
    if kept_in is not None:
        before = fixed_before(comparison, rows[first], gathered.sources)
        named = [uid for uid in before if name is None or uid.rpartition("-")[0] == slug(name)]
        if same := _kept(comparison, named, kept_in, latency):
            return same
    if latency:
        _add_latency(comparison, gathered.sources)
    comparison["sweeps"] = fix(comparison, rows[first], gathered.sources)
    unseen = read_test(gathered, pool)
    if len(unseen.labels_N):
        unseen = with_networks(unseen, cooked.networks)
        add_test(comparison, [one.ensemble for one in fitted], first, pool, unseen, calibrate=temperature == "after")
    return comparison


def _kept(comparison: Comparison, uids: Sequence[str], runs_dir: Path, latency: bool) -> Comparison | None:
    """The first of these, all of them the same comparison, as it was recorded; None where none is there, or none was timed though
    that is asked. Of one that was cut off before its record the comparison takes the uid."""
    for uid in uids:
        path = record.folder_of(runs_dir, uid) / COMPARISON
        with contextlib.suppress(NotReadyError):
            found = record.read(path)
            if found["uid"] == uid and (not latency or "latency_batch" in found["environment"]):
                return found
        if not path.exists():
            comparison["uid"] = uid
    return None


def _metric(sources: Sequence[Source]) -> str:
    """The objective that all sweeps share; accuracy where they do not, or there is none."""
    metrics = {source.metric for source in sources}
    return metrics.pop() if len(metrics) == 1 else "val/accuracy"


def _default_name(sources: Sequence[Source]) -> str:
    first = sources[0].uid.rpartition("-")[0] if sources else ""
    more = f"-and-{len(sources) - 1}-more" if len(sources) > 1 else ""
    return f"compare-{first or 'sweeps'}{more}"


def _row(fitted: Fitted, pool: Pool, entrants: Entrants, limits: Limits) -> Row:
    ensemble = fitted.ensemble
    row: Row = {
        "method": fitted.choice.name,
        "described": fitted.choice.described,
        "members": [*ensemble.members],
        "weights": [*ensemble.weights],
        "pooling": ensemble.pooling,
        "temperature": ensemble.temperature,
        "member_temperatures": [*ensemble.member_temperatures],
        "allowed": limits.hold(entrants, ensemble.members),
        "steps": [(step.member, step.score) for step in ensemble.steps],
        "val": scores_of(fitted.honest_NK, pool.labels_N),
        "parameters": costs.parameters(entrants, ensemble.members),
        "multiply_adds": costs.multiply_adds(entrants, ensemble.members),
        "trainings": costs.trainings(pool, ensemble.members, fitted.choice.name),
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
    accuracy_M = pool.is_right_MN.mean(axis=1)
    nll_M = [losses_of_logits(pool.logits_of(place), pool.labels_N).mean() for place in range(len(pool))]
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


def _environment() -> dict[str, str]:
    from orchestrator.base.environment import environment

    found = environment()
    return {key: str(found[key]) for key in ("code", "python", "platform", "processor", "cpus")}


def _add_latency(comparison: Comparison, sources: Sequence[Source]) -> None:
    timer = costs.Latencies({source.uid: source.folder for source in sources if source.folder is not None})
    members = comparison["members"]
    # a network made of weights computes what each of its ingredients does, maybe more often
    names = [members[member.get("ingredients", [place])[0]]["name"] for place, member in enumerate(members)]
    timer.measure([names[place] for row in comparison["rows"] for place in row["members"]])
    for row in comparison["rows"]:
        passes = [members[place].get("passes") for place in row["members"]]
        row["latency_ms"] = timer.of([names[place] for place in row["members"]], passes)
    first = [f"{name}: {why}" for name, why in timer.reasons.items()][:1]
    missing = {"latency_missing": f"{len(timer.reasons):,} networks; the first is {' '.join(first)}"[:2_000]}
    on = {
        "latency_batch": str(costs.BATCH),
        "latency_on": f"{comparison['environment']['processor']}, CPU, {costs.THREADS} thread",
        **({} if timer.spread is None else {"latency_spread": f"{timer.spread:.2f}"}),
        **({"latency_busy": "yes"} if timer.spread is not None and timer.spread >= costs.BUSY else {}),
    }
    comparison["environment"] = {**comparison["environment"], **on, **(missing if timer.reasons else {})}
