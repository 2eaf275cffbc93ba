"""comparison.json: written whole or not at all, and what is read is checked."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.base.errors import ConfigError, NewerFormatError, NotReadyError
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.record import ensemble_of, find, read, write
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
    assert find(tmp_path / "runs", found["uid"]) == path.parent
    assert find(tmp_path / "runs", "mine") == path.parent


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


def test_an_unknown_name_is_told_with_the_nearest(found: Comparison, tmp_path: Path) -> None:
    write(found, tmp_path)
    with pytest.raises(ConfigError, match=rf"did you mean {found['uid']}\?"):
        find(tmp_path, found["uid"][:-1])


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
    "a member that is not there": (change(("rows", 0, "members", 0), 99), "names members that are not there"),
    "a place below 0": (change(("rows", 0, "members", 0), -1), "names members that are not there"),
    "no members": (change(("rows", 0, "members"), []), "names members that are not there"),
    "a weight of text": (change(("rows", 0, "weights", 0), "1"), "must be a number"),
    "weights of another length": (change(("rows", 0, "weights"), []), "the weights of"),
    "a pooling that is not": (change(("rows", 0, "pooling"), "eval"), "pools in no way"),
    "no winner": (change(("winner",), "<script>"), "winner is none of the methods"),
    "a path for a name": (change(("uid",), "../../etc-00000000"), "uid is no name"),
    "a path for a member": (change(("members", 0, "name"), "../../../x"), "a member's name"),
    "a class that is not": (change(("worst", 0, "said"), [17, 0.5]), "worst names a class"),
    "a confusion too small": (change(("confusion",), [[1]]), "confusion does not fit"),
    "a matrix too small": (change(("agreement",), [[0, 1], [[0.0]]]), "agreement does not fit"),
    "a temperature of 0": (change(("rows", 0, "temperature"), 0), "the temperatures of"),
    "measures that lack one": (change(("rows", 0, "val", "measures"), {"nll": 1.0}), "lacks accuracy"),
    "an interval of text": (change(("rows", 0, "accuracy", "low"), "x"), "must be a number"),
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
