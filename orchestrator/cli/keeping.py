"""status, show, stop and delete."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.text import say
from orchestrator.cli.parser import Parser, add_runs_dir

EXACTLY = "the sweep's name with its id (digits-0a1b2c3d), or its name alone where no other sweep has it"


def status_command(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator status", description="All sweeps and comparisons of a folder, or one in full.")
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a sweep's or a comparison's name, or its name with the id: digits-0a1b2c3d",
    )
    parser.add_argument(
        "--check", action="store_true", help="also check the journals and the MLflow database for damage"
    )
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    from orchestrator.housekeeping.comparisons import comparisons_in, find_comparison
    from orchestrator.housekeeping.databases import check_databases
    from orchestrator.housekeeping.overview import (
        comparison_detail,
        comparison_lines,
        detail_lines,
        look,
        survey,
        table_lines,
    )
    from orchestrator.journal.finding import find_sweep
    from orchestrator.journal.place import note

    if warning := note(options.runs_dir):
        say(warning)
    if options.name is not None and (comparison := find_comparison(options.runs_dir, options.name)) is not None:
        _say_all(comparison_detail(comparison))
        return errors.EXIT_OK
    if options.name is not None:
        sweeps = [look(find_sweep(options.runs_dir, options.name))]
        _say_all(detail_lines(sweeps[0]))
    elif sweeps := survey(options.runs_dir):
        _say_all(table_lines(sweeps))
    else:
        say(
            f"there is no sweep in {options.runs_dir}; `orchestrator launch` makes one, --runs-dir names another folder"
        )
    if options.name is None and (comparisons := comparisons_in(options.runs_dir)):
        _say_all(["", *comparison_lines(comparisons)])
    code = errors.EXIT_OK
    if options.check and sweeps:
        say("")
        for checked in check_databases(sweeps):
            _say_all(checked.lines)
            code = errors.EXIT_VIOLATION if checked.problems else code
    return code


def show_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator show", description="Everything about one trial (NAME/7), or about a sweep (NAME)."
    )
    parser.add_argument("name", metavar="NAME/INDEX")
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    from orchestrator.housekeeping.reading import find_trial, split_name
    from orchestrator.housekeeping.showing import trial_lines

    name, index = split_name(options.name)
    if index is None:
        return status_command([name, "--runs-dir", str(options.runs_dir)])
    _say_all(trial_lines(find_trial(options.runs_dir, options.name)))
    return errors.EXIT_OK


def stop_command(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator stop", description="Stop a running sweep cleanly, from any terminal.")
    parser.add_argument("name", metavar="NAME", help=EXACTLY)
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for its end (default: 60)"
    )
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    from orchestrator.housekeeping.stopping import stop
    from orchestrator.journal.finding import find_exactly

    say(stop(find_exactly(options.runs_dir, options.name), options.timeout))
    return errors.EXIT_OK


def delete_command(argv: Sequence[str]) -> int:
    parser = Parser(prog="orchestrator delete", description="Delete a sweep: journal, files and MLflow runs.")
    parser.add_argument("name", metavar="NAME", help=EXACTLY)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_runs_dir(parser)
    options = parser.parse_args(argv)
    from orchestrator.housekeeping.deleting import delete, finish_removal
    from orchestrator.journal.finding import find_exactly, runs_dir_option

    if Path(options.name).name == options.name and finish_removal(options.runs_dir / options.name):
        say(f"deleted what was left of {options.name}")
        return errors.EXIT_OK
    folder = find_exactly(options.runs_dir, options.name).absolute()

    def agree(lines: list[str]) -> bool:
        _say_all(lines)
        if options.yes:
            return True
        if not sys.stdin.isatty():
            yes = f"orchestrator delete {folder.name}{runs_dir_option(folder)} --yes"
            raise ConfigError(
                Problem("delete", f"there is no terminal to ask on; nothing was deleted. To do it:  {yes}")
            )
        return input("delete all of this? [y/N] ").strip().lower() in ("y", "yes")

    if not delete(folder, agree=agree, say=say):
        say("nothing was deleted")
    return errors.EXIT_OK


def adopt_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator adopt",
        description="Give a copied runs folder, or one copied sweep, an identity of its own; the original is not touched.",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--yes", action="store_true", help="also where it does not look like a copy")
    options = parser.parse_args(argv)
    if not options.folder.is_dir():
        raise ConfigError(Problem("FOLDER", "is no folder", options.folder))
    from orchestrator.sweep.adopting import adopt

    adopt(options.folder, anyway=options.yes, say=say)
    return errors.EXIT_OK


def _say_all(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)
