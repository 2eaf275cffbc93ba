"""What this machine has, seen without loading any library."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from orchestrator.errors import NotReadyError


def check_writable(folder: Path) -> None:
    """Raise NotReadyError unless files can be created, synced, renamed and deleted in `folder`, or where it would be made.

    Leaves nothing behind.
    """
    place = folder
    while not place.exists() and not place.is_symlink():
        place = place.parent
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


def cpus() -> int:
    return len(os.sched_getaffinity(0))


def gpus() -> int:
    """How many NVIDIA devices this process may see; counted without loading torch."""
    there = len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))
