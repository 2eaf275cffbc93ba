"""comparison.json: written whole or not at all, and what is read is checked."""

from __future__ import annotations

import copy
import functools
import json
import operator
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.base.errors import NewerFormatError, NotReadyError
from orchestrator.cli.comparing import lines_of, next_steps
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.page.build import page
from orchestrator.ensembles.record import ensemble_of, read, write
from orchestrator.ensembles.runs import writes
from tests.ensembles.candidates import gathered_of, split


@pytest.fixture(scope="module")
def found() -> Comparison:
    pool, test = split(6, 100, 60)
    return compare(gathered_of(pool, test), methods=["stacking", "greedy", "mean"], resamples=200, name="mine")


def test_what_was_written_is_read(found: Comparison, tmp_path: Path) -> None:
    path = write(found, tmp_path / "runs")
    assert path == tmp_path / "runs" / "comparisons" / found["uid"] / "comparison.json"
    assert read(path) == json.loads(json.dumps(found))
    assert [one.name for one in path.parent.iterdir()] == ["comparison.json"]


def test_nothing_is_written_over(found: Comparison, tmp_path: Path) -> None:
    path = write(found, tmp_path)
    before = path.read_bytes()
    with pytest.raises(NotReadyError, match="is there already"):
        write({**found, "winner": "mean"}, tmp_path)
    assert path.read_bytes() == before


def test_where_it_cannot_be_written_nothing_is_left(found: Comparison, tmp_path: Path) -> None:
    (tmp_path / "comparisons").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(NotReadyError, match="cannot be written"):
        write(found, tmp_path)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_stacked_ensemble_is_rebuilt_from_its_row(found: Comparison, tmp_path: Path) -> None:
    pool, test = split(6, 100, 60)
    (row,) = (row for row in read(write(found, tmp_path))["rows"] if row["method"] == "stacking")
    ensemble = ensemble_of(row)
    said_NK = ensemble.probabilities(test[0][[*row["members"]]])
    assert ensemble.pooling == "stacked"
    assert (said_NK.argmax(1) == test[1]).mean() == row["test"]["measures"]["accuracy"]
    assert np.allclose(said_NK.sum(1), 1)
    assert len(pool) == len(ensemble.members)


