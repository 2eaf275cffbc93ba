"""dashboard, sync, verify and cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.text import say
from orchestrator.cli.parser import Parser, add_runs_dir


def dashboard(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator dashboard",
        description="Serve MLflow's UI on 127.0.0.1 and open it at the trials of a sweep.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a sweep's name, or its name with the id; the newest where absent"
    )
    add_runs_dir(parser)
    parser.add_argument("--port", type=int, default=5000, help="0 picks a free port (default: 5000)")
    parser.add_argument("--uri", help="another store (sqlite:////absolute/path) or server (http://host:port)")
    parser.add_argument("--no-open", action="store_true", help="say the address and open no browser")
    options = parser.parse_args(argv)
    from orchestrator.journal.finding import find_sweep, newest_tracked, tracking_of
    from orchestrator.tracking.dashboard import check_port, serve

    sweep = find_sweep(options.runs_dir, options.name) if options.name else None
    if sweep is None and not options.uri:
        sweep = newest_tracked(options.runs_dir)
    check_port(options.port)
    uri = options.uri or (tracking_of(sweep).get("uri") if sweep else None)
    show = (lambda address: None) if options.no_open else _open_in_browser
    serve(options.runs_dir, port=options.port, uri=uri, sweep=sweep, say=say, show=show)
    return errors.EXIT_OK


def _open_in_browser(address: str) -> None:
    """Opens an address where there is a desktop, and a person at the terminal who sees it."""
    import os
    import sys
    import webbrowser

    desktop = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if desktop and sys.stdout.isatty():
        webbrowser.open(address)


def sync_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator sync",
        description="Send the events of a sweep that MLflow has not taken yet, and comparisons that wait.",
    )
    parser.add_argument(
        "name", metavar="NAME", help="a sweep's or a comparison's name, or its name with the id: digits-0a1b2c3d"
    )
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    from orchestrator.ensembles.shipping import waiting
    from orchestrator.housekeeping.comparisons import find_comparison
    from orchestrator.journal.finding import find_sweep
    from orchestrator.sweep.reporting import make_up
    from orchestrator.tracking.sync import sync

    if (comparison := find_comparison(options.runs_dir, options.name)) is not None:
        _made_up(comparison)
        return errors.EXIT_OK
    folder = find_sweep(options.runs_dir, options.name)
    make_up(folder, say)
    say(str(sync(folder)))
    for comparison in waiting(options.runs_dir, folder.name):
        _made_up(comparison)
    return errors.EXIT_OK


def _made_up(comparison: Path) -> None:
    from orchestrator.ensembles.finishing import make_up

    for line in make_up(comparison):
        say(line)


def verify(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator verify",
        description="Check a sweep's journal, MLflow runs and files against each other; changes nothing.",
    )
    parser.add_argument("name", metavar="NAME", help="a sweep's name, or its name with the id: digits-0a1b2c3d")
    parser.add_argument("--deep", action="store_true", help="evaluate the kept weights again, on the CPU")
    parser.add_argument(
        "rights", nargs="*", default=[], metavar="allowed_targets=...", help="and import_paths=...: your own code"
    )
    add_runs_dir(parser)
    options = parser.parse_intermixed_args(argv)
    from orchestrator.base.rights import granted
    from orchestrator.config.rights import typed_rights
    from orchestrator.journal.finding import find_sweep
    from orchestrator.journal.place import note
    from orchestrator.verify import verify as check

    if warning := note(options.runs_dir):
        say(warning)
    rights, others = typed_rights(options.rights)
    if others:
        raise ConfigError(
            Problem(others[0], "is not an argument of verify: allowed_targets=... and import_paths=... are")
        )
    with granted(rights):
        report = check(find_sweep(options.runs_dir, options.name), say=say, deep=options.deep)
    return report.exit_code


def cache(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator cache", description="Show, or clear, the folder of decoded images.")
    parser.add_argument("--clear", action="store_true")
    parser.add_argument("--folder", type=Path, help="another cache folder, as in data_cache=...")
    options = parser.parse_args(argv)
    from orchestrator.training.data import cache_folder, cache_size, clear_cache

    folder = cache_folder(options.folder)
    if options.clear:
        say(f"freed {clear_cache(folder) / 1e6:.1f} MB in {folder}")
    else:
        say(f"{cache_size(folder) / 1e6:.1f} MB in {folder}")
    return errors.EXIT_OK
