"""The page of a comparison: whole, offline, only figures with data, and what one clicks shows in all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.ensembles.comparison import RANKING, Comparison
from orchestrator.ensembles.page import write_page
from orchestrator.ensembles.page.build import page
from orchestrator.ensembles.page.figures import ORDER, figures
from orchestrator.ensembles.page.figures.agreement import blocks_of, mean_share
from orchestrator.ensembles.page.figures.methods import axis_of
from orchestrator.ensembles.page.figures.sizes import prefixes, ranking_of, sampled
from orchestrator.ensembles.page.figures.worst import picture
from orchestrator.ensembles.page.head import answer, certainty, cost, honesty, spread, tiles
from orchestrator.ensembles.page.labels import Plot, placed
from orchestrator.ensembles.page.tables import whole
from orchestrator.ensembles.page.view import View
from tests.browser import browser, console_errors, needs_browser
from tests.ensembles.compared import bare, comparison, hostile, pictures, png, untested
from tests.reports.test_browser import PICTURES, drag, draw_all, point
from tests.reports.test_page import Parsed, column, expressions


@pytest.fixture(scope="module")
def usual() -> Comparison:
    return comparison()


def names(found: Comparison) -> list[str]:
    return [figure.name for figure in figures(View(found, {}))]


def changed(whole: Comparison, **values: Any) -> Comparison:
    return {**bare(whole), **values}  # type: ignore[typeddict-item]


# The file ------------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_and_only_our_scripts_may_run(usual: Comparison) -> None:
    parsed = Parsed(page(usual, pictures(usual)))
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")  # type: ignore[union-attr]
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
        assert not [name for name in attributes if name.startswith("on")]
    [policy] = [a["content"] for tag, a in parsed.elements if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert policy.count("'sha256-") == len(parsed.scripts) - 1 == 2


def test_the_record_read_from_its_file_makes_the_same_page(usual: Comparison) -> None:
    read = json.loads(json.dumps(usual))
    assert page(read, pictures(usual)) == page(usual, pictures(usual))


def test_every_figure_has_its_section_and_its_views(usual: Comparison) -> None:
    parsed = Parsed(page(usual, {}))
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    assert sections == [*ORDER, "trials"], "a comparison with all data has all figures"
    views = sum(attributes.get("class") == "view" for _, attributes in parsed.elements)
    assert views == sum(len(specs) for specs in parsed.data["figures"].values())


def test_a_figure_without_data_is_left_out(usual: Comparison) -> None:
    assert set(names(bare(usual, "sizes"))) == set(ORDER) - {"sizes"}
    assert set(names(bare(usual, "agreement"))) == set(ORDER) - {"agreement"}
    assert set(names(bare(usual, "confusion"))) == set(ORDER) - {"confusion"}
    assert set(names(bare(usual, "worst"))) == set(ORDER) - {"worst"}
    assert set(names(changed(usual, left_out=[], not_tried=[]))) == set(ORDER) - {"omissions"}
    assert set(names(changed(usual, rows=[{**row, "steps": []} for row in usual["rows"]]))) == set(ORDER) - {
        "selection"
    }
    costless = [{**row, "multiply_adds": None} for row in usual["rows"]]
    assert set(names(changed(usual, rows=costless))) == set(ORDER) - {"cost"}
    assert names(bare(changed(usual, rows=[], winner=""), "sizes")) == ["omissions"]


def test_what_is_linked_is_what_the_methods_have(usual: Comparison) -> None:
    data = Parsed(page(usual, {})).data
    rows, members = usual["rows"], usual["members"]
    assert column(data["trials"], "trial") == list(range(len(rows) + len(members)))
    assert column(data["trials"], "listed") == [False] * len(rows) + [True] * len(members)
    assert column(data["trials"], "address")[len(rows) :] == [member["name"] for member in members]
    for number, row in enumerate(rows):
        assert data["parts"][str(number)] == [len(rows) + place for place in row["members"]]


def test_the_table_shows_each_method_with_its_numbers(usual: Comparison) -> None:
    text = page(usual, {})
    shown = re.findall(r'<tr data-trial="(\d+)" tabindex="0"[^>]*><td><b>(\w+)</b>', text)
    assert shown == [(str(number), row["method"]) for number, row in enumerate(usual["rows"])]
    row = usual["rows"][0]
    one = row["accuracy"]
    assert one["low"] is not None
    assert one["high"] is not None
    told = f"{100 * one['value']:.2f} (95 %: {100 * one['low']:.2f} to {100 * one['high']:.2f})"
    assert told in text
    assert len(re.findall("<tr[^>]*class=.winner.", text)) == 1


def test_the_page_is_written_whole_to_regular_files_alone(usual: Comparison, tmp_path: Path) -> None:
    to = tmp_path / "comparison.html"
    write_page(usual, pictures(usual), to)
    assert to.read_text("utf-8") == page(usual, pictures(usual))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotReadyError, match="is a pipe or a device, not a file; name a file"):
        write_page(usual, None, tmp_path / "pipe")


def test_a_strangers_texts_stay_texts(usual: Comparison) -> None:
    evil = hostile(usual)
    made = figures(View(evil, {}))
    assert not [figure.text for figure in made if "could not be made" in figure.text]
    for figure in made:
        for spec in figure.panels or [figure.spec or {}]:
            for at, value in expressions(spec):
                assert "hacked" not in value, f"{figure.name} {at}: {value[:200]}"
    text = page(evil, {})
    parsed = Parsed(text)
    assert len(parsed.scripts) == 3
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert not [a for _, attributes in parsed.elements for a in attributes if a.startswith("on")]
    assert "x" * 1000 not in text, "a text of 10 kB is cut"
    assert not re.search("[\x00\x1b\u2028\u202e]", text)


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("classes", [2, 60])
def test_small_ones_and_many_classes(members: int, classes: int) -> None:
    found = comparison(members, 400, classes, methods=("best_single", "mean", "greedy"))
    made = figures(View(found, {}))
    assert not [figure.text for figure in made if "could not be made" in figure.text]
    if classes == 60:
        assert "Of 60 classes, the 25 pairs that are confused most often are shown." in next(
            figure.text for figure in made if figure.name == "confusion"
        )


# Words -----------------------------------------------------------------------------------------------------------------


def won(usual: Comparison, **values: Any) -> View:
    """The comparison whose winner, the first row, has these values."""
    others = [row for row in usual["rows"] if row["method"] not in ("mean", "best_single")]
    mean, single = (next(row for row in usual["rows"] if row["method"] == name) for name in ("mean", "best_single"))
    first = {
        **mean,
        "members": list(range(4)),
        "weights": [0.25] * 4,
        "multiply_adds": 260_000_000,
        "in_set": True,
        **values,
    }
    last = {**single, "multiply_adds": 41_000_000, "in_set": False}
    rows = [first, *({**row, "in_set": False} for row in others), last]
    return View(changed(usual, rows=rows, winner="mean"), {})


def test_the_answer_is_the_gain_with_its_interval(usual: Comparison) -> None:
    gain = {"value": 0.021, "low": 0.004, "high": 0.039}
    view = won(usual, accuracy={"value": 0.943, "low": 0.93, "high": 0.95}, gain_accuracy=gain, p_holm=0.012)
    assert answer(view) == (
        "The winner, mean, gets 94.30 % of 200 test images right: 2.10 points more than the best single member "
        "(95 % interval +0.40 to +3.90 points)."
    )
    assert certainty(view) == (
        "Chance alone hardly makes this difference (McNemar's exact test, p = 0.012 after Holm's correction for 7 tests)."
    )
    assert cost(view) == (
        "It takes 4 members and 260M multiply-adds an image, 6.34 times those of the best single member."  # 260 / 41
    )


def test_a_gain_is_sure_where_both_its_interval_and_p_say_so(usual: Comparison) -> None:
    barely = {"value": 0.0111, "low": 0.000004, "high": 0.0278}
    view = won(usual, gain_accuracy=barely, p_holm=0.125)
    assert answer(view).endswith("(95 % interval +0.0004 to +2.78 points).")
    assert "95 %: +0.0004 to +2.78" in tiles(view)
    assert certainty(view).startswith("A tie")
    assert "The interval excludes 0; for a gain to be sure, p has to be below 0.05 as well." in certainty(view)
    assert certainty(won(usual, gain_accuracy=barely, p_holm=0.01)).startswith("Chance alone hardly")
    holds_0 = {**barely, "low": -0.000004}
    assert certainty(won(usual, gain_accuracy=holds_0, p_holm=0.01)).startswith("A tie")
    (methods,) = (one for one in figures(view) if one.name == "methods")
    assert "sure where its bar excludes 0 and p is below 0.05" in methods.text
    assert "Holm's correction for the 7 tests of this comparison, not for earlier looks" in methods.text


def test_other_images_move_the_accuracy_by_the_longer_side_of_its_interval(usual: Comparison) -> None:
    view = won(usual, accuracy={"value": 0.9805, "low": 0.9603, "high": 0.9905})
    assert "by up to 2.02 points (95 %)" in spread(view)


@pytest.mark.parametrize(("p_value", "tie"), [(0.0499, False), (0.05, True), (1.0, True), (math.nan, True)])
def test_a_tie_is_called_one(usual: Comparison, p_value: float, tie: bool) -> None:
    assert certainty(won(usual, p_holm=p_value)).startswith("A tie" if tie else "Chance alone hardly")


def test_a_loss_on_the_test_is_said(usual: Comparison) -> None:
    view = won(usual, gain_accuracy={"value": -0.01, "low": None, "high": None}, in_set=False, p_holm=0.4)
    assert answer(view).endswith("right: 1.00 points fewer than the best single member.")
    assert "fixed by validation; on the test it is not among the best by accuracy" in certainty(view)


def test_looks_and_the_curse_are_told(usual: Comparison) -> None:
    view = won(usual, accuracy={"value": 0.9, "low": 0.88, "high": 0.92})
    assert honesty(view) == (
        "The test predictions of these sweeps were looked at 2 times, this comparison included. The more often methods are "
        "compared on the same test, the more luck is in its best number. The best single member has a validation accuracy of "
        "91.50 %, as the best of 16; corrected for that choice it is 90.30 %."
    )
    first = [{**sweep, "look": 1} for sweep in usual["sweeps"]]
    assert "for the first time" in honesty(View(changed(usual, sweeps=first), {}))


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (
            {"seeds": 0.004, "seeds_test": 0.0061},
            "Seeds come on top: from seed to seed one configuration's accuracy spreads by 0.61 points on the test and 0.40 "
            "points on the validation (standard deviation).",
        ),
        (
            {"seeds": None, "seeds_test": None},
            "How far another seed would move it is not known, as no configuration was trained with two.",
        ),
    ],
)
def test_seeds_are_told_apart_from_images(usual: Comparison, known: dict[str, float], told: str) -> None:
    view = won(changed(usual, corrected=known), accuracy={"value": 0.9, "low": 0.88, "high": 0.92})
    assert spread(view) == (
        f"Intervals are over images: others would move the winner's test accuracy by up to 2.00 points (95 %). {told}"
    )


def test_of_a_selections_prefixes_the_last_of_each_size_is_drawn(usual: Comparison) -> None:
    sizes = [("greedy", 1, 0.7, 1.0), ("greedy", 2, 0.8, 0.9), ("greedy", 2, 0.9, 0.8), (RANKING, 1, 0.6, 1.1)]
    view = View(changed(usual, sizes=sizes), {})
    assert prefixes(view) == {"greedy": [sizes[0], sizes[2]], RANKING: [sizes[3]]}
    assert ranking_of(view) == [sizes[3]]
    without = View(changed(usual, sizes=[("weighted", 1, 0.7, 1.0), ("weighted", 2, 0.8, 0.9)]), {})
    assert ranking_of(without) == [], "the ranking is known by its own name"


def test_members_of_several_sweeps_have_short_names_that_tell_them_apart(usual: Comparison) -> None:
    def shown(*names: str) -> list[str]:
        members = [{**usual["members"][0], "name": name} for name in names]
        return [View(changed(usual, members=members), {}).name(place) for place in range(len(names))]

    assert shown("one-00000001/3", "one-00000001/4") == ["trial 3", "trial 4"]
    assert shown("one-00000001/3", "two-00000002/3") == ["one/3", "two/3"]
    assert shown("one-00000001/3", "one-00000002/3") == ["one-00000001/3", "one-00000002/3"]


def test_what_else_is_known_of_a_method_stands_in_a_table(usual: Comparison) -> None:
    rows = [
        {**row, "disagreement": 0.0614, "q_statistic": -0.0000001, "kl": 0.12345, "latency_ms": None}
        if row["method"] == "mean"
        else {**row, "disagreement": None, "q_statistic": None, "kl": None}
        for row in usual["rows"]
    ]
    found = changed(usual, rows=rows)
    table = page(found, {}).partition('<table class="methods measures">')[2].partition("</table>")[0]
    titles = re.findall(r"<th[^>]*>([^<]*)</th>", table)
    assert titles[-4:] == [
        "members disagree on (%)",
        "Q statistic",
        "KL (nats)",
        "parameters",
    ]
    assert "latency (ms)" not in titles, "what no method has is no column"
    (of_mean,) = (line for line in table.split("<tr ") if "<td>mean</td>" in line)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", of_mean)
    assert cells[-4:-1] == ["6.14", "0.000", "0.1235"]
    (of_single,) = (line for line in table.split("<tr ") if "<td>best_single</td>" in line)
    assert re.findall(r"<td[^>]*>([^<]*)</td>", of_single)[-4:-1] == [""] * 3


def test_what_a_winner_chosen_among_methods_is_worth_is_told(usual: Comparison) -> None:
    both = {"naive": 0.9, "value": 0.88, "winner_naive": 0.93, "winner_value": 0.925, "seeds": None}
    view = View(changed(usual, corrected=both), {})
    assert honesty(view).endswith(
        "it is 88.00 %. The winner has 93.00 %, cross-fitted, and was chosen among the methods; corrected for that choice it has "
        "92.50 %."
    )
    assert "<small>winner, corrected</small><b>92.50 %</b><small>validation; 93.00 % as chosen</small>" in tiles(view)


def test_looks_at_a_server_are_not_counted(usual: Comparison) -> None:
    view = View(changed(usual, sweeps=[{**sweep, "look": 0} for sweep in usual["sweeps"]]), {})
    assert "a server, which did not record this look at their test." in honesty(view)


def test_a_method_over_the_budget_is_marked(usual: Comparison) -> None:
    rows = [{**row, "allowed": place != 1} for place, row in enumerate(usual["rows"])]
    text = page(changed(usual, rows=rows), {})
    assert text.count("over the budget") == 1
    assert f"<b>{usual['rows'][1]['method']}</b>" in text.split("over the budget")[0].rsplit("<tr", 1)[1]


def test_some_members_stand_for_all(usual: Comparison) -> None:
    worst = [{**one, "members": one["members"][:3]} for one in usual.get("worst", ())]
    places, shares = usual.get("agreement", ((), ()))
    agreement = (places[:3], [row[:3] for row in shares[:3]])
    made = {figure.name: figure for figure in figures(View(changed(usual, worst=worst, agreement=agreement), {}))}
    members = len(next(row for row in usual["rows"] if row["method"] == usual["winner"])["members"])
    assert f"Of its {members} members 3 are asked." in made["worst"].text
    assert f"Of its {members} members 3 are compared." in made["agreement"].text


def test_before_the_test_is_read_all_is_of_the_validation(usual: Comparison) -> None:
    view = View(untested(usual), {})
    assert "validation images right" in answer(view)
    assert honesty(view).startswith("The test has not been read")
    text = page(untested(usual), {})
    assert "test accuracy" not in text.split('<script type="application/json"')[0]
    assert set(names(untested(usual))) == {*ORDER} - {"sizes", "agreement", "worst", "confusion"}


# Parts -----------------------------------------------------------------------------------------------------------------


def test_neighbours_share_cells_evenly() -> None:
    assert blocks_of(3, 40) == [range(1), range(1, 2), range(2, 3)]
    blocks = blocks_of(1000, 40)
    assert [len(block) for block in blocks] == [25] * 40
    assert [place for block in blocks for place in block] == list(range(1000))
    matrix = [[0.0, 0.2, 0.4], [0.2, 0.0, 0.6], [0.4, 0.6, 0.0]]
    assert mean_share(matrix, range(2), range(2)) == 0.2, "a member with itself is left out"
    assert mean_share(matrix, range(2), range(2, 3)) == pytest.approx(0.5)
    assert mean_share(matrix, range(1), range(1)) is None


def test_many_sizes_are_thinned_from_the_end() -> None:
    assert sampled(range(150)) == list(range(150))
    found = sampled(range(1000))
    assert len(found) <= 150
    assert found[:10] == list(range(10))
    assert (found[0], found[-1]) == (0, 999)


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.9], [-3e-9, 3e-9], [93.1, 94.2], [-1.0, 12.5], [math.nan]])
def test_an_axis_has_a_few_round_ticks_within(values: list[float]) -> None:
    axis = axis_of(values)
    assert 1 <= len(axis.ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert axis.x(axis.low) < axis.x(axis.high)


def test_names_of_points_find_room_by_importance() -> None:
    rows = [{"x": 4.0, "y": 0.9, "name": "method"} for _ in range(40)] + [{"x": 9.0, "y": 0.1, "name": "far"}]
    found = placed(Plot("x", "y", "name", (0, 9), (0, 1), log=False), rows, [])
    assert found[0]["x"] == 4.0, "the first has its name"
    assert found[-1]["name"] == "far"
    crowded = [(row["align"], row["dy"]) for row in found[:-1]]
    assert 2 < len(set(crowded)) == len(crowded) < 40, "each place is taken once, and some find none"
    beside = placed(Plot("x", "y", "name", (0, 9), (0, 1), log=False), rows[:1], [{"x": 4.1, "y": 0.93, "name": ""}])
    assert [(row["align"], row["dy"]) for row in beside] == [("right", -13)], (
        "a point without a name is not written over either"
    )


def test_networks_are_counted_apart_from_trials(usual: Comparison) -> None:
    made = {**usual["members"][0], "name": "soup", "ingredients": [0, 1]}
    assert whole(View(changed(usual, members=[*usual["members"], made]), {})) == (
        "16 trials and 1 network made of their weights"
    )
    assert whole(View(usual, {})) == "16 trials"


def test_a_stacked_winner_shows_no_weights(usual: Comparison) -> None:
    """They would be 1/n each, which stacking does not use."""

    def weights(winner: str, **values: Any) -> tuple[set[Any], str, str]:
        rows = [{**row, **(values if row["method"] == winner else {})} for row in usual["rows"]]
        view = View(changed(usual, rows=rows, winner=winner), {})
        members = Parsed(page(view.comparison, {})).data["trials"]
        text = next(figure.text for figure in figures(view) if figure.name == "candidates")
        return {*column(members, "weight")}, " ".join(column(members, "about")), text

    shares, about, text = weights("mean", pooling="stacked")
    assert shares == {None}
    assert "in the winner" in about
    assert "% of the winner" not in about
    assert "stacking gives each 100 coefficients, one for each pair of a class that the member says and a class" in text
    shares, about, text = weights("mean")
    assert shares == {None, 6.2}, "a sixteenth each, to one decimal"
    assert text.endswith("All of them have the same weight.")
    assert weights("greedy", members=[0, 1], weights=[0.7, 0.3])[2].endswith("A larger dot has more weight.")
    assert not weights("best_single")[2].endswith("weight.")


def test_what_is_far_below_does_not_flatten_the_others(usual: Comparison) -> None:
    low = {"value": 0.1, "low": 0.08, "high": 0.12}
    rows = [{**row, "accuracy": low if row["method"] == "mean" else row["accuracy"]} for row in usual["rows"]]
    view = View(changed(usual, rows=rows, winner="greedy"), {})
    made = {figure.name: figure for figure in figures(view)}
    assert "Not drawn, as far below: mean." in made["cost"].text
    assert made["cost"].spec is not None
    assert "10.00" not in json.dumps(made["cost"].spec)
    (of_mean,) = (line for line in (made["methods"].html or "").split("<tr ") if "<b>mean</b>" in line)
    assert of_mean.count("<path ") == 1, "an arrow to what is beyond the axis"


def with_accuracies(usual: Comparison, accuracies: dict[str, float]) -> View:
    rows = [
        {**row, "accuracy": {"value": (value := accuracies.get(row["method"], 0.97)), "low": value, "high": value}}
        for row in usual["rows"]
    ]
    return View(changed(usual, rows=rows, winner="greedy"), {})


def test_far_below_is_by_how_the_others_spread(usual: Comparison) -> None:
    """The others have quartiles of 97.0 and 97.4 %, which count as a point apart: the limit is 94.0 %."""
    others = {"best_single": 0.966, "greedy": 0.978, "top_5": 0.974, "fusion": 0.974}
    numbers = {row["method"]: number for number, row in enumerate(usual["rows"])}
    for value, far in ((0.727, True), (0.939, True), (0.941, False), (1.0, False)):
        view = with_accuracies(usual, {**others, "mean": value})
        assert [name for name, number in numbers.items() if view.is_far_below(number)] == ["mean"] * far
    assert not with_accuracies(usual, {"greedy": 0.1}).is_far_below(numbers["greedy"]), "the winner is always drawn"
    view = with_accuracies(usual, {"best_single": 0.7})
    assert not view.is_far_below(numbers["best_single"])


def test_the_table_has_cross_fitted_validation_and_the_gain_over_the_mean_member(usual: Comparison) -> None:
    rows = [
        {
            **row,
            "gain_over_mean": 0.0314,
            "val": {**row["val"], "measures": {**row["val"]["measures"], "accuracy": 0.8765}},
        }
        if row["method"] == "mean"
        else row
        for row in usual["rows"]
    ]
    (methods,) = (one for one in figures(View(changed(usual, rows=rows), {})) if one.name == "methods")
    (of_mean,) = (line for line in (methods.html or "").split("<tr ") if "<b>mean</b>" in line)
    assert '<td class="number">+3.14</td>' in of_mean
    assert '<td class="number">87.65</td>' in of_mean
    assert "The winner has the highest accuracy on validation, cross-fitted" in methods.text


def test_the_batch_that_was_timed_is_said(usual: Comparison) -> None:
    view = won(usual, latency_ms=12.3)
    view.comparison["environment"] = {"latency_batch": "64", "latency_on": "a small one, CPU"}
    assert cost(view).endswith("; 12 ms for a batch of 64 images, measured on a small one, CPU.")
    view.comparison["environment"] = {"latency_batch": "64", "latency_spread": "1.62", "latency_busy": "yes"}
    assert cost(view).endswith("; the machine was busy, so it is no more than a hint.")
    (table,) = (one for one in figures(view) if one.name == "measures")
    assert "Repeated, it took up to 1.62 times as long: the machine was busy." in table.text


@pytest.mark.parametrize(
    "data",
    [None, b"", b"<svg onload=1>", png(0)[:30], png(0) + b"\0" * 300_000, png(0)[:16] + b"\xff" * 8 + png(0)[24:]],
)
def test_only_small_pngs_are_pictures(data: bytes | None) -> None:
    assert picture(data) is None


def test_a_picture_is_the_file_itself() -> None:
    import base64

    found = picture(png(0, 48))
    assert found is not None
    address, width, height = found
    assert (width, height) == (48, 48)
    assert base64.b64decode(address.removeprefix("data:image/png;base64,")) == png(0, 48)


# In a browser ----------------------------------------------------------------------------------------------------------


@contextmanager
def shown(found: Comparison, folder: Path, **how: Any) -> Iterator[Any]:
    """A browser with the page, every figure of it drawn."""
    to = folder / "comparison.html"
    write_page(found, pictures(found), to)
    with browser(folder / "profile", offline=True, **how) as driver:
        driver.get(to.as_uri())
        draw_all(driver)
        yield driver


def chosen(driver: Any) -> list[Any]:
    """Of each view that is linked, the numbers that are chosen."""
    draw_all(driver)
    found: list[Any] = driver.execute_script("""
      return report.plots.filter((plot) => plot.names.has("chosen")).map((plot) => {
        const chosen = plot.view.signal("chosen");
        return chosen === null ? null : Object.keys(chosen).map(Number).sort((a, b) => a - b);
      });""")
    return found


CASES: dict[str, Callable[[], Comparison]] = {
    "usual": comparison,
    "two members, two classes": lambda: comparison(2, 200, 2),
    "1,000 classes": cache(lambda: comparison(8, 3000, 1000)),
    "untested": lambda: untested(comparison()),
    "best single wins": lambda: comparison(3, methods=("best_single",)),
}


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1300, 1400])
def test_the_table_of_methods_shows_all_its_columns(width: int, tmp_path: Path) -> None:
    with shown(with_all_columns(), tmp_path, width=width) as driver:
        hidden = driver.execute_script("""
          const box = document.querySelector("#methods .scroll");
          return box.scrollWidth - box.clientWidth;""")
        assert hidden <= 0


def with_all_columns() -> Comparison:
    """Prices, p-values and long texts in each row."""
    found: Any = comparison()
    for row in found["rows"]:
        row |= {"multiply_adds": 123_000_000, "p_holm": 0.0001, "in_set": True, "gain_over_mean": 0.0123}
        row["described"] = "forward selection with replacement from all members, 25 picks, weights by how often"
    return found  # type: ignore[no-any-return]


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (700, True)])
@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_drawn_without_an_error(case: str, width: int, dark: bool, tmp_path: Path) -> None:
    with shown(CASES[case](), tmp_path, width=width, dark=dark) as driver:
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 300] == []
        assert console_errors(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
        back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")


NAMES = """
const found = [];
const walk = (item, x, y) => {
  for (const one of item.items || []) {
    if (item.marktype === "text" && one.datum && one.datum.method) {
      const box = one.bounds;
      found.push([one.datum.method, x + box.x1, y + box.y1, x + box.x2, y + box.y2]);
    }
    walk(one, x + (one.x && item.marktype === "group" ? one.x : 0), y + (one.y && item.marktype === "group" ? one.y : 0));
  }
};
walk(report.plots.find((plot) => plot.name === "cost").view.scenegraph().root, 0, 0);
return found;
"""
"""The names in the figure of costs, with the boxes that Vega draws them in."""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [700, 1100, 1500])
def test_no_name_is_drawn_over_another(width: int, tmp_path: Path) -> None:
    """Of methods of nearly equal accuracy, with long intervals and one that is far below, as on a small test."""
    found = comparison()
    for place, row in enumerate(found["rows"]):
        value = 0.1 if place == 7 else 0.98 - 0.003 * place
        row["accuracy"] = {"value": value, "low": value - 0.03, "high": value + 0.01}
        row["multiply_adds"] = [20_000, 80_000, 80_000, 85_000, 90_000, 280_000, 281_000, 20_000][place]
    with shown(found, tmp_path, width=width) as driver:
        drawn = driver.execute_script(NAMES)
    assert len(drawn) >= 5
    for place, (name, left, top, right, bottom) in enumerate(drawn):
        for other, x1, y1, x2, y2 in drawn[:place]:
            assert right <= x1 or x2 <= left or bottom <= y1 or y2 <= top, f"{name} lies on {other}"


@pytest.mark.slow
@needs_browser
def test_a_click_on_a_method_or_a_member_highlights_it_everywhere(tmp_path: Path) -> None:
    found = comparison(8)
    rows = found["rows"]
    number = next(place for place, row in enumerate(rows) if row["method"] == "top_5")
    with shown(found, tmp_path) as driver:
        line = driver.find_element("id", "filter")
        assert line.text.startswith("All 8 trials.")
        driver.find_element("css selector", f".methods tr[data-trial='{number}'] b").click()
        expected = sorted([number, *(len(rows) + place for place in rows[number]["members"])])
        views = chosen(driver)
        assert len(views) >= 10
        assert all(one == expected for one in views)
        assert line.text.startswith("5 of 8 trials: top_5")
        assert line.text.splitlines()[1] == "orchestrator show made-00000000/0"
        assert len(driver.find_elements("css selector", "#table tbody tr")) == 5
        for table in ("#methods", "#measures"):
            assert len(driver.find_elements("css selector", f"{table} tr.unchosen")) == len(rows) - 1
        place = 6
        x, y = f"v.scale('x')({place + 1})", f"v.scale('y')({100 * found['members'][place]['val_accuracy']})"
        drag(driver, point(driver, "candidates", x, y))
        expected = sorted([len(rows) + place, *(n for n, row in enumerate(rows) if place in row["members"])])
        assert all(one == expected for one in chosen(driver))
        assert line.text.startswith("1 of 8 trials: trial 6")
        drag(driver, point(driver, "candidates", x, y))
        assert all(one is None for one in chosen(driver)), "a second click lets go"
        driver.find_element("css selector", ".vote[data-trial]").click()
        assert all(one is not None for one in chosen(driver))
        assert console_errors(driver) == []


@pytest.mark.slow
@needs_browser
def test_another_method_can_be_selected_for_its_reliability(tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import Select

    found = comparison()
    with shown(found, tmp_path) as driver:
        select = Select(driver.find_element("css selector", "#reliability select"))
        others = {row["method"] for row in found["rows"]} - {"best_single", found["winner"]}
        assert {option.text for option in select.options} == others
        select.select_by_visible_text("top_5")
        number = next(place for place, row in enumerate(found["rows"]) if row["method"] == "top_5")
        assert (
            driver.execute_script("return report.plots.find((p) => p.names.has('shown')).view.signal('shown')")
            == number
        )
        assert console_errors(driver) == []


@pytest.mark.slow
@needs_browser
def test_hostile_texts_do_nothing(tmp_path: Path) -> None:
    with shown(hostile(comparison()), tmp_path) as driver:
        driver.find_elements("css selector", ".methods tbody tr")[0].click()
        driver.find_elements("css selector", "#table tbody tr")[0].click()
        draw_all(driver)
        assert driver.execute_script("return window.hacked === undefined")
        assert console_errors(driver) == []
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 100] == []


@pytest.mark.slow
@needs_browser
def test_a_thousand_members(tmp_path: Path) -> None:
    found = comparison(1000, 200, methods=("best_single", "mean", "greedy"))
    places = list(range(1000))
    shares = [[0.0 if i == j else 0.1 + abs(i - j) / 2000 for j in places] for i in places]
    weights = [0.001] * 1000
    rows = [{**row, "members": places, "weights": weights} if row["method"] == "mean" else row for row in found["rows"]]
    worst = [{**one, "members": [(n % 3, 0.5) for n in places]} for one in found.get("worst", ())]
    everyone = changed(found, rows=rows, winner="mean", agreement=(places, shares), worst=worst)
    with shown(everyone, tmp_path) as driver:
        assert (tmp_path / "comparison.html").stat().st_size < 5e6
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 300] == []
        text = driver.find_element("id", "agreement").text
        assert "1,000 members are drawn in 50 groups of neighbours, by their mean." in text
        assert "334 members say" in driver.find_element("id", "worst").text
        driver.find_element("css selector", ".methods tr.winner b").click()
        assert driver.find_element("id", "filter").text.startswith("1,000 of 1,000 trials: mean")
        assert console_errors(driver) == []
