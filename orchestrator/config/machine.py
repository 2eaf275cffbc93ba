"""What this machine has, seen without loading any library."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from orchestrator.base.errors import NotReadyError

FILES_A_TRIAL = 4
"""So many times the weights of its model a trial leaves: two checkpoints, the optimizer's state in them, the best weights."""


def check_writable(folder: Path) -> None:
    """Raise NotReadyError unless files can be created, synced, renamed and deleted in `folder`, or where it would be made.

    Leaves nothing behind.
    """
    place = _nearest_existing(folder)
    if not place.is_dir():
        raise NotReadyError(f"runs_dir={folder}: {place} is a file, not a folder; name another with runs_dir=...")
    probe = place / f".orchestrator-{uuid.uuid4().hex}"
    renamed = probe.with_suffix(".renamed")
    try:
        with probe.open("wb") as file:
            file.write(b"probe")
            file.flush()
            os.fsync(file.fileno())
        probe.rename(renamed)
    except OSError as error:
        raise NotReadyError(
            f"runs_dir={folder}: {place} cannot be written ({error.strerror}); name another folder with runs_dir=..."
        ) from error
    finally:
        for path in (probe, renamed):
            path.unlink(missing_ok=True)


def check_space(folder: Path, *, trials: int, parameters: int) -> None:
    """Raise NotReadyError unless the disk of `folder` holds what so many trials of the largest model leave there."""
    place = _nearest_existing(folder)
    needed = trials * parameters * 4 * FILES_A_TRIAL  # fp32
    free = shutil.disk_usage(place).free
    if needed > free:
        raise NotReadyError(
            f"runs_dir={folder}: {trials:,} trials of {parameters:,} parameters leave about {needed / 1e9:,.1f} GB of weights"
            f" and checkpoints, {place} has {free / 1e9:,.1f} GB free; free space, lower trials or name another folder with"
            " runs_dir=..."
        )


def _nearest_existing(folder: Path) -> Path:
    """`folder`, or the first above it that is there."""
    while not folder.exists() and not folder.is_symlink():
        folder = folder.parent
    return folder


def cpus() -> int:
    return len(os.sched_getaffinity(0))


def gpus() -> int:
    """How many NVIDIA devices this process may see; counted without loading torch."""
    there = len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))
