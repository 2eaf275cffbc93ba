"""The report as a file, without a browser: whole, offline, and nothing in a journal gets out of its place."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.cli import main
from orchestrator.journal.record import read_sweep
from orchestrator.reports.build import report
from orchestrator.reports.data import Key, load, rounded_out, sweep_data, unit_of
from orchestrator.reports.figures import figures, modules
from orchestrator.reports.tables import rounded, to_json
from tests.journal.test_hostile import INTERRUPTED, check_forgeries, place
from tests.reports.hostile import NASTY, hostile_sweep, sweep_of
from tests.simulated import simulated_sweep

PROGRAM = Path(sys.executable).parent / "orchestrator"


class Parsed(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


def column(table: dict[str, Any], name: str) -> list[Any]:
    """As `page.js` reads it."""
    found = table[name]
    return found if isinstance(found, list) else [None if at is None else found["texts"][at] for at in found["at"]]


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated_sweep(tmp_path_factory.mktemp("runs") / "sim-0badcafe", trials=16, epochs=6)


@pytest.fixture(scope="module")
def page(sixteen: Path) -> str:
    return report(sixteen)


def test_nothing_is_loaded_and_only_our_scripts_may_run(page: str) -> None:
    parsed = Parsed(page)
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert "target" not in attributes
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    [policy] = [a["content"] for tag, a in parsed.elements if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "'unsafe-inline'" not in policy.split("style-src")[0]
    assert policy.count("'sha256-") == len(parsed.scripts) - 1 == 2  # the data are no script


def test_every_figure_has_its_section_its_place_in_the_contents_and_its_views(page: str, sixteen: Path) -> None:
    sweep = load(sixteen)
    drawn, parsed = figures(sweep), Parsed(page)
    names = [figure.name for figure in drawn]
    assert names[:2] == ["best", "parallel"]
    assert len(set(names)) == len(names)
    links = [attributes["href"] for tag, attributes in parsed.elements if tag == "a"]
    assert links == [f"#{name}" for name in [*names, "trials"]]
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    assert sections == [*names, "trials"]
    views = sum(attributes.get("class") == "view" for _, attributes in parsed.elements)
    assert views == sum(len(specs) for specs in parsed.data["figures"].values())


def test_the_tables_are_the_journal(page: str, sixteen: Path) -> None:
    data, record = Parsed(page).data, read_sweep(sixteen, keep_epochs=True)
    sweep = load(sixteen)
    trials, epochs = data["trials"], data["epochs"]
    assert column(trials, "trial") == list(range(16))
    assert column(trials, "state") == [str(record.trials[index].state) for index in range(16)]
    for key in sweep.keys:
        for index, shown in enumerate(column(trials, key.field)):
            value = record.trials[index].params.get(key.name)
            assert shown == (str(value) if isinstance(value, str | int) else value and pytest.approx(value, rel=1e-5))
    field = sweep.metric_fields["val/accuracy"]
    told = list(zip(column(epochs, "trial"), column(epochs, "epoch"), column(epochs, field), strict=True))
    assert told == [
        (trial.index, epoch["epoch"], pytest.approx(epoch["metrics"]["val/accuracy"], rel=1e-5))
        for trial in record.trials.values()
        for epoch in trial.epochs
    ]
    assert sweep.metric_fields["images_per_s"] not in epochs, "what no figure shows is left out"


def test_a_strangers_texts_stay_texts(tmp_path: Path) -> None:
    folder = hostile_sweep(tmp_path / "evil-00000000")
    text = report(folder)
    parsed = Parsed(text)
    assert len(parsed.scripts) == 3
    assert not [tag for tag, _ in parsed.elements if tag in ("img", "b")]
    assert not [a for _, attributes in parsed.elements for a in attributes if a.startswith("on")]
    assert "x" * 1000 not in text, "a text of 10 kB is cut"
    assert not re.search("[\x00\x1b\u2028\u202e]", text)
    names = [label for _, label, _ in parsed.data["columns"]]
    assert NASTY[1] in names, "what is shown is the text itself"


def test_specs_hold_no_text_of_a_journal_as_an_expression(tmp_path: Path) -> None:
    """Vega runs expressions: they are made of our own words and numbers, and names stand in values."""
    sweep = load(hostile_sweep(tmp_path / "evil-00000000"))
    made = figures(sweep)
    assert not [figure.text for figure in made if "could not be made" in figure.text]
    for figure in made:
        for spec in figure.panels or [figure.spec or {}]:
            for at, value in expressions(spec):
                assert "hacked" not in value, f"{figure.name} {at}: {value[:200]}"


def expressions(spec: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """What Vega and Vega-Lite parse as an expression or as a path to a field."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name in (
                "expr",
                "signal",
                "update",
                "init",
                "test",
                "calculate",
                "filter",
                "field",
                "labelExpr",
                "as",
            ) and isinstance(value, str):
                yield f"{place}.{name}", value
            elif name not in ("values", "domain"):
                yield from expressions(value, f"{place}.{name}")
    elif isinstance(spec, list | tuple):
        for number, value in enumerate(spec):
            yield from expressions(value, f"{place}[{number}]")


