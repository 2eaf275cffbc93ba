"""Greedy selection against AutoGluon's, on the same predictions: the same members in the same order, and how much faster.

    python benchmarks/selection.py PYTHON [--members 200] [--examples 2000] [--picks 25]

PYTHON is that of an environment of its own with `autogluon.core` 1.6.3, which does not fit ours. Its `EnsembleSelection` rounds
scores to 6 decimals after the first step, prefers members that were taken, and then draws with RandomState(0): ours does
the same here, through the arguments of `selected`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

THEIRS = """
import json, sys, time
import numpy as np
from autogluon.core.metrics import accuracy, log_loss
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
data = np.load(sys.argv[1])
metric = {"nll": log_loss, "accuracy": accuracy}[sys.argv[2]]
selection = EnsembleSelection(int(sys.argv[3]), "multiclass", metric)
predictions = [one.astype(np.float64) for one in data["probabilities"]]
start = time.perf_counter()
selection.fit(predictions, data["labels"])
print(json.dumps({"seconds": time.perf_counter() - start, "members": [int(one) for one in selection.indices_]}))
"""


def simulated(members: int, examples: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [M, N, K] of members of different skill, the best first, and labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, examples)
    truth = (draw.normal(size=(examples, classes)) + 2.5 * np.eye(classes)[labels]).astype(np.float32)
    logits = np.empty((members, examples, classes), dtype=np.float32)
    for place, skill in enumerate(draw.uniform(0.5, 1.8, members)):
        logits[place] = skill * truth + 1.2 * draw.normal(size=truth.shape)
    logits -= logits.max(axis=2, keepdims=True)
    order = np.argsort(-(logits.argmax(axis=2) == labels).mean(axis=1), kind="stable")
    return logits[order], labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="of the environment with autogluon.core")
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--picks", type=int, default=25)
    options = parser.parse_args()
    from orchestrator.ensembles.methods.greedy import cut, selected
    from orchestrator.ensembles.pool import Member, Pool

    logits, labels = simulated(options.members, options.examples, options.classes)
    members = tuple(Member(f"s/{place}", {}, "", "", 0.0) for place in range(len(logits)))
    pool = Pool(members, logits, labels, tuple(map(str, range(options.classes))))
    print(f"{options.members} members x {options.examples} examples x {options.classes} classes, {options.picks} picks")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "predictions.npz"
        np.savez(path, probabilities=pool.probabilities_MNK, labels=labels)
        for criterion in ("nll", "accuracy"):
            command = [options.python, "-c", THEIRS, str(path), criterion, str(options.picks)]
            theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            start = time.perf_counter()
            choose = np.random.RandomState(0).choice
            steps = cut(selected(pool, options.picks, criterion, decimals=6, choose=choose))  # type: ignore[arg-type]
            seconds = time.perf_counter() - start
            same = [step.member for step in steps] == theirs["members"]
            print(
                f"  {criterion}: AutoGluon {theirs['seconds']:.2f} s, ours {seconds:.3f} s,"
                f" {theirs['seconds'] / seconds:.0f} times; the same members in the same order: {same} ({len(steps)})"
            )


if __name__ == "__main__":
    main()
