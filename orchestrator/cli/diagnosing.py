"""diagnose: what passes through a network, layer by layer, before or after its training."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.text import say
from orchestrator.cli.parser import Parser, add_runs_dir

if TYPE_CHECKING:
    import argparse

    from orchestrator.diagnosis.subjects import Named

EXAMPLE = "orchestrator diagnose model=mlp model.hidden=10 activation=tanh init=gaussian init.std=0.01 data=gaussian"


def diagnose_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator diagnose",
        description="Look at a network before its training, or at a trial of a sweep (from=NAME/7): activations and gradients"
        " of each layer, as a table and as one HTML page that needs no network.",
        epilog=f"for example:  {EXAMPLE}",
    )
    parser.add_argument("overrides", nargs="*", help="as for train: key=value, group=choice; or from=NAME/7")
    parser.add_argument("--config-dir", type=Path, help="a folder with choices of your own, or another root file")
    parser.add_argument("--config-name", default="launch", help="the root file, without .yaml")
    parser.add_argument("--initial", action="store_true", help="with from=: at initialization, not with its weights")
    parser.add_argument("--examples", type=int, metavar="N", help="training images (default: 1000, fewer for maps)")
    parser.add_argument("--layer", metavar="NAME", help="whose nearest neighbours are shown (default: the last hidden)")
    _add_output(parser)
    options = parser.parse_overrides(argv)
    from orchestrator.training.diagnosis.study import diagnosed

    named = _named(options)
    with named.built(options.examples) as subject:
        try:
            found = diagnosed(subject, options.layer)
        except ValueError as error:
            raise ConfigError(Problem(named.title, str(error))) from error
    from orchestrator.cli.diagnosed import lines_of
    from orchestrator.diagnosis.page import network_page
    from orchestrator.diagnosis.record import as_json

    if options.json:
        say(as_json(found))
    else:
        for line in lines_of(named, found):
            say(line)
    _write(options, "diagnosis", named.title, lambda: network_page(named, found))
    return errors.EXIT_OK


def _named(options: argparse.Namespace) -> Named:
    """What is to be diagnosed."""
    from orchestrator.diagnosis.subjects import configured, of_trial

    trials = [text.removeprefix("from=") for text in options.overrides if text.startswith("from=")]
    if not trials:
        if options.initial:
            raise ConfigError(Problem("--initial", "is about a trial, and none is named; add  from=NAME/7"))
        return configured(options.overrides, config_dir=options.config_dir, config_name=options.config_name)
    if options.config_dir:
        raise ConfigError(Problem("--config-dir", "is about conf/, and from= is not made of it; leave it out"))
    others = [text for text in options.overrides if not text.startswith("from=")]
    return of_trial(trials[-1], others, runs_dir=options.runs_dir, initial=options.initial)


def _add_output(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: in the current folder)")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of tables")
    add_runs_dir(parser)


def _write(options: argparse.Namespace, kind: str, title: str, made: Callable[[], str]) -> None:
    """The page, and where it is."""
    import sys

    from orchestrator.reports.build import write_whole

    to: Path = options.output or Path(f"{kind}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', title)}.html")
    try:
        write_whole(to, made)
    except OSError as error:
        raise NotReadyError(f"the page cannot be written to {to}: {error.strerror or error}") from error
    say(f"{to} ({to.stat().st_size / 1e6:.1f} MB)", sys.stderr if options.json else None)
    if options.open:
        from orchestrator.cli.reporting import open_in_browser

        open_in_browser(to)
