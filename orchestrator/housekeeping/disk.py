"""How much room a sweep takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.layout import AVERAGE, BEST, CHECKPOINT, PREDICTIONS, PUBLISHED, SNAPSHOT


@dataclass
class Disk:
    """Bytes of files below a folder: all of them, and of that checkpoints, best weights and predictions."""

    total: int = 0
    checkpoints: int = 0
    weights: int = 0
    predictions: int = 0

    def __str__(self) -> str:
        parts = {"checkpoints": self.checkpoints, "best weights": self.weights, "predictions": self.predictions}
        return f"{size(self.total)} ({', '.join(f'{name} {size(number)}' for name, number in parts.items())})"


def disk_use(folder: Path) -> Disk:
    """What lies below the folder; files that go meanwhile are left out, and one with several names is counted once."""
    found, seen = Disk(), set[tuple[int, int]]()
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        # Last what is published: weights there are those of a trial.
                        folders.insert(0 if entry.name == PUBLISHED else len(folders), entry.path)
                    else:
                        _add(found, entry, seen)
        except OSError:
            continue
    return found


def _add(found: Disk, entry: os.DirEntry[str], seen: set[tuple[int, int]]) -> None:
    try:
        stat = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if stat.st_nlink > 1:
        if (stat.st_dev, stat.st_ino) in seen:
            return
        seen.add((stat.st_dev, stat.st_ino))
    number = stat.st_size
    found.total += number
    if entry.name in (AVERAGE, BEST) or SNAPSHOT.fullmatch(entry.name):
        found.weights += number
    elif entry.name.startswith(CHECKPOINT):
        found.checkpoints += number
    elif entry.name == PREDICTIONS.name:
        found.predictions += number


def size(number: int) -> str:
    """`512 B`, `12 kB`, `3.4 MB`, `1.2 GB`."""
    if number < 1000:
        return f"{number} B"
    if number < 1_000_000:
        return f"{number / 1000:.0f} kB"
    if number < 1_000_000_000:
        return f"{number / 1e6:.1f} MB"
    return f"{number / 1e9:.1f} GB"
