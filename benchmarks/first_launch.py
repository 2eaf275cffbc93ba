"""What a first launch takes in two versions, a new MLflow store included: `python benchmarks/first_launch.py OTHER [--pairs 5]`.

Runs a small sweep in a new runs folder and with an empty cache, in turn from this checkout and from OTHER, a checkout of the
version to compare with (`git worktree add OTHER COMMIT`), both with this interpreter. Prints seconds of wall and CPU time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def first_launch(checkout: Path, overrides: list[str]) -> tuple[float, float]:
    """Seconds of wall and of CPU time (user and system, all processes that have ended)."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "ORCHESTRATOR_CACHE": f"{folder}/cache"}
        command = [sys.executable, "-m", "orchestrator", "launch", f"runs_dir={folder}/runs", *overrides]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, check=True, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)
        wall_s, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    checkouts = {"other": options.other.resolve(), "this": Path(__file__).resolve().parent.parent}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    for pair in range(options.pairs):
        for name in sorted(checkouts, reverse=pair % 2 == 1):
            taken[name].append(first_launch(checkouts[name], options.overrides))
            print(f"{name:<6} {taken[name][-1][0]:6.1f} s wall {taken[name][-1][1]:6.1f} s CPU", flush=True)
    for name, runs in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name:<6} {wall:6.1f} s wall {cpu:6.1f} s CPU, median of {len(runs)}")


if __name__ == "__main__":
    main()
