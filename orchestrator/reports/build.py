"""Writes the report of a sweep as one HTML file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.errors import NotReadyError
from orchestrator.base.removal import opened


def write_report(folder: Path, to: Path) -> None:
    """Writes the report of the sweep in `folder`, as it stands, to the file `to`, whole or not at all; a link is followed.

    Raises:
        NotReadyError: there is no journal, or it cannot be read; or `to` is there and is no regular file.
        OSError: the file cannot be written.
    """
    write_whole(to, lambda: report(folder))


def write_whole(to: Path, made: Callable[[], str]) -> None:
    """Writes what is made to the file `to`, whole or not at all; a link is followed.

    Raises:
        NotReadyError: `to` is there and is no regular file.
        OSError: the file cannot be written.
    """
    mode = _mode_of(to)
    to = Path(os.path.realpath(to)) if to.is_symlink() else to
    with opened(to.parent) as above:
        above.write(to.name, made(), mode=mode)


def _mode_of(to: Path) -> int:
    """Who may read and write the file that is replaced, or a new one."""
    try:
        mode = to.stat().st_mode
    except FileNotFoundError:
        return 0o666
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise NotReadyError(f"the report cannot be written to {to}: that is {what}, not a file; name a file")
    return mode & 0o666


def report(folder: Path) -> str:
    """The report of the sweep in `folder`, as HTML that UTF-8 can hold.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
    """
    from orchestrator.reports.data import load
    from orchestrator.reports.figures import figures
    from orchestrator.reports.page import page

    sweep = load(folder)
    return page(sweep, figures(sweep)).encode("utf-8", errors="replace").decode()
