"""What this machine has, seen without loading any library."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.removal import PROBE, discard

ROOT = Path("/")

FLOAT_BYTES = 4
CHECKPOINT_WEIGHTS = 4
"""A checkpoint is at most so many times the weights: they, the best ones so far, and two moments of the optimizer."""

RUNNING_WEIGHTS = 2 * CHECKPOINT_WEIGHTS + 1
"""So many times the weights a running trial has on disk: two checkpoints and its best weights."""

EXAMPLE_BYTES = 16
"""Id and label of an example, beside its logits in the predictions."""


def check_writable(folder: Path) -> None:
    """Raise NotReadyError unless files can be created, synced, renamed and deleted in `folder`, or where it would be made.

    Leaves nothing behind.
    """
    place = _nearest_existing(folder)
    if not place.is_dir():
        raise NotReadyError(f"runs_dir={folder}: {place} is a file, not a folder; name another with runs_dir=...")
    probe = place / f"{PROBE}{uuid.uuid4().hex}"
    renamed = probe.with_suffix(".renamed")
    try:
        try:
            with probe.open("wb") as file:
                file.write(b"probe")
                file.flush()
                os.fsync(file.fileno())
            probe.rename(renamed)
        finally:
            for path in (probe, renamed):
                discard(path)  # a read-only file system refuses this, too
    except OSError as error:
        raise NotReadyError(
            f"runs_dir={folder}: {place} cannot be written ({error.strerror}); name another folder with runs_dir=..."
        ) from error


@dataclass(frozen=True)
class Footprint:
    """What a sweep leaves on disk, in bytes. MLflow's copies in a local store are links to the same files.

    Args:
        kept: the best weights of the configurations that keep them, of every repeat.
        running: checkpoints and best weights of the trials at work; they go when a trial has ended.
        predictions: logits, ids and labels of the validation and test examples, of every trial.
    """

    kept: int
    running: int
    predictions: int

    @property
    def total(self) -> int:
        return self.kept + self.running + self.predictions


def footprint(
    *,
    trials: int,
    repeat: int,
    keep_weights: int,
    at_a_time: int,
    parameters: int,
    examples: int,
    classes: int,
    snapshots: int = 0,
) -> Footprint:
    """What a sweep of models of so many parameters leaves at most.

    Args:
        snapshots: of a trial, beside its best weights.
        trials: configurations, each of which has `repeat` trials.
        at_a_time: trials that run together.
        examples: of validation and test together.
    """
    weights = parameters * FLOAT_BYTES
    return Footprint(
        kept=min(keep_weights, trials) * repeat * weights * (1 + snapshots),
        running=at_a_time * (RUNNING_WEIGHTS + 2 * snapshots) * weights,
        predictions=trials * repeat * examples * (classes * FLOAT_BYTES + EXAMPLE_BYTES),
    )


def check_space(folder: Path, needed: Footprint) -> None:
    """Raise NotReadyError unless the disk of `folder` holds what the sweep leaves there."""
    place = _nearest_existing(folder)
    free = shutil.disk_usage(place).free
    if needed.total > free:
        raise NotReadyError(
            f"runs_dir={folder}: the sweep needs about {needed.total / 1e9:,.1f} GB (best weights that are kept"
            f" {needed.kept / 1e9:,.1f}, checkpoints of running trials {needed.running / 1e9:,.1f}, predictions of every trial"
            f" {needed.predictions / 1e9:,.1f}), {place} has {free / 1e9:,.1f} GB free; free space, lower keep_weights,"
            " max_concurrent or trials, or name another folder with runs_dir=..."
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
