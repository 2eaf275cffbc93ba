"""`runs/comparisons/<uid>/comparison.json`: a comparison, written whole or not at all, and read back checked: it may come from
a stranger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.base.decode import DecodeError, check, read_json
from orchestrator.base.errors import ConfigError, NewerFormatError, NotReadyError, Problem, nearest
from orchestrator.base.layout import COMPARISON, COMPARISONS, UID
from orchestrator.base.regular import open_regular
from orchestrator.base.removal import RefusedRemovalError, opened
from orchestrator.ensembles.comparison import FORMAT, Comparison, Row, trials_of
from orchestrator.ensembles.pooling import Ensemble, Step

MAX_BYTES = 256 * 2**20


def write(comparison: Comparison, runs_dir: Path) -> Path:
    """Keeps a comparison, and returns its file.

    Raises:
        NotReadyError: it cannot be written, or there is one of this name.
    """
    check(comparison, Comparison)
    text = json.dumps(comparison, allow_nan=False, separators=(",", ":"))
    path = folder_of(runs_dir, comparison["uid"]) / COMPARISON
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with (
            opened(runs_dir) as runs,
            runs.inside(COMPARISONS, create=True) as comparisons,
            comparisons.inside(comparison["uid"], create=True) as folder,
        ):
            if folder.is_file(COMPARISON):
                raise NotReadyError(f"{path} is there already; give this comparison another --name")
            folder.write(COMPARISON, text)
    except (OSError, RefusedRemovalError) as error:
        why = getattr(error, "strerror", None) or error
        raise NotReadyError(
            f"the comparison cannot be written to {path} ({why}); make room or name --runs-dir"
        ) from error
    return path


def folder_of(runs_dir: Path, uid: str) -> Path:
    """Where the files of a comparison lie."""
    return runs_dir / COMPARISONS / uid


def find(runs_dir: Path, name: str) -> Path:
    """The folder of the comparison with the identity `name`, or of the newest one of that name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    folders = [
        path.parent for path in (runs_dir / COMPARISONS).glob(f"*/{COMPARISON}") if UID.fullmatch(path.parent.name)
    ]
    found = [path for path in folders if path.name == name]
    found = found or [path for path in folders if path.name.rpartition("-")[0] == name]
    if not found:
        known = sorted(path.name for path in folders)
        why = f"no comparison of that name in {runs_dir / COMPARISONS}; `orchestrator compare SWEEP` makes one"
        raise ConfigError(Problem("NAME", why, name, nearest=nearest(name, known), known=tuple(known)))
    return max(found, key=lambda path: (path / COMPARISON).stat().st_mtime)


def read(path: Path) -> Comparison:
    """The comparison in a file.

    Raises:
        NotReadyError: there is none, it is damaged, or what it says does not fit together; of a newer format `NewerFormatError`.
    """
    try:
        with open(open_regular(path), "rb") as file:
            contents = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotReadyError(f"there is no comparison at {path} ({error.strerror or error})") from error
    try:
        if len(contents) > MAX_BYTES:
            raise DecodeError(f"is longer than {MAX_BYTES:,} bytes")
        said = read_json(contents)
        check(said, Mapping[str, Any])
        if type(said.get("format")) is int and said["format"] > FORMAT:
            raise NewerFormatError(f"{path} was written by a newer version of orchestrator; read it with that")
        check(said, Comparison)
        comparison: Comparison = said
        for wrong in _misfits(comparison):
            raise DecodeError(wrong)
    except DecodeError as error:
        raise NotReadyError(f"{path} is damaged: {error}; `orchestrator compare` makes it anew") from error
    return comparison


def ensemble_of(row: Row) -> Ensemble:
    """The ensemble that a row describes; its members are places in the comparison's `members`."""
    import numpy as np

    stacked = "coefficients" in row and "intercept" in row
    pooling: Any = row["pooling"]
    return Ensemble(
        members=tuple(row["members"]),
        weights=tuple(row["weights"]),
        pooling=pooling,
        temperature=row["temperature"],
        member_temperatures=tuple(row["member_temperatures"]),
        coefficients_mKK=np.array(row["coefficients"]) if stacked else None,
        intercept_K=np.array(row["intercept"]) if stacked else None,
        steps=tuple(Step(member, score) for member, score in row["steps"]),
    )