def test_json_in_a_page() -> None:
    text = to_json({"a": "</script><!--&", "b": [math.nan, math.inf, 1.5], "c": "é\ud800"})
    assert not re.search("[<>&]", text)
    assert text.isascii()
    assert json.loads(text) == {"a": "</script><!--&", "b": [None, None, 1.5], "c": "é\ud800"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456789, 0.123457),
        (3.0, 3),
        (math.nan, None),
        (math.inf, None),
        (1e308, 1e308),
        (5e-324, 5e-324),
        (1e20, 1e20),
    ],
)
def test_rounding(value: float, shown: float | None) -> None:
    assert rounded(value) == shown


def test_searched_keys_have_the_scales_and_the_order_of_the_space(sixteen: Path) -> None:
    assert load(sixteen).keys == [
        Key("optimizer", "k0", "choice", False, "", ("sgd", "adam")),
        Key("optimizer.lr", "k1", "number", True, "", (1e-4, 10.0)),
        Key("norm", "k2", "choice", False, "", ("none", "batch", "layer")),
        Key("init.scale", "k3", "number", True, "", (1e-2, 10.0)),
        Key("batch_size", "k4", "choice", False, "images", ("32", "64", "128")),
        Key("optimizer.momentum", "k5", "number", False, "", (0.0, 0.99), conditional=True),
    ]
    assert [key.is_ordered for key in load(sixteen).keys] == [False, True, False, True, True, True]


def test_units() -> None:
    assert unit_of("val/top5_accuracy") == "share of images"
    assert unit_of("train/loss") == "nats"
    assert unit_of("images_per_s") == "images per second"
    assert unit_of("schedule.warmup_epochs") == "epochs"
    assert unit_of("optimizer.lr") == ""


def test_an_axis_leaves_out_what_is_far_worse_than_most(tmp_path: Path) -> None:
    values = [0.10, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98]
    trials = [{"params": {"a": value}, "values": [value], "state": "completed"} for value in values]
    sweep = load(sweep_of(tmp_path / "far-00000000", trials))
    # quartiles 0.91 and 0.96: three ranges below is 0.76; 3 % of what is shown stays free, and both ends are rounded
    assert sweep.ends == (pytest.approx(0.75), pytest.approx(0.99))
    assert " One trial with a value below 0.75 is" in next(one.text for one in figures(sweep) if one.name == "slices")


@pytest.mark.parametrize(("low", "high"), [(0.1234, 0.987), (-5.0, 1e6), (1e-9, 2e-9), (-1e308, 1e308), (0.0, 5e-324)])
def test_ends_of_an_axis_are_never_further_inside(low: float, high: float) -> None:
    found = rounded_out(low, high)
    assert found[0] <= low
    assert found[1] >= high


NEXT_TO_NOTHING: dict[str, list[dict[str, Any]]] = {
    "no trial": [],
    "one trial": [{"params": {"a": 0.5}, "values": [0.1, 0.2], "state": "completed"}],
    "none completed": [{"params": {"a": 0.5}, "values": [], "state": "failed"} for _ in range(3)],
    "nothing searched": [{"params": {}, "values": [0.3], "state": "completed"}],
    "running": [
        {"params": {"a": 0.5}, "values": [0.1], "state": None},
        {"params": {"a": 0.6}, "values": [], "state": None},
    ],
    "all equal": [{"params": {"a": 1.0, "b": "x"}, "values": [0.5, 0.5], "state": "completed"} for _ in range(12)],
}


