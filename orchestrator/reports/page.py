"""The page around the figures: head, contents, the line of the filter, the table of trials, and the script that links them."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.text import visible
from orchestrator.reports.bundle import bundled
from orchestrator.reports.data import SweepData
from orchestrator.reports.figure import Figure
from orchestrator.reports.head import head
from orchestrator.reports.tables import epoch_table, to_json, trial_table

HERE = Path(__file__).parent


def page(sweep: SweepData, figures: Sequence[Figure]) -> str:
    """The whole report as HTML."""
    return framed(f"{sweep.record.opened.name}: report", head(sweep), figures, TABLE, "Trials", _data(sweep, figures))


def framed(
    title: str, header: str, figures: Sequence[Figure], table: str, table_name: str, data: str, style: str = ""
) -> str:
    """A page as HTML. Nothing in it is loaded from elsewhere, and only the scripts that we put in run.

    Args:
        title: plain text.
        header, table: HTML, the section of the table with the id `trials`.
        data: what `page.js` reads, from `to_json`.
        style: more CSS.
    """
    scripts = [library(), (HERE / "page.js").read_text("utf-8")]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{(HERE / "page.css").read_text("utf-8")}{style}</style>
</head>
<body>
{header}
{_contents(figures, table_name)}
<div id="filter" role="status" aria-live="polite"></div>
<main>
{"".join(map(_section, figures))}
{table}
</main>
<script type="application/json" id="data">{data}</script>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


TABLE = """<section id="trials"><h2>Trials</h2>
<p>Those that are chosen, the best first. A click on a row chooses the trial, with Ctrl or Shift one more; a click on a column's
name sorts.</p>
<div class="scroll"><table id="table"></table></div><button type="button" id="more" hidden></button></section>
"""


@functools.cache
def library() -> str:
    """Vega-Embed, with Vega and Vega-Lite in it."""
    bundle = bundled("window.vegaEmbed=vegaEmbed;")
    assert "</script" not in bundle.lower()
    return bundle


def text(value: object) -> str:
    """Plain text as HTML."""
    return html.escape(visible(str(value)))


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is fetched; of scripts only these run. Vega compiles its expressions, hence 'unsafe-eval'."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"


def _contents(figures: Sequence[Figure], table_name: str) -> str:
    links = "".join(f'<a href="#{text(figure.name)}">{text(figure.title)}</a>' for figure in figures)
    return f'<nav aria-label="Contents">{links}<a href="#trials">{table_name}</a></nav>'


def _section(figure: Figure) -> str:
    count = len(figure.panels) if figure.panels else int(figure.spec is not None)
    kind = "panels" if figure.panels else "scroll"
    views = '<div class="view"></div>' * count
    inside = (
        f'<div class="{kind}" style="--least:{int(figure.min_width)}px">{views}</div>' if count else figure.html or ""
    )
    return (
        f'<section id="{text(figure.name)}" class="figure"><h2>{text(figure.title)}</h2><p>{text(figure.text)}</p>'
        f"{inside}</section>\n"
    )


def drawn(figures: Sequence[Figure]) -> dict[str, list[Any]]:
    """The specs of the figures that have any."""
    return {
        figure.name: list(figure.panels) if figure.panels else [figure.spec]
        for figure in figures
        if figure.panels or figure.spec is not None
    }


def _data(sweep: SweepData, figures: Sequence[Figure]) -> str:
    specs = to_json(drawn(figures))
    about: dict[str, Any] = {
        "sweep": visible(sweep.record.uid),
        "label": sweep.label,
        "mode": sweep.mode,
        "columns": [[key.field, key.label, key.kind] for key in sweep.keys]
        + [[test.field, test.label, "number"] for test in sweep.tests],
        "titles": {figure.name: figure.title for figure in figures},
        "trials": trial_table(sweep),
        "epochs": epoch_table(sweep, specs),
    }
    return f'{to_json(about)[:-1]},"figures":{specs}}}'
