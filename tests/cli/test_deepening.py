"""`orchestrator compare SWEEP --deepen N` and `orchestrator resume SWEEP --seeds`: the real thing, cut off and repeated."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.base import errors
from orchestrator.base.layout import JOURNAL
from orchestrator.cli import main
from orchestrator.journal.file import Entry
from orchestrator.journal.record import SweepRecord, read_sweep
from orchestrator.sweep import session

pytestmark = pytest.mark.usefixtures("ray_cluster")

SMALL = ["data=digits", "model.width=12", "epochs=1", "report_every_s=0", "search=none", "tracking=none", "trials=4"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A finished sweep of four configurations, in the folder where commands look."""
    monkeypatch.chdir(tmp_path)
    assert main(["launch", "name=small", *SMALL, "optimizer.lr=tag(log,interval(1e-2,0.3))"]) == errors.EXIT_OK
    capsys.readouterr()
    (path,) = tmp_path.glob(f"runs/*/{JOURNAL}")
    return path.parent


def seeds_of(folder: Path) -> Counter[int]:
    record: SweepRecord = read_sweep(folder)
    assert all(trial.state == "completed" for trial in record.trials.values())
    seeds = {(trial.config_index, trial.config["seed"]) for trial in record.trials.values()}
    assert len(seeds) == len(record.trials), "no configuration has a seed twice"
    return Counter(trial.config_index for trial in record.trials.values())


def test_seeds_are_trained_once_and_compared(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(small, capsys)
    assert main(["compare", "small", "--deepen", "6", "--json"]) == errors.EXIT_OK
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "--seeds" in said.err
    assert "goes on: 4 trials have ended, 0 continue, 4 trials and 6 more seeds of some in all" in said.err
    members = [member for member in found["members"] if "ingredients" not in member]
    assert len(members) == 10
    rows = {row["method"]: row for row in found["rows"]}
    deepened = Counter(member["configuration"] for member in members)
    assert sum(count - 1 for count in deepened.values()) == 6
    taken = {found["members"][place]["configuration"] for place in rows["hyper_deep"]["members"]}
    assert all(deepened[one] > 1 for one in taken)
    assert rows["hyper_deep"]["trainings"] == rows["best_single"]["trainings"] == 10
    assert rows["seeds"]["trainings"] == 4 + len(rows["seeds"]["members"]) - 1
    gain = rows["hyper_deep"]["gain_over_seeds"]
    difference = rows["hyper_deep"]["accuracy"]["value"] - rows["seeds"]["accuracy"]["value"]
    assert gain["value"] == pytest.approx(difference)
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert main(["compare", "small", "--deepen", "6"]) == errors.EXIT_OK
    again = capsys.readouterr().out
    assert "goes on" not in again
    assert "At what cost of training: hyper_deep has " in again
    assert re.search(r"hyper_deep over seeds: [+-]\d+\.\d\d points", " ".join(again.split()))
    assert sum(seeds_of(small).values()) == 10
    assert main(["verify", "small"]) == errors.EXIT_OK


@pytest.mark.slow
def test_cut_off_it_goes_on_with_the_seeds_that_are_missing(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(session.Session, "_progress", _interrupted_after(session.Session._progress, ended=2))
        assert main(["compare", "small", "--deepen", "4"]) == 130
    there = read_sweep(small)
    assert sum(trial.ended for trial in there.trials.values()) == 6
    assert there.closed is None
    assert sum(there.repeats_of.values()) == 4 + len(there.repeats_of)
    assert main(["compare", "small", "--deepen", "4"]) == errors.EXIT_OK
    assert sum(seeds_of(small).values()) == 8
    assert main(["verify", "small"]) == errors.EXIT_OK


def _interrupted_after(progress, ended):  # type: ignore[no-untyped-def]
    """A session that is interrupted at the end of so many of its trials."""

    def interrupted(self, concurrent):  # type: ignore[no-untyped-def]
        left = iter(range(ended - 1, -1, -1))

        def hear(entry: Entry) -> None:
            if entry.kind == "terminal" and next(left) == 0:
                raise KeyboardInterrupt

        self.journal.subscribe(hear)
        return progress(self, concurrent)

    return interrupted


REFUSED = [
    (["resume", "small", "--seeds", "9=3"], "--seeds=9: there is no such trial; the sweep has 4"),
    (["resume", "small", "--seeds", "0=1001"], "--seeds=0=1001: from 1 to 1000 of a configuration"),
    (["resume", "small", "--seeds", "all"], "must name trials and how many seeds each is to have"),
    (["compare", "small", "--deepen", "0"], "--deepen=0: must be from 1 to 10000"),
    (
        ["compare", "small", "--deepen", "2", "--temperature", "hot"],
        "--temperature=hot: must be one of after, before, none",
    ),
    (["compare", "small", "--deepen", "2", "--budget", "0"], "--budget=0: must be at least 1"),
    (["compare", "small", "--deepen", "2", "--seed", "-1"], "--seed=-1: must be at least 0"),
    (["compare", "small", "--deepen", "2", "--name", "a b/c"], "--name=a b/c: "),
]


def refuse(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What makes no sense is refused, and nothing is trained."""
    before = (small / JOURNAL).read_bytes()
    for words, message in REFUSED:
        assert main(words) == errors.EXIT_BAD_INPUT
        assert message in capsys.readouterr().err
    assert (small / JOURNAL).read_bytes() == before
