"""Writes the report of a sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path


def write_report(folder: Path, to: Path) -> None:
    """Writes the report of the sweep in `folder`, as it stands, to the file `to`, whole.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
        OSError: the file cannot be written.
    """
    to.write_bytes(report(folder).encode("utf-8", errors="replace"))


def report(folder: Path) -> str:
    """The report of the sweep in `folder`, as HTML.

    Raises:
        NotReadyError: there is no journal, or it cannot be read.
    """
    from orchestrator.reports.data import load
    from orchestrator.reports.figures import figures
    from orchestrator.reports.page import page

    sweep = load(folder)
    return page(sweep, figures(sweep))
