"""compare: which ensemble of a sweep's trials is best, by how much, how sure that is, and what it costs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.text import say
from orchestrator.cli.compared import lines_of, next_steps
from orchestrator.cli.parser import Parser, add_runs_dir

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
TRIAL = re.compile(r"(.+)/\d+")


def compare_command(argv: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(argv)
    macs = None if options.macs is None else _macs(options.macs)
    _check_sweeps(options.sweeps)
    methods = None if options.methods is None else [name for name in options.methods.split(",") if name]
    from orchestrator.ensembles.catalogue import chosen
    from orchestrator.ensembles.checks import check_asked, check_idle, check_place
    from orchestrator.ensembles.comparing import compare
    from orchestrator.ensembles.finishing import finish, is_kept, keep
    from orchestrator.ensembles.gathering import gather

    chosen(methods)  # a wrong name is told before anything is read
    if options.register is not None:
        from orchestrator.ensembles.registering import check_name

        check_name(options.register)
    check_asked(options.temperature, options.budget, macs, options.seed, name=options.name)
    gathered = gather(options.sweeps, options.runs_dir, filter_string=options.filter, uri=options.uri)
    check_place(options.runs_dir)
    if options.deepen is not None:
        from orchestrator.cli.deepening import deepen

        check_idle(gathered.sources)
        if code := deepen(gathered, options.deepen, budget=options.budget, quiet=options.json):
            return code
        gathered = gather(options.sweeps, options.runs_dir, filter_string=options.filter, uri=options.uri)
    networks: dict[str, bytes] = {}
    found = compare(
        gathered,
        methods=methods,
        temperature=options.temperature,
        budget=options.budget,
        macs=macs,
        seed=options.seed,
        name=options.name,
        filter_string=options.filter,
        latency=options.latency,
        command=["orchestrator", "compare", *argv],
        networks=networks,
        kept_in=options.runs_dir,
    )
    if is_kept(found, options.runs_dir):
        say(f"This comparison was made before, and is kept as {found['uid']}.", sys.stderr if options.json else None)
    path = keep(found, options.runs_dir, gathered.sources, register=options.register, networks=networks)
    for line in () if options.json else lines_of(found, path):
        say(line)
    for line in finish(found, path.parent, gathered.sources, register=options.register, networks=networks):
        say(line, sys.stderr if options.json else None)
    for line in () if options.json else next_steps(found, path.parent, registered=options.register):
        say(line)
    if options.json:
        say(json.dumps(found, allow_nan=False))
    return errors.EXIT_OK


def _parser() -> Parser:
    parser = Parser(
        prog="orchestrator compare",
        description="Build ensembles of trained trials, and say which is best: by how much, how sure, at what cost. The winner "
        "is fixed by validation predictions and recorded in the sweeps; only then the test is read.",
    )
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help="a sweep's name, or its name with the id")
    parser.add_argument("--filter", metavar="F", help="of trials, as in MLflow: \"params.norm = 'batch'\"")
    parser.add_argument(
        "--methods",
        metavar="A,B",
        help="some of `orchestrator list ensemble` (default: those not said to be on request)",
    )
    parser.add_argument(
        "--temperature",
        default="after",
        metavar="WHEN",
        help="fitted after pooling, before it, or none (default: after)",
    )
    parser.add_argument(
        "--deepen", type=int, metavar="N", help="first train N more seeds, in all, of the best configurations"
    )
    parser.add_argument("--budget", type=int, metavar="N", help="members that the winner may have")
    parser.add_argument("--macs", metavar="250M", help="multiply-adds an image that the winner may take")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of folds and resamples (default: 1)")
    parser.add_argument("--name", help="of the comparison (default: made from the sweeps)")
    parser.add_argument("--uri", help="read sweeps that are not here from this tracking server")
    parser.add_argument("--latency", action="store_true", help="time the networks whose weights are kept")
    parser.add_argument("--register", metavar="NAME", help="register the winner as a model of this name in MLflow")
    parser.add_argument("--json", action="store_true", help="print the whole record instead of the table")
    add_runs_dir(parser)
    return parser


def _macs(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([KMGT]?)", text.strip().upper())
    if not found or (value := round(float(found[1]) * UNITS[found[2]])) < 1:
        raise ConfigError(Problem("--macs", "must be a number such as 250M, 1.5G or 4000000", text))
    return value


def _check_sweeps(names: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: one is no sweep by its form; it says what to type.
    """
    for name in names:
        key, assigned, value = name.partition("=")
        if assigned:
            hint = f"to compare some of the trials write  --filter \"params.{key} = '{value}'\""
            raise ConfigError(Problem(name, "is an override, and compare trains nothing", hint=hint))
        if found := TRIAL.fullmatch(name):
            why = "is one trial, and an ensemble takes several"
            raise ConfigError(Problem("SWEEP", why, name, hint=f"name its sweep: {found[1]}"))
