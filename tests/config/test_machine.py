"""What a machine or container grants, from files of the form that Linux writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.config.machine import cpus, gpus, memory_bytes

BOUND_TO = len(os.sched_getaffinity(0))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


CPU = "sys/fs/cgroup/cpu"
V2 = "0::/"
POD = "/kubepods/pod7/main"
V1 = f"4:cpu,cpuacct:{POD}\n3:memory:{POD}\n1:name=systemd:{POD}"


@pytest.mark.usefixtures("sixteen_cpus")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "150000 100000"}, 1),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "25000 50000"}, 1),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "9900000 100000"}, 16),
        # a group of its own within one that has the quota
        (
            {
                "proc/self/cgroup": "0::/job.slice/step.scope",
                "sys/fs/cgroup/job.slice/cpu.max": "300000 100000",
                "sys/fs/cgroup/job.slice/step.scope/cpu.max": "max 100000",
            },
            3,
        ),
        ({"proc/self/cgroup": V1, f"{CPU}/cpu.cfs_quota_us": "-1", f"{CPU}/cpu.cfs_period_us": "100000"}, 16),
        (
            {
                "proc/self/cgroup": V1,
                f"sys/fs/cgroup/cpu{POD}/cpu.cfs_quota_us": "250000",
                f"sys/fs/cgroup/cpu{POD}/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        # in a container the host's path is not there, and the root of the mount is its own group
        ({"proc/self/cgroup": V1, f"{CPU}/cpu.cfs_quota_us": "500000", f"{CPU}/cpu.cfs_period_us": "100000"}, 5),
    ],
)  # fmt: skip
def test_cpus_are_those_that_the_quota_grants(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    write(tmp_path, files)
    assert cpus(tmp_path) == expected


def test_cpus_are_no_more_than_the_process_is_bound_to(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "99900000 100000"})
    assert cpus(tmp_path) == BOUND_TO


GIB = 2**30


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/memory.max": str(GIB // 8)}, GIB // 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/memory.max": "max"}, None),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB // 4)}, GIB // 4),
        ({"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_memory_is_what_the_limit_grants(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    write(tmp_path, files)
    assert memory_bytes(tmp_path) == (expected or memory_bytes(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, 4), ("", 0), ("-1", 0), ("0,1", 2), ("3", 1), ("1,9,2", 1), ("GPU-8f2a,GPU-77b1", 2), ("0, 2", 2)],
)
def test_gpus_are_the_devices_that_cuda_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: int
) -> None:
    write(tmp_path, {f"dev/nvidia{name}": "" for name in (0, 1, 2, 3, "ctl", "-uvm")})
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus(tmp_path) == expected


def test_a_read_only_file_system_is_told_as_such(tmp_path: Path) -> None:
    mounts = ["unshare", "-rm", "sh", "-c"]
    mounted = f"mount -t tmpfs -o ro none {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*mounts, mounted], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    asked = f"from orchestrator.config import machine; machine.check_writable(machine.Path({str(tmp_path)!r}))"
    ran = subprocess.run(
        [*mounts, f'{mounted} && exec "$0" "$@"', sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr.splitlines()[-1] == (
        f"orchestrator.base.errors.NotReadyError: runs_dir={tmp_path}: {tmp_path} cannot be written (Read-only file system);"
        " name another folder with runs_dir=..."
    )
