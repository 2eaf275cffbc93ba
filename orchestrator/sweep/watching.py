"""Notices that a sweep's folder, or its journal, is moved or removed while its driver works on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.base.errors import ResumableError
from orchestrator.base.layout import JOURNAL
from orchestrator.journal.finding import runs_dir_option


class FolderWatch:
    """Looks whether the folder of a sweep is still the one that the driver began with.

    Args:
        folder: of the sweep, with its journal.
        descriptor: of that folder, open for as long as the watch lasts.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._folder, self._descriptor = folder, descriptor
        self._journal = os.stat(JOURNAL, dir_fd=descriptor)

    def check(self) -> None:
        """Returns where all is as it was.

        Raises:
            ResumableError: the folder or its journal is gone; says where to, where that can be told.
        """
        if not _is(self._folder, os.fstat(self._descriptor)):
            raise ResumableError(self._what_became_of_folder())
        if not _is(self._folder / JOURNAL, self._journal):
            raise ResumableError(
                f"the journal {self._folder / JOURNAL} was moved or removed while the sweep ran; put it back, then go on with:"
                f"  orchestrator resume {self._folder.name}{runs_dir_option(self._folder)}"
            )

    def _what_became_of_folder(self) -> str:
        now = _path_of(self._descriptor)
        if now is None:
            return f"{self._folder} was removed while the sweep ran; what it held is gone, launch the sweep again"
        if now.name != self._folder.name:
            return (
                f"{self._folder} was moved to {now} while the sweep ran; nothing is lost. Give it its name back"
                f" ({self._folder.name}), then resume it"
            )
        resume = f"orchestrator resume {now.name}{runs_dir_option(now)}"
        return f"{self._folder} was moved to {now.parent} while the sweep ran; nothing is lost. Go on with:  {resume}"


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[FolderWatch]:
    """A watch over the folder of a sweep."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield FolderWatch(folder, descriptor)
    finally:
        os.close(descriptor)


def _is(path: Path, known: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), known)
    except OSError:
        return False


def _path_of(descriptor: int) -> Path | None:
    """Where an open folder lies now; None where it was removed, or that cannot be told."""
    with contextlib.suppress(OSError):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if _is(path, os.fstat(descriptor)):
            return path
    return None
