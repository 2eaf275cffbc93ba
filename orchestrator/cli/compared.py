"""What compare says to people: the table, the answer, how sure it is, what was left out, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from orchestrator.base.text import short, signed
from orchestrator.cli.compared_table import BASELINE, is_tested, table_lines, tests_of
from orchestrator.cli.fitting import cell, wrapped
from orchestrator.ensembles.comparison import (
    Comparison,
    MemberRecord,
    Row,
    dropped_sweeps,
    has_weights,
    network_of,
    trials_of,
)

SHOWN = 8
SURE = 0.05
"""A p-value from which on a difference may be chance."""

SEEDS = "seeds"
HYPER_DEEP = "hyper_deep"


def lines_of(found: Comparison, path: Path) -> list[str]:
    """The table, the answer, and what was left out.

    Args:
        path: of the record.
    """
    lines = [_heading(found), "", *table_lines(found), ""]
    lines += wrapped([answer(found), *_hyper_deep(found), *_how_sure(found), *_chosen(found), *_averaged(found)])
    return [*lines, "", *wrapped([*_left_out(found), *_looks(found)]), f"record: {path}"]


def _heading(found: Comparison) -> str:
    sweeps = ", ".join(cell(sweep["uid"]) for sweep in found["sweeps"][:3])
    more = f" and {len(found['sweeps']) - 3} more" if len(found["sweeps"]) > 3 else ""
    counts = found["examples"]
    trials = len(trials_of(found["members"]))
    said = f"{trials} trials of {sweeps}{more}; {counts['val']:,} validation and {counts['test']:,} test examples"
    return "\n".join([said, *wrapped(_dropped(found))])


def _dropped(found: Comparison) -> list[str]:
    """Sweeps that were named and of which no trial is compared, and why."""
    return [
        f"NOT COMPARED: {cell(uid)}, no trial of which fits ({reasons[0][:400]})"
        for uid, reasons in dropped_sweeps(found).items()
    ]


# The answer -----------------------------------------------------------------------------------------------------------


def answer(found: Comparison) -> str:
    """Which one, by how much over the best single trial, how sure, and at what cost."""
    rows = {row["method"]: row for row in found["rows"]}
    winner, single = rows[found["winner"]], rows[BASELINE]
    best = _named(found, single["members"][0])
    if winner["method"] == BASELINE:
        return f"No ensemble was better on validation than the best single trial, {best}: it wins.{_accuracy(winner)}"
    text = f"{winner['method']}, {_made_of(found, winner)}, wins on validation."
    if "gain_accuracy" in winner:
        text += _beside(winner, best, tests_of(found))
    return f"{text} {_cost(winner, single)}"


def _made_of(found: Comparison, row: Row) -> str:
    if (network := network_of(found, row)) is None:
        snapshots = _trials_of_snapshots(found, row)
        return f"of {len(row['members'])} {'snapshots of one trial' if snapshots else 'trials'}"
    if "passes" in network:
        return f"one network, asked {network['passes']:,} times about each image"
    count = len(network["ingredients"])
    return f"one network of the averaged weights of {f'{count} trials' if count > 1 else 'one trial'}"


def _accuracy(row: Row) -> str:
    return f" It gets {100 * row['accuracy']['value']:.2f} % of the test right." if "accuracy" in row else ""


def _beside(winner: Row, best: str, tests: str) -> str:
    gain, p_value = winner["gain_accuracy"], winner.get("p_holm", 1.0)
    assert gain["low"] is not None
    assert gain["high"] is not None
    points, low, high = (100 * value for value in (gain["value"], gain["low"], gain["high"]))
    beside = "as many as" if points == 0 else f"{abs(points):.2f} points {'more' if points > 0 else 'fewer'} than"
    told = f"McNemar's exact p = {p_value:.2g}, corrected for {tests}"
    if p_value < SURE and not low <= 0 <= high:
        chance = f"is hardly chance: the interval excludes 0, and {told}"
    elif low <= 0 <= high:
        chance = f"may be chance: the interval holds 0 ({told})"
    else:
        chance = f"may be chance: the interval excludes 0, but {told}; a gain is sure where p is below {SURE}, too"
    return (
        f" It gets {100 * winner['accuracy']['value']:.2f} % of the test right, {beside} the best single trial {best} "
        f"(95 %: {signed(low, 2)} to {signed(high, 2)}). That {chance}."
    )


def _cost(winner: Row, single: Row) -> str:
    if winner["multiply_adds"] is None or not single["multiply_adds"]:
        return f"It costs {_counted(len(winner['members']), 'network')}."
    times = winner["multiply_adds"] / single["multiply_adds"]
    beside = "as many as that trial" if times == 1 else f"{times:.3g} times those of that trial"
    return f"It takes {short(winner['multiply_adds'])} multiply-adds an image, {beside}."


def _hyper_deep(found: Comparison) -> list[str]:
    """The hyper-deep ensemble beside the deep ensemble and the best single trial: networks, trainings, accuracy."""
    rows = {row["method"]: row for row in found["rows"]}
    if HYPER_DEEP not in rows or "gain_over_seeds" not in rows[HYPER_DEEP]:
        return []
    parts = [
        f"{name} has {_counted(len(rows[name]['members']), 'network')} out of {_counted(rows[name].get('trainings', 0), 'trial')}"
        f" and gets {100 * rows[name]['accuracy']['value']:.2f} %"
        for name in (HYPER_DEEP, SEEDS, BASELINE)
    ]
    gain = rows[HYPER_DEEP]["gain_over_seeds"]
    ends = (
        ""
        if gain["low"] is None or gain["high"] is None
        else f" (95 %: {signed(100 * gain['low'], 2)} to {signed(100 * gain['high'], 2)})"
    )
    told = f"{HYPER_DEEP} over {SEEDS}: {100 * gain['value']:+.2f} points{ends}, {_more_cost(rows[HYPER_DEEP], rows[SEEDS])}."
    return [f"At what cost of training: {'; '.join(parts)}. {told}", *_same_members(found["rows"], rows[HYPER_DEEP])]


def _more_cost(row: Row, than: Row) -> str:
    """What one takes beyond another: `with 12 more trainings and 2 fewer networks`."""
    trainings = row.get("trainings", 0) - than.get("trainings", 0)
    networks = len(row["members"]) - len(than["members"])
    differ = [
        _counted(abs(number), f"{'more' if number > 0 else 'fewer'} {noun}")
        for number, noun in ((trainings, "training"), (networks, "network"))
        if number
    ]
    return f"with {' and '.join(differ)}" if differ else "at equal cost (as many trainings, as many networks)"


def _same_members(rows: Sequence[Row], own: Row) -> list[str]:
    """Greedy selections that took the members of the hyper-deep ensemble: no other number can then be expected."""
    same = [
        row["method"]
        for row in rows
        if row["method"].startswith("greedy") and sorted(row["members"]) == sorted(own["members"])
    ]
    return [f"{HYPER_DEEP} took the same members as {' and '.join(same)}."] if same else []


# How sure -------------------------------------------------------------------------------------------------------------


def _how_sure(found: Comparison) -> list[str]:
    """Uncertainty from examples and from seeds, apart; and what the best of many is worth."""
    said = found["corrected"]
    spread = said.get("seeds_test") if said.get("seeds_test") is not None else said.get("seeds")
    if spread is not None:
        seeds = (
            f"Intervals are over examples alone. Seeds come on top: one configuration's accuracy spreads by {100 * spread:.2f} "
            "points (standard deviation) from seed to seed."
        )
    else:
        seeds = "Intervals are over examples alone; how far seeds spread is not known (repeat=5 trains five of each)."
    return [*_corrected(found), seeds]


def _corrected(found: Comparison) -> list[str]:
    """Validation accuracy of the best single trial and of the winner: as it is, and corrected for having been chosen by it."""
    trials, methods = len(trials_of(found["members"])), sum(row["allowed"] for row in found["rows"])
    return [
        *_of_chosen(found, "", f"The best single trial's validation accuracy of {{}} is the best of {trials}"),
        *_of_chosen(
            found, "winner_", f"The winner's of {{}}, cross-fitted, was chosen among {_counted(methods, 'method')}"
        ),
        *_about_corrected(found),
    ]


def _of_chosen(found: Comparison, whose: str, told: str) -> list[str]:
    said = found["corrected"]
    naive, value, low, high = (said.get(f"{whose}{key}") for key in ("naive", "value", "low", "high"))
    if naive is None or value is None or low is None or high is None:
        return []
    ends = f"(95 %: {100 * low:.2f} to {100 * high:.2f})"
    return [f"{told.format(f'{100 * naive:.2f} %')}; corrected for that choice it is {100 * value:.2f} % {ends}."]


def _about_corrected(found: Comparison) -> list[str]:
    """What the intervals of corrected numbers are."""
    if found["corrected"].get("low") is None:
        return []
    return [
        f"These intervals are over {found['examples']['val']:,} validation images: scores on those that a resample left out, and "
        "at least Wilson's interval where those meet 0 or 100 %."
    ]


def _chosen(found: Comparison) -> list[str]:
    best = found["rows"][0]
    if best["method"] == found["winner"] or "test" not in best:
        return []
    return [f"{best['method']} is first on the test; to take it for that would be choosing by the test."]


# What was made of weights, and what is missing ------------------------------------------------------------------------


def _averaged(found: Comparison) -> list[str]:
    pairs = [(row, network_of(found, row)) for row in found["rows"]]
    return [_network(found, row, network) for row, network in pairs if network is not None]


def _network(found: Comparison, row: Row, network: MemberRecord) -> str:
    ingredients = network["ingredients"]
    names = [_named(found, place) for place in ingredients[:3]]
    if "passes" in network:
        return f"{row['method']} is the network of {names[0]}, asked {network['passes']:,} times about each image."
    if row["method"] == "swa":
        return f"swa is one network, the weights of {names[0]} averaged over its last epochs."
    if len(ingredients) == 1:
        return f"{row['method']} is {names[0]} alone: no other's weights helped."
    more = f" and {len(ingredients) - 3} more" if len(ingredients) > 3 else ""
    text = f"{row['method']} is one network, of the averaged weights of {', '.join(names)}{more}."
    if row["val"]["measures"]["accuracy"] < min(found["members"][place]["val_accuracy"] for place in ingredients):
        text += (
            " It is worse than each of them: weights can be averaged of trials that began alike (pretrained=SWEEP/7)."
        )
    return text


def _left_out(found: Comparison) -> list[str]:
    lines = [f"not tried: {name} ({why})" for name, why in found["not_tried"]]
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
    if not is_tested(found):
        return []
    most = max((sweep["look"] for sweep in found["sweeps"]), default=0)
    if not most:
        return [
            "Nothing records this look at the test: the server did not take it. The same comparison once more is another look."
        ]
    if most == 1:
        return [
            "This is look 1 at the test of these trials, so its intervals hold as they are. The same comparison once more is "
            "no further look; any other is."
        ]
    return [
        f"This is look {most} at the test of these trials: the more often methods are compared on it, the more luck is in its "
        "best number."
    ]


# Next -----------------------------------------------------------------------------------------------------------------


def next_steps(found: Comparison, folder: Path, *, registered: str | None) -> list[str]:
    """The commands that use the winner, and the one that shows its most important member.

    Args:
        folder: of the comparison, with the winner as a model if all its weights are here.
        registered: the name that the winner was registered under.
    """
    from orchestrator.base.layout import JOURNAL, MODEL
    from orchestrator.serving.mlmodel import MLMODEL

    (row,) = (row for row in found["rows"] if row["method"] == found["winner"])
    where = _runs_dir(folder.parent.parent)
    lines = ["next:"]
    if (folder / MODEL / MLMODEL).is_file():
        name = f"models:/{registered}@champion" if registered else folder.name
        lines.append(
            f"  orchestrator predict {shlex.quote(name)}{where} IMAGE...    what the winner says of image files"
        )
        if not registered:
            again = shlex.join([*found["command"], "--register", "NAME"])
            same = "the same, no further look: " if all(sweep["look"] for sweep in found["sweeps"]) else ""
            lines.append(f"  {again}    {same}a model in MLflow's registry")
    place, what = _first_member(found, row)
    place = found["members"][place].get("ingredients", [place])[0]
    name = found["members"][place]["name"]
    if (folder.parent.parent / name.rpartition("/")[0] / JOURNAL).is_file():  # those of a server have none
        lines.append(f"  orchestrator show {shlex.quote(name)}{where}    {what}")
    return lines if len(lines) > 1 else []


def _runs_dir(runs_dir: Path) -> str:
    """The option that names the folder of the sweeps as it was typed, where commands do not look there by themselves."""
    return "" if runs_dir.resolve() == Path("runs").resolve() else f" --runs-dir {shlex.quote(str(runs_dir))}"


def _first_member(found: Comparison, row: Row) -> tuple[int, str]:
    """The place of the member that a reader looks at first, and what it is. Members stand in order, the best first."""
    if (network := network_of(found, row)) is not None:
        alone = len(network["ingredients"]) == 1
        return min(
            network["ingredients"]
        ), "the trial that it is made of" if alone else "the best trial that it is made of"
    if snapshots := _trials_of_snapshots(found, row):
        return snapshots[0], "the trial whose snapshots they are"
    if len(row["members"]) == 1:
        return row["members"][0], "the trial that it is"
    if not has_weights(row):
        return min(row["members"]), "its best member"
    heaviest = max(range(len(row["members"])), key=lambda place: row["weights"][place])
    return row["members"][heaviest], "its member with the most weight"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _trials_of_snapshots(found: Comparison, row: Row) -> list[int]:
    """The trials, by their places, whose snapshots a row's members are; empty where they are no snapshots."""
    members = [found["members"][place] for place in row["members"]]
    return [member["ingredients"][0] for member in members if "file" in member]


def _named(found: Comparison, place: int) -> str:
    name = found["members"][place]["name"]
    return name if len(name) <= 60 else f"{name[:57]}..."
