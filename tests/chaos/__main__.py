"""The long run: `python -m tests.chaos --kills 100 --trials 200 --seed N [--folder DIR]`.

Prints the timeline as it happens and the figures as JSON at the end; the exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.monkey import OVERRIDES, Monkey

EPOCHS = 30


def mix(kills: int) -> dict[str, int]:
    """How many of each kind: 15 % driver, 15 % its process group, 25 % MLflow server, the rest trials."""
    group, driver, server = kills * 15 // 100, kills * 15 // 100, kills // 4
    return {"group": group, "driver": driver, "server": server, "trial": kills - group - driver - server}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one without")
    options = parser.parse_args()

    def run(folder: Path) -> int:
        monkey = Monkey(
            folder,
            seed=options.seed,
            trials=options.trials,
            epochs=options.epochs,
            kills=mix(options.kills),
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