def _misfits(said: Comparison) -> Iterator[str]:
    """What is of the right type and still makes no sense."""
    members, classes = len(said["members"]), len(said["classes"])
    if said["format"] != FORMAT:
        yield f"format must be {FORMAT}"
    if not UID.fullmatch(said["uid"]) or len(said["uid"]) > 200:
        yield "uid is no name of a comparison"
    yield from _misfits_of_members(said)
    methods = [row["method"] for row in said["rows"]]
    if said["winner"] not in methods or len({*methods}) < len(methods):
        yield "winner is none of the methods, or two are called the same"
    for row in said["rows"]:
        yield from _misfits_of(row, members, classes)
    for example in said.get("worst", ()):
        labels = [example["label"], example["said"][0], *(label for label, _ in example["members"])]
        if not all(0 <= label < classes for label in labels) or example["id"] < 0:
            yield "worst names a class or an example that is not there"
    places, matrix = said.get("agreement", ((), ()))
    if not _are_places(places, members) or any(len(line) != len(places) for line in (matrix, *matrix)):
        yield "agreement does not fit the members"
    counts = said.get("confusion")
    if counts is not None and any(len(line) != classes for line in (counts, *counts)):
        yield "confusion does not fit the classes"


def _misfits_of_members(said: Comparison) -> Iterator[str]:
    trials = len(trials_of(said["members"]))
    if any("ingredients" in member for member in said["members"][:trials]):
        yield "a network of averaged weights stands among the trials"
    for member in said["members"]:
        ingredients = member.get("ingredients")
        if ingredients is None and not re.fullmatch(r"[^\s/\x00]+/\d{1,9}", member["name"]):
            yield "a member's name is none of a trial"
        if ingredients is not None and not (ingredients and _are_places(ingredients, trials)):
            yield "a network is made of members that are not there, or of one twice"
        if ingredients is not None and (len(member["name"]) > 500 or not member["name"].isprintable()):
            yield "a member's name is none of a network"


def _misfits_of(row: Row, members: int, classes: int) -> Iterator[str]:
    at = f"the row of {row['method'][:60]}"
    m = len(row["members"])
    if not m or not _are_places(row["members"], members) or not _are_places({one for one, _ in row["steps"]}, members):
        yield f"{at} names members that are not there, or one twice"
    if len(row["weights"]) != m or not all(0 < weight <= 1 for weight in row["weights"]):
        yield f"the weights of {at} do not fit its members"
    if row["pooling"] not in ("probabilities", "logits", "votes", "stacked"):
        yield f"{at} pools in no way that there is"
    temperatures = [row["temperature"], *row["member_temperatures"]]
    if len(temperatures) not in (1, m + 1) or not all(0.01 <= one <= 100 for one in temperatures):
        yield f"the temperatures of {at} do not fit its members"
    coefficients, intercept = row.get("coefficients", ()), row.get("intercept", ())
    if row["pooling"] == "stacked" and (len(coefficients) != m or len(intercept) != classes):
        yield f"the coefficients of {at} do not fit its members"
    if any(len(line) != classes for of_member in coefficients for line in (of_member, *of_member)):
        yield f"the coefficients of {at} do not fit the classes"
    for split in (row["val"], row.get("test", row["val"])):
        if len(split["per_class_accuracy"]) != classes:
            yield f"the accuracies of classes of {at} do not fit the classes"
        if missing := {"accuracy", "top5_error", "nll", "brier", "ece", "classwise_ece"} - split["measures"].keys():
            yield f"{at} lacks {', '.join(sorted(missing))}"


def _are_places(places: Any, members: int) -> bool:
    """Each a member, and each once."""
    return all(0 <= place < members for place in places) and len({*places}) == len(places)
