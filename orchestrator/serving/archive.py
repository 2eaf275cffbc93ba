"""Our own code in one file, as a served model brings it along: what loading and predicting need, and nothing else."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.base.targets import ARCHIVED, catalogue_targets

ROOT = Path(__file__).resolve().parents[2]

WHOLE = ("orchestrator/base", "orchestrator/training", "models")
PARTS = (
    "orchestrator/__init__.py",
    "orchestrator/config/__init__.py",
    "orchestrator/config/rights.py",
    "orchestrator/serving/__init__.py",
    "orchestrator/serving/images.py",
    "orchestrator/serving/pooled.py",
    "orchestrator/serving/predictor.py",
    "orchestrator/serving/pyfunc.py",
)
"""What `serving/pyfunc.py` and `serving/pooled.py` import, itself or through another."""

WRITTEN = (1980, 1, 1, 0, 0, 0)
"""The time in the archive: the same code is the same file."""


def write_archive(path: Path) -> None:
    """Writes the archive, from which Python imports as from a folder.

    Raises:
        OSError: a file cannot be read, or the archive not be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted({*PARTS, *_modules()}):
            _add(archive, name, (ROOT / name).read_bytes())
        _add(archive, f"orchestrator/base/{ARCHIVED}", "\n".join(sorted(catalogue_targets())).encode())


def _modules() -> Iterator[str]:
    for folder in WHOLE:
        for path in (ROOT / folder).rglob("*.py"):
            yield path.relative_to(ROOT).as_posix()


def _add(archive: zipfile.ZipFile, name: str, contents: bytes) -> None:
    info = zipfile.ZipInfo(name, WRITTEN)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    archive.writestr(info, contents, compresslevel=1)
