"""Writes the page of a comparison, in the frame of the reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.ensembles.comparison import Comparison
from orchestrator.reports.build import write_whole

HERE = Path(__file__).parent


def write_page(comparison: Comparison, images: Mapping[int, bytes | None] | None, to: Path) -> None:
    """Writes the page to the file `to`, whole or not at all; a link is followed.

    Args:
        images: the id of a test example -> its picture as a PNG, None of one that is not there; None where none are.

    Raises:
        NotReadyError: `to` is there and is no regular file.
        OSError: the file cannot be written.
    """
    write_whole(to, lambda: page(comparison, images))


def page(comparison: Comparison, images: Mapping[int, bytes | None] | None) -> str:
    """The page as HTML that UTF-8 can hold."""
    from orchestrator.ensembles.page.figures import figures
    from orchestrator.ensembles.page.head import head
    from orchestrator.ensembles.page.tables import MEMBERS, page_data
    from orchestrator.ensembles.page.view import View
    from orchestrator.reports.data import cut
    from orchestrator.reports.page import framed

    view = View(comparison, images or {})
    drawn = figures(view)
    style = (HERE / "page.css").read_text("utf-8")
    title = f"{cut(comparison['uid'])}: comparison"
    text = framed(title, head(view), drawn, MEMBERS, "Members", page_data(view, drawn), style)
    return text.encode("utf-8", errors="replace").decode()
