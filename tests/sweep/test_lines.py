"""Lines of the live view at the widths of real terminals: nothing wraps, the epoch stays, the name gives way."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from orchestrator.journal.events import Reported, Started, Suggested
from orchestrator.journal.file import Entry
from orchestrator.sweep.bar import EpochBar
from orchestrator.sweep.lines import clock, columns, fitted, wrapped
from orchestrator.sweep.terminal import Progress, View

PARAMS = {"optimizer": "adam", "optimizer.lr": 0.0063, "norm": "batch", "init.scale": 1.5}


def progress_of(trials: int = 1, params: dict[str, object] = PARAMS) -> Progress:
    progress = Progress(16, "val/accuracy", "max", workers=2, monotonic=lambda: 0.0)
    for index in range(trials):
        progress.line(Entry(1, 0, index, 1, Suggested(params, {"epochs": 12}, index)))
        progress.line(Entry(1, 0, index, 1, Started()))
        epochs = [{"epoch": 2, "time_ms": 0, "metrics": {"val/accuracy": 0.91234}}]
        progress.line(Entry(1, 0, index, 1, Reported(epochs)))
        progress.heard(index, (3, 12_800, 50_000))
    return progress


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (40, "0 adam lr=0.0063 batc…  epoch 3/12  0:00"),
        (60, "0 adam lr=0.0063 batch scale=1.5  epoch 3/12  0:00"),
        (80, "0 adam lr=0.0063 batch scale=1.5  epoch 3/12  0:00  12,800/50,000 images"),
        (
            200,
            "0 adam lr=0.0063 batch scale=1.5  epoch 3/12  0:00  12,800/50,000 images  val/accuracy 0.9123",
        ),
    ],
)
def test_a_running_trial_has_a_line_of_what_fits(width: int, line: str) -> None:
    (shown,) = progress_of().rows(width)
    assert shown == line
    assert cell_len(shown) <= width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


HOSTILE = {"model": "x" * 10_000, "loss": "two\nlines\tand \x1b[31mred\u202e", "data": "漢字" * 50}


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
@pytest.mark.parametrize("params", [PARAMS, *({key: value} for key, value in HOSTILE.items())])
def test_nothing_is_wider_than_the_terminal(width: int, params: dict[str, object]) -> None:
    progress = progress_of(3, params)
    for line in [*progress.rows(width), *wrapped(progress.parts(), width)]:
        assert cell_len(line) <= width
        assert line.isprintable()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_what_is_drawn_is_as_high_as_it_has_lines(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich wraps what it thinks too wide. Of 30 trials in 24 lines as many are shown as fit."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "24")
    with View(progress_of(30, HOSTILE), Terminal()) as view:
        lines = ["".join(segment.text for segment in line) for line in view._live.console.render_lines(view._render())]
    assert 15 < len(lines) <= 24
    assert any("... and" in line for line in lines)
    assert all(cell_len(line) <= width for line in lines)


def test_a_long_name_leaves_the_epoch_its_place() -> None:
    (line,) = columns(["n" * 100], [["epoch 3/12", "much that does not fit beside it"]], 30, sure=1)
    assert line == "n" * 17 + "…  epoch 3/12"


def test_what_stands_below_each_other_is_aligned() -> None:
    lines = columns(["0 adam", "10 漢 x"], [["epoch 3/12", "", "a"], ["epoch 11/12", "", "b"]], 80, sure=1)
    assert lines == ["0 adam   epoch 3/12   a", "10 漢 x  epoch 11/12  b"]


def test_columns_keep_their_place_while_an_epoch_goes_on() -> None:
    progress = progress_of()
    lengths = []
    for images in (3, 3_000, 50_000):
        progress.heard(0, (3, images, 50_000))
        lengths += [line.index("/50,000 images") for line in progress.rows(80)]
    assert len(set(lengths)) == 1


def test_parts_share_lines_where_they_can() -> None:
    assert wrapped(["5/16 trials", "2 running", "best 0.9"], 24) == ["5/16 trials, 2 running", "best 0.9"]
    assert wrapped(["x" * 30], 10) == ["x" * 9 + "…"]


def test_the_last_column_may_be_used() -> None:
    assert fitted("abcde", 5) == "abcde"
    assert fitted("abcdef", 5) == "abcd…"
    assert fitted("漢字漢字", 5) == "漢字…"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (62.9, "1:02"), (3_723, "1:02:03")])
def test_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text


class Run:
    """A training as far as the bar looks at it."""

    within = (0, 0, 0)


def test_the_bar_of_a_training_counts_images_and_time() -> None:
    """Four epochs of 100 s: half of the first is over after 50 s, 350 s are left; after it 300 s."""
    now = 0.0
    run = Run()
    bar = EpochBar(4, out=io.StringIO(), monotonic=lambda: now)
    assert bar.lines(80) == ["loading, 0:00 so far"]
    bar.watch(run)
    assert bar.lines(80) == ["epoch 1/4, 0:00 so far, time left ?"]
    now, run.within = 50.0, (1, 25_000, 50_000)
    assert bar.lines(80) == ["epoch 1/4, 25,000/50,000 images, 0:50 so far, about 6 min left"]
    now, run.within = 100.0, (1, 50_000, 50_000)
    bar.update(bar.task_ids[0], completed=1, text="val/accuracy 0.5")
    assert bar.lines(80) == ["epoch 2/4, 1:40 so far, about 5 min left, val/accuracy 0.5"]
    assert bar.lines(24) == ["epoch 2/4, 1:40 so far", "about 5 min left", "val/accuracy 0.5"]
    now = 400.0
    bar.update(bar.task_ids[0], completed=4)
    assert bar.lines(80) == ["epoch 4/4, 6:40 so far, a few seconds left"]


def test_what_is_printed_stays_above_the_bar_and_nothing_is_drawn_without_a_terminal() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for out in (plain, terminal):
        with EpochBar(2, out=out) as bar:
            bar.watch(Run())
            bar.console.print("a line that stays")
    assert plain.getvalue() == "a line that stays\n"
    assert "a line that stays" in terminal.getvalue()
    assert "epoch 1/2" in terminal.getvalue()