@pytest.mark.parametrize("case", NEXT_TO_NOTHING)
def test_figures_without_data_are_left_out(case: str, tmp_path: Path) -> None:
    sweep = load(sweep_of(tmp_path / "small-00000000", NEXT_TO_NOTHING[case], closed=case != "running"))
    names = [figure.name for figure in figures(sweep)]
    text = report(sweep.folder)
    for name in modules():
        assert (f'<section id="{name}"' in text) == (name in names)
    assert ("parallel" in names) == (case not in ("no trial", "nothing searched"))
    assert ("best" in names) == (case not in ("no trial", "none completed", "running"))
    assert ("The sweep has not ended" in text) == (case == "running")
    if case in ("no trial", "none completed"):
        assert "No trial has a value." in text


def test_the_head_says_who_won_by_how_much_and_what_ties(sixteen: Path, page: str) -> None:
    sweep = sweep_data(read_sweep(sixteen, keep_epochs=True), sixteen)
    values = sorted((row["value"] for row in sweep.trials if row["value"] is not None), reverse=True)
    best = next(row["trial"] for row in sweep.trials if row["value"] == values[0])
    assert f'<p class="answer">Trial {best}: val/accuracy {values[0]:.4g} with ' in page
    assert f"rial {best} is {100 * (values[0] - values[1]):.2f} points ahead of trial" in page
    assert "Which optimizer, optimizer.lr, norm, init.scale, batch_size and optimizer.momentum give the highest" in page


def test_the_command_writes_one_file(sixteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "out.html"
    assert main(["report", "sim", "--runs-dir", str(sixteen.parent), "--output", str(to)]) == 0
    assert str(to) in capsys.readouterr().out
    assert to.read_text("utf-8").startswith("<!doctype html>")
    assert (
        main(["report", "sim", "--runs-dir", str(sixteen.parent), "--output", str(tmp_path)]) == NotReadyError.exit_code
    )
    assert "cannot be written" in capsys.readouterr().err
    assert main(["report", "other", "--runs-dir", str(sixteen.parent)]) == 2
    newest = tmp_path / "newest.html"
    assert main(["report", "--runs-dir", str(sixteen.parent), "--output", str(newest)]) == 0
    assert len(newest.read_text("utf-8")) == len(to.read_text("utf-8"))
    capsys.readouterr()
    assert main(["report", "--runs-dir", str(tmp_path)]) == 2
    assert "there is no sweep in" in capsys.readouterr().err


def test_a_report_goes_into_regular_files_alone(
    sixteen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for to, what in ((pipe, "pipe"), (link, "pipe"), (Path("/dev/null"), "device"), (tmp_path, "folder")):
        command = [PROGRAM, "report", "sim", "--runs-dir", str(sixteen.parent), "--output", str(to)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert ran.returncode == NotReadyError.exit_code
        assert re.search(rf"cannot be written to {to}: that is a .*{what}.*; name a file", ran.stderr), ran.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_report_takes_the_place_of_another_whole(
    sixteen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, link = tmp_path / "out.html", tmp_path / "link.html"
    to.write_text("earlier")
    to.chmod(0o600)
    link.symlink_to(to)
    command = ["report", "sim", "--runs-dir", str(sixteen.parent), "--output", str(link)]
    with to.open() as earlier:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full_disk)
            assert main(command) == NotReadyError.exit_code
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "out.html"]
        assert to.read_text() == "earlier"
        assert main(command) == 0
        assert earlier.read() == "earlier", "who reads the earlier one has it to its end"
    assert link.is_symlink()
    assert to.read_text("utf-8").startswith("<!doctype html>")
    assert to.stat().st_mode & 0o777 == 0o600


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_forged_journals_end_in_a_report_or_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["report", INTERRUPTED, "--output", "report.html"]
    assert check_forgeries(place(tmp_path), lambda number: number % 599 == 5, capfd, [command]) > 10
