"""diagnose: what passes through a network, layer by layer, before or after its training."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.text import say
from orchestrator.cli.parser import Parser, add_runs_dir

if TYPE_CHECKING:
    import argparse

    from orchestrator.diagnosis.subjects import Named

T = TypeVar("T")

EXAMPLE = "orchestrator diagnose model=mlp model.hidden=10 activation=tanh init=gaussian init.std=0.01 data=gaussian"


def diagnose_command(argv: Sequence[str]) -> int:
    asked = next((word for word in argv if not word.startswith("-")), "")
    if asked in STUDIES:
        place = list(argv).index(asked)
        return STUDIES[asked]([*argv[:place], *argv[place + 1 :]])
    return network_command(argv)


def network_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator diagnose",
        description="Look at a network before its training, or at a trial of a sweep (from=NAME/7): activations and gradients"
        " of each layer, as a table and as one HTML page that needs no network.",
        epilog=f"for example:  {EXAMPLE}. Further: {', '.join(f'orchestrator diagnose {name}' for name in STUDIES)}; each has"
        " its --help.",
    )
    parser.add_argument("overrides", nargs="*", help="as for train: key=value, group=choice; or from=NAME/7")
    parser.add_argument("--config-dir", type=Path, help="a folder with choices of your own, or another root file")
    parser.add_argument("--config-name", default="launch", help="the root file, without .yaml")
    parser.add_argument("--initial", action="store_true", help="with from=: at initialization, not with its weights")
    parser.add_argument("--examples", type=int, metavar="N", help="training images (default: 1000, fewer for maps)")
    parser.add_argument(
        "--layer", metavar="MODULE", help="whose nearest neighbours are shown (default: the last hidden)"
    )
    _add_output(parser)
    options = parser.parse_overrides(argv)
    from orchestrator.training.diagnosis.study import diagnosed

    named = _named(options)
    with named.built(options.examples) as subject:
        found = _of(named, lambda: diagnosed(subject, options.layer))
    from orchestrator.cli.diagnosed import lines_of
    from orchestrator.diagnosis.page import network_page

    _say(options, found, lines_of(named, found))
    _write(options, "diagnosis", named.title, lambda: network_page(named, found))
    return errors.EXIT_OK


def lesion_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator diagnose lesion",
        description="Delete the units of a trained network at test time, one by one and several at once, and swap them: what it"
        " costs on the validation images. Of two trials, a plain and a residual one, side by side.",
        epilog="for example:  orchestrator diagnose lesion digits/0 digits/1",
    )
    parser.add_argument("trials", nargs="+", metavar="NAME/7", help="a trial of a sweep")
    parser.add_argument(
        "--draws", type=int, metavar="N", help="sets of each size; all where there are no more (default: 20)"
    )
    parser.add_argument("--examples", type=int, metavar="N", help="validation images, the first so many (default: all)")
    _add_output(parser)
    options = parser.parse_intermixed_args(argv)
    _at_least_one("--draws", options.draws)
    _at_least_one("--examples", options.examples)
    from orchestrator.cli.diagnosed_units import lesion_lines
    from orchestrator.diagnosis.page import lesion_page
    from orchestrator.diagnosis.subjects import of_trial
    from orchestrator.training.diagnosis.lesions import DRAWS, lesioned

    found = []
    for name in dict.fromkeys(options.trials):
        named = of_trial(name, runs_dir=options.runs_dir)
        with named.built() as subject:
            study = partial(lesioned, subject, draws=options.draws or DRAWS, images=options.examples)
            found.append((named, _of(named, study)))
    lines = (line for one in found for line in [*lesion_lines(*one), ""])
    _say(options, {named.title: one for named, one in found}, lines)
    _write(options, "lesion", " ".join(named.title for named, _ in found), lambda: lesion_page(found))
    return errors.EXIT_OK


def paths_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator diagnose paths",
        description="The paths through a residual network: how many of each length, and how much gradient comes along one.",
        epilog="for example:  orchestrator diagnose paths digits/0",
    )
    parser.add_argument("trial", metavar="NAME/7", help="a trial of a sweep")
    parser.add_argument("--samples", type=int, default=20, metavar="N", help="of each length (default: 20)")
    parser.add_argument("--initial", action="store_true", help="at initialization, not with its weights")
    _add_output(parser)
    options = parser.parse_intermixed_args(argv)
    _at_least_one("--samples", options.samples)
    from orchestrator.cli.diagnosed_units import paths_lines
    from orchestrator.diagnosis.page import paths_page
    from orchestrator.diagnosis.subjects import of_trial
    from orchestrator.training.diagnosis.paths import paths

    named = of_trial(options.trial, runs_dir=options.runs_dir, initial=options.initial)
    with named.built() as subject:
        found = _of(named, lambda: paths(subject, samples=options.samples))
    _say(options, found, paths_lines(named, found))
    _write(options, "paths", named.title, lambda: paths_page(named, found))
    return errors.EXIT_OK


def trajectories_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator diagnose trajectories",
        description="The optimizers of the catalogue on quadratics of two variables, a saddle and a plateau, and under noise.",
        epilog="for example:  orchestrator diagnose trajectories --rate 0.1 --open",
    )
    parser.add_argument("--rate", type=float, metavar="EPS", help="the learning rate (default: 0.14)")
    _add_output(parser)
    options = parser.parse_args(argv)
    if options.rate is not None and not 0 < options.rate < float("inf"):
        raise ConfigError(Problem("--rate", "must be above 0 and finite", options.rate))
    from orchestrator.cli.diagnosed_units import trajectories_lines
    from orchestrator.diagnosis.page import trajectories_page
    from orchestrator.training.diagnosis.trajectories import RATE, trajectories

    found = trajectories(RATE if options.rate is None else options.rate)
    _say(options, found, trajectories_lines(found))
    _write(options, "", "trajectories", lambda: trajectories_page(found))
    return errors.EXIT_OK


STUDIES: dict[str, Callable[[Sequence[str]], int]] = {
    "lesion": lesion_command,
    "paths": paths_command,
    "trajectories": trajectories_command,
}
"""What else there is to diagnose, by the first word."""


def _at_least_one(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(Problem(option, "must be at least 1", value))


def _of(named: Named, study: Callable[[], T]) -> T:
    """What a study gives; a network that it is not for is told as that."""
    try:
        return study()
    except ValueError as error:
        raise ConfigError(Problem(named.title, str(error))) from error


def _say(options: argparse.Namespace, found: object, lines: Iterable[str]) -> None:
    """The lines, or what was found as JSON."""
    from orchestrator.diagnosis.record import as_json

    if options.json:
        say(as_json(found))
    else:
        for line in lines:
            say(line)


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
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: a new file in this folder)")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of tables")
    add_runs_dir(parser)


def _write(options: argparse.Namespace, kind: str, title: str, made: Callable[[], str]) -> None:
    """The page, and where it is."""
    import sys

    from orchestrator.reports.build import write_whole

    to: Path = options.output or _free("-".join(part for part in (kind, title) if part))
    try:
        write_whole(to, made)
    except OSError as error:
        raise NotReadyError(f"the page cannot be written to {to}: {error.strerror or error}") from error
    say(f"{to} ({to.stat().st_size / 1e6:.1f} MB)", sys.stderr if options.json else None)
    if options.open:
        from orchestrator.cli.reporting import open_in_browser

        open_in_browser(to)


def _free(name: str) -> Path:
    """The file of that name in the current folder, numbered from 2 on where there is one already."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    numbered = (Path(f"{stem}{'' if number == 1 else f'-{number}'}.html") for number in itertools.count(1))
    return next(path for path in numbered if not path.exists())
