"""What comparing costs, on simulated members: 1,000 members x 10,000 examples x 10 classes, and the default strength of stacking.

    python benchmarks/ensembles.py                  greedy selections of 50, then a comparison of all methods
    python benchmarks/ensembles.py --each           each method by itself, too
    python benchmarks/ensembles.py --members 100    of fewer members
    python benchmarks/ensembles.py --stacking       cross-fitted NLL of stacking by strength, on pools of several sizes

Each part runs in a process of its own, so that its peak memory is its own; the pool is made first, and told apart.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestrator.ensembles import comparing, testing
from orchestrator.ensembles.catalogue import BASELINE, Choice, chosen
from orchestrator.ensembles.crossfitting import fit
from orchestrator.ensembles.gathering import Gathered, Source
from orchestrator.ensembles.limits import Limits
from orchestrator.ensembles.measures import losses
from orchestrator.ensembles.methods.greedy import Greedy
from orchestrator.ensembles.methods.stacking import Stacking
from orchestrator.ensembles.pool import Member, Pool

Array = np.ndarray[Any, Any]

STRENGTHS = (1.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
SIZES = ((5, 300, 10), (20, 300, 10), (5, 1_000, 10), (20, 1_000, 10), (50, 1_000, 10), (20, 5_000, 10), (12, 1_000, 2))
SPREADS = (0.8, 0.0)
"""How much better a member sees some classes than others: where it does, stacking can gain; elsewhere it can only lose."""


def simulated(members: int, examples: int, classes: int, seed: int, spread: float) -> tuple[Array, Array]:
    """Logits [M, N, K] and labels [N]: noise that all share, as all learned from the same images, and noise of their own; each
    sees some classes worse than others by `spread`, and is too sure by a factor of its own.
    """
    draw = np.random.default_rng(seed)
    labels_N = draw.integers(0, classes, examples)
    shared_NK = draw.normal(size=(examples, classes)).astype(np.float32)
    at = np.arange(examples)
    logits_MNK = np.empty((members, examples, classes), np.float32)
    for of_member_NK in logits_MNK:
        of_member_NK[:] = 0.8 * shared_NK + 0.8 * draw.standard_normal((examples, classes), np.float32)
        seen_K = draw.uniform(2.0 - spread, 2.0 + spread, classes)
        of_member_NK[at, labels_N] += seen_K[labels_N]
        of_member_NK *= draw.uniform(1.0, 3.0)
        of_member_NK -= of_member_NK.max(axis=1, keepdims=True)
    return logits_MNK, labels_N


def made(
    members: int, examples: int, classes: int = 10, *, test: int = 0, seed: int = 1, spread: float = 0.8
) -> tuple[Pool, Gathered]:
    """Candidates, the best first; those of a comparison have as many test examples as are asked for."""
    logits_MNK, labels_N = simulated(members, examples + test, classes, seed, spread)
    accuracy_M = np.array([(of_NK[:examples].argmax(axis=1) == labels_N[:examples]).mean() for of_NK in logits_MNK])
    order = np.argsort(-accuracy_M, kind="stable")
    records = tuple(
        Member(f"made-00000000/{place}", {}, "convnet", f"made-00000000/c{place}", float(accuracy_M[place]))
        for place in order
    )
    names = tuple(f"class {label}" for label in range(classes))
    for start in range(0, examples + test, 500):  # in place, so that the peak is not that of the ordering
        logits_MNK[:, start : start + 500] = logits_MNK[order, start : start + 500]
    pool = Pool(records, logits_MNK[:, :examples], labels_N[:examples], names)
    unseen_MNK, ids_n = logits_MNK[:, examples:], np.arange(examples, examples + test)
    source = Source("made-00000000", "val/accuracy", "max", None, "http://127.0.0.1:1")

    def read_test(wanted: Sequence[str]) -> tuple[Array, Array, Array]:
        assert [*wanted] == [record.name for record in records]
        return unseen_MNK, labels_N[examples:], ids_n

    return pool, Gathered(pool, (), (source,), "0" * 64, np.arange(examples), read_test)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def select(criterion: Any, members: int, examples: int) -> None:
    """A greedy selection of 50, after loading."""
    pool, _ = made(members, examples)
    before, start = peak_mb(), time.perf_counter()
    ensemble = Greedy(picks=50, criterion=criterion).build(pool, np.random.default_rng(0))
    seconds = time.perf_counter() - start
    print(f"greedy of 50 by {criterion:8}: {seconds:6.2f} s, {len(ensemble.members)} members, peak {peak_mb():,.0f} MB"
          f" ({before:,.0f} MB with the pool loaded)", flush=True)  # fmt: skip


def compare_all(members: int, examples: int, resamples: int) -> None:
    """The whole comparison, and where its time goes."""
    pool, gathered = made(members, examples, test=examples)
    before = peak_mb()
    phases = [(comparing, "fit"), (comparing, "corrections"), (testing, "judge"), (testing, "sizes")]
    seconds: dict[str, float] = {}
    for module, name in phases:
        setattr(module, name, timed(getattr(module, name), name, seconds))
    start, used = time.perf_counter(), time.process_time()
    found = comparing.compare(gathered, resamples=resamples)
    whole, used = time.perf_counter() - start, time.process_time() - used
    assert len(found["members"]) == len(pool)
    print(f"comparison of {len(found['rows'])} methods, {resamples:,} resamples: {whole:.1f} s ({used:.1f} s of the processors),"
          f" peak {peak_mb():,.0f} MB ({before:,.0f} MB with the predictions loaded)")  # fmt: skip
    print("  " + ", ".join(f"{name.strip('_')} {value:.1f} s" for name, value in seconds.items()), flush=True)


def each_method(members: int, examples: int) -> None:
    """Each method alone, with its folds and the baseline."""
    pool, _ = made(members, examples)
    pool.right_MN  # noqa: B018 (computed once, for all)
    for choice in chosen():
        start, used = time.perf_counter(), time.process_time()
        _, not_tried = fit([choice], pool, metric="val/accuracy", temperature="after", limits=Limits(), seed=1)
        wall, used = time.perf_counter() - start, time.process_time() - used
        print(
            f"  {choice.name:16} {wall:6.2f} s cross-fitted, {used:6.2f} s of the processors {not_tried or ''}",
            flush=True,
        )


def timed(function: Any, name: str, seconds: dict[str, float]) -> Any:
    """The function, which notes how long it took."""

    def call(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds[name] = time.perf_counter() - start

    return call


def strengths(seeds: int) -> None:
    """Cross-fitted NLL by strength, less that of the geometric mean, where a strength without end leads."""
    geometric = [choice for choice in chosen(["geometric_mean"]) if choice.name != BASELINE]
    choices = [Choice(f"{strength:g}", "", Stacking(strength=strength)) for strength in STRENGTHS]
    print("members examples classes spread geometric", *(f"{one.name:>8}" for one in choices))
    regrets = []
    for spread, (members, examples, classes) in itertools.product(SPREADS, SIZES):
        found = []
        for seed in range(seeds):
            pool, _ = made(members, examples, classes, seed=seed, spread=spread)
            fitted, _ = fit(
                geometric + choices, pool, metric="val/accuracy", temperature="after", limits=Limits(), seed=1
            )
            found.append([losses(one.honest_NK, pool.labels_N).mean() for one in fitted])
        reference, *of_strengths = np.mean(found, axis=0)
        regrets.append(np.array(of_strengths) - min(reference, *of_strengths))
        shown = [f"{value - reference:+8.4f}" for value in of_strengths]
        print(f"{members:7} {examples:8,} {classes:7} {spread:6} {reference:9.4f}", *shown, flush=True)
    print(f"{'regret against the best, mean:':40}", *(f"{one:8.4f}" for one in np.mean(regrets, axis=0)))
    print(f"{'worst:':40}", *(f"{one:8.4f}" for one in np.max(regrets, axis=0)))


def alone(function: Any, *arguments: Any) -> None:
    """In a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1_000)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    parser.add_argument("--each", action="store_true", help="each method by itself, too")
    parser.add_argument("--stacking", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="pools of each size, with --stacking")
    options = parser.parse_args()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{len(os.sched_getaffinity(0))} cores; load before (1, 5, 15 min): {load}", flush=True)
    if options.stacking:
        strengths(options.seeds)
        return
    for criterion in ("nll", "accuracy"):
        alone(select, criterion, options.members, options.examples)
    alone(compare_all, options.members, options.examples, options.resamples)
    if options.each:
        alone(each_method, options.members, options.examples)


if __name__ == "__main__":
    main()
