"""Kills at random failpoints, without Ray: `python -m tests.chaos.at_failpoints --kills 300 --seed N`.

Small sweeps, one after the other. Each is killed at a failpoint that the seed picks (its driver, a worker, the process that ships
to MLflow), resumed and killed again, up to `MOST` times, and then left alone. It has to end as the one that was never killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from orchestrator.base.failpoints import NAMES
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.cursor import is_shipping, read_status
from orchestrator.journal.record import read_sweep
from orchestrator.tracking.sync import sync
from orchestrator.verify import verify
from tests.chaos.records import faults, results
from tests.chaos.without_ray import Drivers

SWEEP = [
    *("data=synthetic", "model.width=8", "model.hidden=1", "batch_size=32", "name=kills", "max_retries=100"),
    *("optimizer.lr=tag(log,interval(1e-2,1))", "trials=4", "epochs=4"),
]
MOST = 8
PASSINGS = 3
"""A failpoint fires at its first to third passing; one that is passed less often fires not at all."""

FAILPOINTS = [name for name in NAMES if not name.startswith(("server.", "opening."))]
SETTLE_S = 60.0


def one_sweep(drivers: Drivers, runs_dir: Path, chance: random.Random, most: int) -> tuple[list[str], list[str]]:
    """(the failpoints that killed something, what is wrong) of a sweep that is killed up to `most` times."""
    killed: list[str] = []
    folder: Path | None = None
    for number in range(most):
        once = runs_dir / f"killed-{number}"
        name = chance.choice(FAILPOINTS)
        failpoint = f"{name}:{chance.randint(1, PASSINGS)}:{once}"
        ended = drivers.run(runs_dir=runs_dir, folder=folder, failpoint=failpoint)
        folder = next(runs_dir.glob(f"*/{JOURNAL}")).parent
        killed += [name] if once.exists() else []
        if read_sweep(folder).opening is None:  # nothing had begun: a user launches it again
            shutil.rmtree(folder)
            folder = None
        if ended not in (0, -signal.SIGKILL):
            return killed, [f"the driver ended with {ended} at {failpoint}"]
        if ended == 0:
            break
    if ended != 0 and (ended := drivers.run(runs_dir=runs_dir, folder=folder)) != 0:
        return killed, [f"the last driver ended with {ended}"]
    assert folder is not None
    deadline = time.monotonic() + SETTLE_S
    while is_shipping(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    status = read_status(folder)
    if not status.ended or status.shipped < read_sweep(folder).last_seq:
        sync(folder)  # as `resume` and `status` tell a user whose driver, or shipper, died at the end
    return killed, [*faults(folder, runs_dir / "mlflow.db"), *map(str, verify(folder).violations)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    kills: Counter[str] = Counter()
    wrong: list[str] = []
    sweeps = 0
    began = time.monotonic()
    with contextlib.closing(Drivers(SWEEP)) as drivers, tempfile.TemporaryDirectory(prefix="never-") as never:
        assert drivers.run(runs_dir=Path(never)) == 0
        expected: dict[int, dict[str, Any]] = results(next(Path(never).glob(f"*/{JOURNAL}")).parent)
        while kills.total() < options.kills:
            with tempfile.TemporaryDirectory(prefix="kills-") as folder:
                killed, found = one_sweep(drivers, Path(folder), chance, min(MOST, options.kills - kills.total()))
                sweep = next(Path(folder).glob(f"*/{JOURNAL}")).parent
                if not found and results(sweep) != expected:
                    found = ["it did not end as the sweep that was never killed"]
            kills.update(killed)
            sweeps += 1
            wrong += [f"after {', '.join(killed) or 'no kill'}: {line}" for line in found]
            print(
                f"{time.monotonic() - began:7.1f} s  {kills.total():4} kills  {', '.join(killed)}  {found or ''}",
                flush=True,
            )
    report = {
        "seed": options.seed,
        "kills": kills.total(),
        "sweeps": sweeps,
        "failpoints": dict(sorted(kills.items())),
        "wrong": wrong[:20],
        "seconds": round(time.monotonic() - began, 1),
        "ok": not wrong,
    }
    print(json.dumps(report, indent=1))
    return 0 if not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