def change(path: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(said: dict[str, Any]) -> None:
        at: Any = said
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return apply


FORGED = {
    "a member that is not there": (
        change(("rows", 0, "members", 0), 99),
        r"rows\[0\].members names members that are not there",
    ),
    "a place below 0": (change(("rows", 0, "members", 0), -1), "names members that are not there"),
    "no members": (change(("rows", 0, "members"), []), "names members that are not there"),
    "a weight of text": (change(("rows", 0, "weights", 0), "1"), "must be a share"),
    "weights of another length": (change(("rows", 0, "weights"), []), r"rows\[0\].weights does not fit"),
    "a pooling that is not": (change(("rows", 0, "pooling"), "eval"), r"rows\[0\].pooling must be one of"),
    "no winner": (change(("winner",), "<script>"), "winner is none of the methods"),
    "a path for a name": (change(("uid",), "../../etc-00000000"), "uid is no name"),
    "a path for a member": (change(("members", 0, "name"), "../../../x"), r"members\[0\].name is none of a trial"),
    "a class that is not": (change(("worst", 0, "said"), [17, 0.5]), r"worst\[0\] names a class"),
    "a confusion too small": (change(("confusion",), [[1]]), "confusion does not fit"),
    "a matrix too small": (change(("agreement",), [[0, 1], [[0.0]]]), "agreement does not fit"),
    "a temperature of 0": (change(("rows", 0, "temperature"), 0), r"rows\[0\].temperature does not fit"),
    "measures that lack one": (
        change(("rows", 0, "val", "measures"), {"nll": 1.0}),
        r"rows\[0\].val.measures lacks accuracy",
    ),
    "an interval of text": (change(("rows", 0, "accuracy", "low"), "x"), r"rows\[0\].accuracy.low must be a number"),
    "an interval upside down": (change(("rows", 0, "accuracy", "low"), 9), r"rows\[0\].accuracy has no interval"),
    "an interval of one end": (change(("rows", 0, "accuracy", "low"), None), r"rows\[0\].accuracy has no interval"),
    "an accuracy in percent": (change(("members", 0, "val_accuracy"), 93.0), "must be a share from 0 to 1, got 93.0"),
    "a number that no float holds": (change(("members", 0, "value"), 10**400), "value must be a number"),
    "no sweep": (change(("sweeps",), []), "sweeps names no sweep"),
    "a count of nothing": (change(("examples",), {"a": 1}), "examples lacks val or test"),
    "a row without the test": (lambda said: said["rows"][-1].pop("test"), r"rows\[\d\] lacks test"),
    "a test that was not read": (change(("examples", "test"), 0), r"rows\[0\] should not have test, accuracy"),
    "text that is no Unicode": (change(("rows", 0, "described"), "\ud800"), "text that is not Unicode"),
    "a list for a mapping": (change(("corrected",), []), "must be a mapping"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_does_not_fit_is_refused(found: Comparison, tmp_path: Path, name: str) -> None:
    forge, why = FORGED[name]
    said = json.loads(json.dumps(found))
    read_back = copy.deepcopy(said)
    forge(said)
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(said))
    with pytest.raises(NotReadyError, match=why):
        read(path)
    path.write_text(json.dumps(read_back))
    assert read(path) == read_back, "the change alone is refused"


MISSING = object()
WRONG = [MISSING, None, "x", "\ud800", -1, 0, 10**6, 10**400, 1e308, -0.5, 0.5, True, [], {}, ["x"], [[]], {"a": 1}]


def places(at: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all that is in a record; of a list the first and the last."""
    keys = [*at] if isinstance(at, dict) else sorted({0, len(at) - 1}) if isinstance(at, list) and at else []
    for key in keys:
        yield (*path, key)
        yield from places(at[key], (*path, key))


def mutants(said: dict[str, Any], share: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record with one value in it replaced, dropped, cut or doubled, a share of all such; with what was done."""
    draw = random.Random(1)
    for path in places(said):
        at: Any = functools.reduce(operator.getitem, path, said)
        for value in [*WRONG, at[:-1], at + at] if isinstance(at, list) and at else WRONG:
            if draw.random() >= share:
                continue
            changed = copy.deepcopy(said)
            if value is MISSING:
                del functools.reduce(operator.getitem, path[:-1], changed)[path[-1]]
            else:
                change(path, copy.deepcopy(value))(changed)
            yield f"{path} = {value!r:.60}", changed


def read_by_all(found: Comparison, folder: Path) -> None:
    lines_of(found, folder / "comparison.json")
    next_steps(found, folder, registered=None)
    assert "could not be made" not in page(found, {})
    whole, ensembles = writes(found, folder)
    for run in (whole, *ensembles):
        "".join([*run.tags.values(), *run.params.values(), *(one.text or "" for one in run.artifacts)]).encode()
    for row in found["rows"]:
        ensemble_of(row)


@pytest.mark.parametrize("share", [0.01, pytest.param(0.2, marks=pytest.mark.slow)])
def test_whatever_is_wrong_in_a_record_it_is_refused_or_read_by_all(
    found: Comparison, tmp_path: Path, share: float
) -> None:
    said, path = json.loads(json.dumps(found)), tmp_path / "comparison.json"
    refused = read_whole = 0
    for what, mutant in mutants(said, share):
        path.write_text(json.dumps(mutant))
        try:
            back = read(path)
        except NotReadyError:
            refused += 1
            continue
        read_whole += 1
        try:
            read_by_all(back, tmp_path)
        except Exception as error:
            raise AssertionError(what) from error
    assert refused > read_whole > 0


def test_a_newer_format_is_left_alone(found: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps({**found, "format": 99}))
    with pytest.raises(NewerFormatError, match="newer version"):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": NaN}', "[" * 100_000])
def test_other_files_are_no_comparisons(tmp_path: Path, text: str) -> None:
    path = tmp_path / "comparison.json"
    path.write_text(text)
    with pytest.raises(NotReadyError, match="is damaged"):
        read(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "comparison.json")
    with pytest.raises(NotReadyError, match="there is no comparison"):
        read(tmp_path / "comparison.json")
