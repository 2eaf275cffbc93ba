"""What a sweep ran on: code version, library versions and hardware, for the record."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "ray", "mlflow", "hydra-core", "optuna", "numpy")


def environment() -> dict[str, Any]:
    """Plain data; nothing heavy is imported."""
    return {
        "code": _code_version(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def _code_version() -> str:
    """The package's version, with the commit where it runs from a git checkout."""
    version = importlib.metadata.version("orchestrator")
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return version
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{version}+{described.stdout.strip()}" if described.returncode == 0 else version


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
