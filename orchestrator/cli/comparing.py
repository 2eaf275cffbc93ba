"""compare: which ensemble of a sweep's trials is best, by how much, how sure that is, and what it costs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.text import say, short
from orchestrator.cli.fitting import cell, fitting, wrapped
from orchestrator.cli.parser import Parser, add_runs_dir
from orchestrator.ensembles.comparison import Comparison, Estimate, Row, network_of, trials_of

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SHOWN = 8
BASELINE = "best_single"
SEEDS = "seeds"
HYPER_DEEP = "hyper_deep"
RENAMED = {"best_single": "best single", "mean": "mean of all"}


def compare_command(argv: Sequence[str]) -> int:
    options = _parser().parse_intermixed_args(argv)
    macs = None if options.macs is None else _macs(options.macs)
    methods = None if options.methods is None else [name for name in options.methods.split(",") if name]
    from orchestrator.ensembles import record
    from orchestrator.ensembles.catalogue import chosen
    from orchestrator.ensembles.checks import check_asked, check_idle
    from orchestrator.ensembles.comparing import compare
    from orchestrator.ensembles.finishing import finish
    from orchestrator.ensembles.gathering import gather

    chosen(methods)  # a wrong name is told before anything is read
    if options.register is not None:
        from orchestrator.ensembles.registering import check_name

        check_name(options.register)
    check_asked(options.temperature, options.budget, macs, options.seed, name=options.name)
    gathered = gather(options.sweeps, options.runs_dir, filter_string=options.filter, uri=options.uri)
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
    )
    path = record.write(found, options.runs_dir)
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
    parser.add_argument("--methods", metavar="A,B", help="some of `orchestrator list ensemble` (default: all)")
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
    parser.add_argument("--uri", help="read the trials from this tracking server")
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


# What people read -----------------------------------------------------------------------------------------------------


def lines_of(found: Comparison, path: Path) -> list[str]:
    """The table, the answer, and what was left out."""
    lines = [_heading(found), "", *_table(found), ""]
    lines += wrapped([answer(found), *_hyper_deep(found), *_how_sure(found), *_chosen(found), *_averaged(found)])
    return [*lines, "", *wrapped([*_left_out(found), *_looks(found)]), f"record: {path}"]


def _heading(found: Comparison) -> str:
    sweeps = ", ".join(cell(sweep["uid"]) for sweep in found["sweeps"][:3])
    more = f" and {len(found['sweeps']) - 3} more" if len(found["sweeps"]) > 3 else ""
    counts = found["examples"]
    trials = len(trials_of(found["members"]))
    return f"{trials} trials of {sweeps}{more}; {counts['val']:,} validation and {counts['test']:,} test examples"


def _table(found: Comparison) -> list[str]:
    rows, tested = found["rows"], found["examples"]["test"] > 0
    columns: dict[str, list[str]] = {
        "method": [f"{_name(row)}{_mark(row, found)}" for row in rows],
        "members": [str(len(row["members"])) for row in rows],
    }
    if tested:
        columns["test %"] = [_percent(row["accuracy"]) for row in rows]
        columns["over best single"] = [_gained(row) for row in rows]
        columns["p"] = ["" if "p_holm" not in row else f"{row['p_holm']:.2g}" for row in rows]
        columns["NLL"] = [f"{row['test']['measures']['nll']:.4f}" for row in rows]
    columns["val %"] = [f"{100 * row['val']['measures']['accuracy']:.2f}" for row in rows]
    if any(row["multiply_adds"] is not None for row in rows):
        columns["MACs"] = ["" if row["multiply_adds"] is None else short(row["multiply_adds"]) for row in rows]
    if any(row["latency_ms"] is not None for row in rows):
        columns["ms"] = ["" if row["latency_ms"] is None else f"{row['latency_ms']:.1f}" for row in rows]
    keep = ["method", "members", "test %", "over best single", "MACs", "ms", "NLL", "p", "val %"]
    lines, _ = fitting(columns, [name for name in keep if name in columns])
    return [*lines, *wrapped(_legend(found, tested, with_p="p" in lines[0].split()))]


def _name(row: Row) -> str:
    return RENAMED.get(row["method"], row["method"].replace("_", " "))


def _mark(row: Row, found: Comparison) -> str:
    marks = "*" * (row["method"] == found["winner"]) + "=" * row.get("in_set", False) + "!" * (not row["allowed"])
    return f" {marks}" if marks else ""


def _legend(found: Comparison, tested: bool, *, with_p: bool) -> list[str]:
    legend = ["* the winner, fixed by validation" + (" before the test was read" if tested else "")]
    if sum(row.get("in_set", False) for row in found["rows"]) > 1:
        legend.append("= a tie: cannot be told from the best on the test (95 % model confidence set)")
    if not all(row["allowed"] for row in found["rows"]):
        legend.append("! costs more than --budget or --macs allows: cannot win")
    if tested:
        about_p = "; p: McNemar's, with Holm's correction" if with_p else ""
        legend.append(f"[95 % intervals over test examples]; points over the best single{about_p}")
    return legend


def _percent(said: Estimate) -> str:
    ends = "" if said["low"] is None or said["high"] is None else f" [{100 * said['low']:.1f} {100 * said['high']:.1f}]"
    return f"{100 * said['value']:.2f}{ends}"


def _gained(row: Row) -> str:
    said = row["gain_accuracy"]
    if row["method"] == BASELINE or said["low"] is None or said["high"] is None:
        return ""
    return f"{100 * said['value']:+.2f} [{100 * said['low']:+.1f} {100 * said['high']:+.1f}]"


def answer(found: Comparison) -> str:
    """Which one, by how much over the best single trial, how sure, and at what cost."""
    rows = {row["method"]: row for row in found["rows"]}
    winner, single = rows[found["winner"]], rows[BASELINE]
    best = _named(found, single["members"][0])
    if winner["method"] == BASELINE:
        return f"No ensemble was better on validation than the best single trial, {best}{_accuracy(winner)}: it wins."
    text = f"{_name(winner)}, {_made_of(found, winner)}, wins on validation{_accuracy(winner)}"
    if "gain_accuracy" in winner:
        text += _beside(winner, best)
    return f"{text}{_cost(winner, single)}."


def _made_of(found: Comparison, row: Row) -> str:
    if (network := network_of(found, row)) is None:
        return f"of {len(row['members'])} trials"
    count = len(network["ingredients"])
    return f"one network of the averaged weights of {f'{count} trials' if count > 1 else 'one trial'}"


def _accuracy(row: Row) -> str:
    return f": {100 * row['accuracy']['value']:.2f} % of the test right" if "accuracy" in row else ""


def _beside(winner: Row, best: str) -> str:
    gain = winner["gain_accuracy"]
    assert gain["low"] is not None
    assert gain["high"] is not None
    points, low, high = (100 * value for value in (gain["value"], gain["low"], gain["high"]))
    if points == 0:
        text = f", as many as the best single trial {best}"
    else:
        text = f", {abs(points):.2f} points {'more' if points > 0 else 'fewer'} than the best single trial {best}"
    sure = "" if low > 0 or high < 0 else ", which may be chance"
    return f"{text} (95 %: {low:+.2f} to {high:+.2f}; p {winner.get('p_holm', 1.0):.2g}){sure}"


def _cost(winner: Row, single: Row) -> str:
    if winner["multiply_adds"] is None or not single["multiply_adds"]:
        count = len(winner["members"])
        return f", at the cost of {f'{count} networks' if count > 1 else 'one network'}"
    times = winner["multiply_adds"] / single["multiply_adds"]
    beside = "as many as those of the single one" if times == 1 else f"{times:.3g} times those of the single one"
    return f", at {short(winner['multiply_adds'])} multiply-adds an image, {beside}"


def _hyper_deep(found: Comparison) -> list[str]:
    """The hyper-deep ensemble beside the deep ensemble and the best single trial: networks, trainings, accuracy."""
    rows = {row["method"]: row for row in found["rows"]}
    if HYPER_DEEP not in rows or "gain_over_seeds" not in rows[HYPER_DEEP]:
        return []
    said = [(HYPER_DEEP, "hyper deep"), (SEEDS, "the seeds of one configuration"), (BASELINE, "the best single trial")]
    parts = [
        f"{name}, {_counted(len(rows[method]['members']), 'network')} out of {rows[method].get('trainings', 0)} trials: "
        f"{100 * rows[method]['accuracy']['value']:.2f} %"
        for method, name in said
    ]
    gain = rows[HYPER_DEEP]["gain_over_seeds"]
    ends = (
        ""
        if gain["low"] is None or gain["high"] is None
        else f" (95 %: {100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"
    )
    return [
        f"Networks and trainings: {'; '.join(parts)}. Hyper deep over seeds: {100 * gain['value']:+.2f} points{ends}."
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _named(found: Comparison, place: int) -> str:
    name = found["members"][place]["name"]
    return name if len(name) <= 60 else f"{name[:57]}..."


def _how_sure(found: Comparison) -> list[str]:
    """Uncertainty from examples and from seeds, apart; and what the best of many is worth."""
    said = found["corrected"]
    lines, trials = [], len(trials_of(found["members"]))
    naive, value, low, high = (said.get(key) for key in ("naive", "value", "low", "high"))
    if naive is not None and value is not None and low is not None and high is not None:
        lines.append(
            f"The best single trial's validation accuracy of {100 * naive:.2f} % was chosen as the best of "
            f"{trials}; corrected for that it is {100 * value:.2f} % (95 %: {100 * low:.2f} to {100 * high:.2f})."
        )
    spread = said.get("seeds_test") if said.get("seeds_test") is not None else said.get("seeds")
    if spread is not None:
        lines.append(
            f"Intervals are over examples alone. Seeds come on top: one configuration's accuracy spreads by {100 * spread:.2f} "
            "points (standard deviation) from seed to seed."
        )
    else:
        lines.append(
            "Intervals are over examples alone; how far seeds spread is not known (repeat=5 trains five of each)."
        )
    return lines


def _chosen(found: Comparison) -> list[str]:
    best = found["rows"][0]
    if best["method"] == found["winner"] or "test" not in best:
        return []
    return [f"{_name(best)} is first on the test; to take it for that would be choosing by the test."]


def _averaged(found: Comparison) -> list[str]:
    lines = []
    for row in found["rows"]:
        if (network := network_of(found, row)) is not None and row["method"] == "swa":
            name = _named(found, network["ingredients"][0])
            lines.append(f"swa is one network, the weights of {name} averaged over its last epochs.")
        elif network is not None and len(network["ingredients"]) == 1:
            lines.append(
                f"{_name(row)} is {_named(found, network['ingredients'][0])} alone: no other's weights helped."
            )
        elif network is not None:
            names = [_named(found, place) for place in network["ingredients"][:3]]
            more = f" and {len(network['ingredients']) - 3} more" if len(network["ingredients"]) > 3 else ""
            worst = min(found["members"][place]["val_accuracy"] for place in network["ingredients"])
            apart = " It is worse than each of them: weights can be averaged of trials that began alike (pretrained=SWEEP/7)."
            bad = len(network["ingredients"]) > 1 and row["val"]["measures"]["accuracy"] < worst
            lines.append(
                f"{_name(row)} is one network, of the averaged weights of {', '.join(names)}{more}.{apart if bad else ''}"
            )
    return lines


def _left_out(found: Comparison) -> list[str]:
    lines = [f"not tried: {name.replace('_', ' ')} ({why})" for name, why in found["not_tried"]]
    reasons: dict[str, list[str]] = {}
    for name, why in found["left_out"]:
        reasons.setdefault(why, []).append(name)
    for why, names in [*reasons.items()][:SHOWN]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"left out: {', '.join(names[:3])}{more} ({why})"[:600])
    if len(reasons) > SHOWN:
        lines.append(f"and trials left out for {len(reasons) - SHOWN} other reasons: --json has them")
    if missing := found["environment"].get("multiply_adds_missing"):
        lines.append(f"multiply-adds are not known of {missing}"[:600])
    if missing := found["environment"].get("latency_missing"):
        lines.append(f"not timed: {missing}"[:600])
    return lines


def _looks(found: Comparison) -> list[str]:
    most = max((sweep["look"] for sweep in found["sweeps"]), default=0)
    if not most:
        return ["How often this test was looked at is not counted: the trials were read from a server."]
    if most == 1:
        return [
            "This is look 1 at the test of these trials: its intervals hold as they are. The same comparison once more is "
            "no further look; any other is."
        ]
    return [
        f"This is look {most} at the test of these trials: with each further one the best of them is more of a lucky one."
    ]


def next_steps(found: Comparison, folder: Path, *, registered: str | None) -> list[str]:
    """The commands that use the winner, and the one that shows its heaviest member.

    Args:
        folder: of the comparison, with the winner as a model if all its weights are here.
        registered: the name that the winner was registered under.
    """
    from orchestrator.base.layout import MODEL
    from orchestrator.journal.finding import runs_dir_option

    (row,) = (row for row in found["rows"] if row["method"] == found["winner"])
    heaviest = max(range(len(row["members"])), key=lambda place: row["weights"][place])
    network = network_of(found, row)
    place = row["members"][heaviest] if network is None else network["ingredients"][0]
    member = shlex.quote(found["members"][place]["name"])
    where = runs_dir_option(folder.parent)
    lines = ["next:"]
    if (folder / MODEL).is_dir():
        name = f"models:/{registered}@champion" if registered else folder.name
        lines.append(
            f"  orchestrator predict {shlex.quote(name)}{where} IMAGE...    what the winner says of image files"
        )
        if not registered:
            again = shlex.join([*found["command"], "--register", "NAME"])
            lines.append(f"  {again}    the same, no further look: a model in MLflow's registry")
    return [*lines, f"  orchestrator show {member}{where}    its member with the most weight"]
