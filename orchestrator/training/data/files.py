"""Small things that every source needs: a path as the user meant it, and what a file looks like from outside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.base.errors import NotReadyError


def absolute(root: str) -> Path:
    """`root` with ~ expanded and made absolute against the current folder.

    Raises:
        ValueError: empty, or not a path.
    """
    if not root.strip() or "\0" in root:
        raise ValueError(f"root must be the path of a folder, got {root!r}")
    return Path(root).expanduser().absolute()


def stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(path, bytes, time of change in nanoseconds) of each file.

    Raises:
        NotReadyError: one cannot be looked at.
    """
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise NotReadyError(f"{path} cannot be read ({error.strerror})") from error
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def megabytes(count: int) -> str:
    """A file's size for a message: "170.5 MB", or "812 bytes" where it is that small."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"
