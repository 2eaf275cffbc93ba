"""report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.base import errors
from orchestrator.base.errors import NotReadyError
from orchestrator.base.text import say
from orchestrator.cli.parser import Parser, add_runs_dir


def report_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator report",
        description="Write the report of a sweep, finished or running: one HTML file that needs no network.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a sweep's name, or its name with the id; the newest where absent"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: report-NAME.html in the current folder")
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    from orchestrator.journal.finding import named_or_newest
    from orchestrator.reports.build import write_report

    folder = named_or_newest(options.runs_dir, options.name).absolute()
    to: Path = options.output or Path(f"report-{folder.name}.html")
    try:
        write_report(folder, to)
    except OSError as error:
        raise NotReadyError(f"the report cannot be written to {to}: {error.strerror or error}") from error
    say(f"{to} ({to.stat().st_size / 1e6:.1f} MB)")
    if options.open:
        open_in_browser(to)
    return errors.EXIT_OK


def open_in_browser(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        say("there is no browser to show it in; open the file in one", None)
