"""The long run: `python -m tests.chaos --kills 100 --trials 200 --seed N [--folder DIR | --disk 200m]`.

With `--disk` everything lies on a disk of that size in memory, which some of the faults fill up; that needs `unshare`.

Prints the timeline as it happens and the figures as JSON at the end; the exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.monkey import OVERRIDES, Monkey

EPOCHS = 30


def mix(kills: int, *, fills: bool = False) -> dict[str, int]:
    """How many of each kind: 15 % driver, 15 % its process group, 20 % MLflow server, 15 % pauses, the rest trials.

    Args:
        fills: whether 5 % of them are a disk that fills up.
    """
    found = {"group": kills * 15 // 100, "driver": kills * 15 // 100, "server": kills // 5, "pause": kills * 15 // 100}
    found["disk"] = max(1, kills // 20) if fills else 0
    return {**found, "trial": kills - sum(found.values())}


def on_a_small_disk(size: str) -> int:
    """This command again, on a disk of this size in a mount namespace of its own."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--disk", size)]
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        again = [sys.executable, "-m", "tests.chaos", *arguments, "--folder", folder, "--fills"]
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, "sh", size, folder, *again], check=False
        ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one without")
    parser.add_argument("--disk", help="the size of a disk of its own, as in 200m")
    parser.add_argument("--fills", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.disk:
        return on_a_small_disk(options.disk)

    def run(folder: Path) -> int:
        monkey = Monkey(
            folder,
            seed=options.seed,
            trials=options.trials,
            epochs=options.epochs,
            kills=mix(options.kills, fills=options.fills),
            overrides=OVERRIDES,
            say=lambda line: print(line, flush=True),
        )
        outcome = monkey.run()
        print(json.dumps(outcome.report(), indent=1))
        return 0 if outcome.ok else 1

    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        return run(options.folder.resolve())
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return run(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
