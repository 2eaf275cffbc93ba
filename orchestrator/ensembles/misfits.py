"""What in the record of a comparison has the right type and still makes no sense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.base.layout import SNAPSHOT, UID
from orchestrator.ensembles.catalogue import BASELINE
from orchestrator.ensembles.comparison import FORMAT, Comparison, Row, Scores, trials_of

LONGEST_NAME = 500
MEASURES = frozenset({"accuracy", "top5_error", "nll", "brier", "ece", "classwise_ece"})
POOLINGS = ("probabilities", "logits", "votes", "stacked")
OF_TEST = ("test", "accuracy", "nll", "gain_accuracy", "gain_nll")
"""What every row has once the test was read."""


def misfits(said: Comparison) -> Iterator[str]:
    """Each begins with the key."""
    if said["format"] != FORMAT:
        yield f"format must be {FORMAT}"
    if not UID.fullmatch(said["uid"]) or len(said["uid"]) > 200:
        yield "uid is no name of a comparison"
    if not said["classes"]:
        yield "classes is empty"
    if not said["sweeps"] or not all(UID.fullmatch(sweep["uid"]) for sweep in said["sweeps"]):
        yield "sweeps names no sweep, or one that cannot be"
    if not said["examples"].keys() >= {"val", "test"} or not said["examples"]["val"]:
        yield "examples lacks val or test"
        return
    yield from _of_members(said)
    yield from _of_rows(said)
    yield from _of_figures(said)


def _of_members(said: Comparison) -> Iterator[str]:
    trials = len(trials_of(said["members"]))
    if any("ingredients" in member for member in said["members"][:trials]):
        yield "members has a network of averaged weights among the trials"
    for place, member in enumerate(said["members"]):
        at, ingredients = f"members[{place}]", member.get("ingredients")
        if ingredients is None and not re.fullmatch(r"[^\s/\x00]+/\d{1,9}", member["name"]):
            yield f"{at}.name is none of a trial"
        if ingredients is not None and not (ingredients and _are_places(ingredients, trials)):
            yield f"{at}.ingredients names members that are not there, or one twice"
        if ("evaluate" in member or "passes" in member) and not (
            "evaluate" in member and "passes" in member and ingredients is not None and len(ingredients) == 1
        ):
            yield f"{at}.evaluate and passes belong to a network of one trial"
        if ingredients is not None and (len(member["name"]) > LONGEST_NAME or not member["name"].isprintable()):
            yield f"{at}.name is none of a network"
        if "file" in member and not (SNAPSHOT.fullmatch(member["file"]) and len(ingredients or ()) == 1):
            yield f"{at}.file is no snapshot of one trial"


def _of_rows(said: Comparison) -> Iterator[str]:
    methods = [row["method"] for row in said["rows"]]
    if len({*methods}) < len(methods):
        yield "rows has a method twice"
    if said["winner"] not in methods:
        yield "winner is none of the methods"
    if BASELINE not in methods:
        yield f"rows lacks {BASELINE}"
    trials = len(trials_of(said["members"]))
    for place, row in enumerate(said["rows"]):
        at = f"rows[{place}]"
        yield from _of_ensemble(row, at, len(said["members"]), len(said["classes"]))
        yield from _of_scores(row, at, len(said["classes"]), tested=said["examples"]["test"] > 0)
        if row["method"] == BASELINE and not (len(row["members"]) == 1 and row["members"][0] < trials):
            yield f"{at}.members of {BASELINE} must be one trial"
        if "gain_over_seeds" in row and "seeds" not in methods:
            yield f"{at}.gain_over_seeds is over a method that is not there"


def _of_ensemble(row: Row, at: str, members: int, classes: int) -> Iterator[str]:
    count = len(row["members"])
    if not count or not _are_places(row["members"], members):
        yield f"{at}.members names members that are not there, or one twice"
    if not _are_places({member for member, _ in row["steps"]}, members):
        yield f"{at}.steps names members that are not there"
    if len(row["weights"]) != count or not all(0 < weight <= 1 for weight in row["weights"]):
        yield f"{at}.weights does not fit its members"
    if row["pooling"] not in POOLINGS:
        yield f"{at}.pooling must be one of {', '.join(POOLINGS)}"
    temperatures = [row["temperature"], *row["member_temperatures"]]
    if len(temperatures) not in (1, count + 1) or not all(0.01 <= one <= 100 for one in temperatures):
        yield f"{at}.temperature does not fit its members, or is not within 0.01 to 100"
    coefficients, intercept = row.get("coefficients", ()), row.get("intercept", ())
    if row["pooling"] == "stacked" and (len(coefficients) != count or len(intercept) != classes):
        yield f"{at}.coefficients does not fit its members"
    if any(len(line) != classes for of_member in coefficients for line in (of_member, *of_member)):
        yield f"{at}.coefficients does not fit the classes"


def _of_scores(row: Row, at: str, classes: int, *, tested: bool) -> Iterator[str]:
    if missing := [key for key in OF_TEST if (key in row) != tested]:
        yield f"{at} {'lacks' if tested else 'should not have'} {', '.join(missing)}"
    yield from _of_split(row["val"], f"{at}.val", classes)
    if "test" in row:
        yield from _of_split(row["test"], f"{at}.test", classes)
    of_row: Any = row
    for key in ("accuracy", "nll", "gain_accuracy", "gain_nll", "gain_over_seeds"):
        if (found := of_row.get(key)) is None:
            continue
        if (found["low"] is None) != (found["high"] is None) or (found["low"] or 0.0) > (found["high"] or 0.0):
            yield f"{at}.{key} has no interval of low to high"
        if key == "gain_accuracy" and row["method"] != BASELINE and found["low"] is None:
            yield f"{at}.{key} lacks its interval"


def _of_split(said: Scores, at: str, classes: int) -> Iterator[str]:
    if len(said["per_class_accuracy"]) != classes:
        yield f"{at}.per_class_accuracy does not fit the classes"
    if missing := MEASURES - said["measures"].keys():
        yield f"{at}.measures lacks {', '.join(sorted(missing))}"


def _of_figures(said: Comparison) -> Iterator[str]:
    members, classes = len(said["members"]), len(said["classes"])
    winner = next((row for row in said["rows"] if row["method"] == said["winner"]), None)
    asked = len(winner["members"]) if winner is not None else 0
    for place, example in enumerate(said.get("worst", ())):
        labels = [example["label"], example["said"][0], *(label for label, _ in example["members"])]
        if not all(0 <= label < classes for label in labels):
            yield f"worst[{place}] names a class that is not there"
        if len(example["members"]) > asked:
            yield f"worst[{place}].members are more than the winner has"
    places, matrix = said.get("agreement", ((), ()))
    if not _are_places(places, members) or any(len(line) != len(places) for line in (matrix, *matrix)):
        yield "agreement does not fit the members"
    counts = said.get("confusion")
    if counts is not None and any(len(line) != classes for line in (counts, *counts)):
        yield "confusion does not fit the classes"
    for place, (_, size, _, _) in enumerate(said.get("sizes", ())):
        if size < 1:
            yield f"sizes[{place}] is of no member"


def _are_places(places: Sequence[int] | set[int], members: int) -> bool:
    """Each a member, and each once."""
    return all(0 <= place < members for place in places) and len({*places}) == len(places)
