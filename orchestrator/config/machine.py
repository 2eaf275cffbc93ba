"""What this machine has, seen without loading any library."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from orchestrator.base.errors import NotReadyError

ROOT = Path("/")

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


def cpus(root: Path = ROOT) -> int:
    """How many CPUs this process may use, at least 1: those it is bound to, or as many as a container's quota pays for.

    A quota of 1.5 CPUs counts as 1: a second trial would be throttled half of the time.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    return max(1, int(min([len(os.sched_getaffinity(0)), *_cpu_quotas(root)])))


def memory_bytes(root: Path = ROOT) -> int:
    """How much memory this process may use: the machine's, or a container's limit where that is lower."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [*_numbers(root, "", "memory.max"), *_numbers(root, "memory", "memory.limit_in_bytes")]
    return min([pages, *limits])


def gpus(root: Path = ROOT) -> int:
    """How many NVIDIA devices this process may use, counted without loading torch.

    As CUDA does, it reads `CUDA_VISIBLE_DEVICES` up to the first entry that names no device.
    """
    there = len([path for path in (root / "dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    names = [name.strip() for name in visible.split(",")]
    named = takewhile(lambda name: int(name) < there if name.isdigit() else name.startswith(("GPU-", "MIG-")), names)
    return min(there, len(list(named)))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group above this process grants; groups without a quota are passed over.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (`cpu.max`) and Documentation/scheduler/sched-bwc.rst (version 1).
    """
    for text in _read_groups(root, "", "cpu.max"):
        quota, _, period_us = text.partition(" ")
        if quota != "max" and int(quota) > 0:
            yield int(quota) / int(period_us or 100_000)
    quotas_us = _read_groups(root, "cpu", "cpu.cfs_quota_us")
    periods_us = _read_groups(root, "cpu", "cpu.cfs_period_us")
    for quota_us, period_us in zip(quotas_us, periods_us, strict=False):
        if int(quota_us) > 0:
            yield int(quota_us) / int(period_us)


def _numbers(root: Path, controller: str, name: str) -> list[int]:
    return [int(text) for text in _read_groups(root, controller, name) if text.isdigit()]


def _read_groups(root: Path, controller: str, name: str) -> list[str]:
    """What the file `name` holds in the control group of this process and in each one above it.

    Args:
        controller: of version 1; "" is version 2.
    """
    mounted = root / "sys/fs/cgroup" / controller
    inside = Path(_group(root, controller).lstrip("/"))
    # In a container the path can be the host's, which is not there; its own group is then the root.
    folders = [mounted / inside, *(mounted / above for above in inside.parents)]
    found = []
    for path in dict.fromkeys(folder / name for folder in folders):
        try:
            found.append(path.read_text(encoding="ascii").strip())
        except OSError:
            continue  # the root group has no limits, and a controller may be off
    return found


def _group(root: Path, controller: str) -> str:
    """The control group of this process, by `/proc/self/cgroup`: lines of `number:controllers:path`."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    rows = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return next((path for _, controllers, path in rows if controller in controllers.split(",")), "")
