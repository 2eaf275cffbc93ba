"""claims: what the lectures claim, and what a sweep of an experiment says of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.text import say
from orchestrator.cli.parser import Parser, add_runs_dir

if TYPE_CHECKING:
    from orchestrator.analysis.claims import Verdict

EXAMPLES = """\
examples:
  orchestrator launch experiment=e05_xavier_kaiming
  orchestrator claims                                       of the newest sweep
  orchestrator claims --all --write docs/claims.md          all experiments, about an hour on two cores
  orchestrator claims --all --data photographs repeat=5     with those on photographs, and five seeds each
"""


def claims_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator claims",
        description="What the claims of an experiment came to in a sweep: holds, does not hold or undecided.",
    )
    parser.describe_at_the_end(argv, lambda: EXAMPLES)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME",
        help="a sweep's name, or its name with the id; the newest where it is left out. With --all overrides instead, such "
        "as repeat=5 seed=2, for sweeps of their own",
    )
    parser.add_argument("--json", action="store_true", help="a JSON list of objects, for programs")
    parser.add_argument(
        "--all",
        action="store_true",
        help="run every experiment that has claims, as a sweep of its own, and show a table",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with --all: photographs, for experiments on them")
    parser.add_argument("--write", type=Path, metavar="FILE", help="with --all: write the table there as Markdown")
    parser.add_argument(
        "--no-run", action="store_true", help="with --all: run nothing, and show what the sweeps there say"
    )
    add_runs_dir(parser)
    options = parser.parse_intermixed_args(argv)
    if options.all:
        names = [word for word in options.words if "=" not in word]
        if names or options.json:
            why = "is about one sweep, and --all about all experiments; give one of them"
            raise ConfigError(Problem(names[0] if names else "--json", why))
        from orchestrator.cli.gallery import run_gallery

        return run_gallery(
            options.runs_dir, options.words, data=options.data, write=options.write, run=not options.no_run
        )
    for name in ("data", "write", "no_run"):
        if getattr(options, name):
            raise ConfigError(Problem(f"--{name.replace('_', '-')}", "goes with --all"))
    if len(options.words) > 1:
        raise ConfigError(Problem(options.words[1], "is a second sweep; one at a time, or all experiments with --all"))
    return _of_sweep(options.runs_dir, next(iter(options.words), None), as_json=options.json)


def _of_sweep(runs_dir: Path, name: str | None, *, as_json: bool) -> int:
    from orchestrator.analysis.claims import verdicts
    from orchestrator.analysis.predicted import predictions_in
    from orchestrator.journal.finding import named_or_newest
    from orchestrator.journal.record import read_sweep

    folder = named_or_newest(runs_dir, name)
    record = read_sweep(folder, keep_epochs=True)
    record.check_opened()
    found = verdicts(record, predictions=predictions_in(folder, record))
    if as_json:
        say(json.dumps([one.to_json() for one in found], indent=2, allow_nan=False))
        return errors.EXIT_OK
    for line in lines_of(folder.name, found):
        say(line)
    return errors.EXIT_OK


def lines_of(sweep: str, found: Sequence[Verdict]) -> list[str]:
    """The table of a sweep's claims, then each in words."""
    from orchestrator.analysis.claims import interval_words
    from orchestrator.cli.closing import claim_lines
    from orchestrator.cli.fitting import wrapped

    if not found:
        return [f"{sweep} claims nothing; experiments that do:  orchestrator list experiment"]
    table, *_ = claim_lines(found)
    lines = [f"{sweep}, {table}", *claim_lines(found)[1:], ""]
    for one in found:
        seen = "seen to hold in a pilot" if one.claim.piloted else "its margin was not piloted"
        how = f"; interval {interval_words(one)}, {one.interval}" if one.interval else ""
        said = f"{one.claim.id} ({one.claim.lecture}; {seen}{how}): {one.claim.says}: {one.claim.inequality}"
        lines += wrapped([said])
    return lines
