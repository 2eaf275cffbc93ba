"""The width of a plateau on functions whose width is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from orchestrator.reports.data import load
from orchestrator.reports.figures.plateau import _panel, figure
from orchestrator.reports.parts.plateaus import Plateau, Point, binned, edges_of, limit_of, plateau
from tests.reports.made import choice, log_number, sweep, trial
from tests.simulated import _top, simulated_sweep


def of(values: dict[float, float | None], limit: float, sign: int = 1) -> Plateau:
    points = [Point(place, x, value) for place, (x, value) in enumerate(values.items())]
    found = plateau(binned(points, None, sign), limit, sign)
    assert found is not None
    return found


def test_a_box_is_as_wide_as_it_is() -> None:
    found = of({1e-4: 0.1, 1e-3: 0.9, 1e-2: 0.9, 1e-1: 0.8, 1.0: 0.2}, 0.72)
    assert (found.low, found.high, found.below, found.above) == (1e-3, 1e-1, 1e-4, 1.0)
    assert found.decades == pytest.approx(2.0)
    assert found.words == "2.0 to 4.0 decades"


def test_what_is_good_again_beyond_a_gap_is_not_of_the_plateau() -> None:
    found = of({1e-3: 0.9, 1e-2: 0.1, 1e-1: 0.8, 1.0: 0.95, 10.0: None}, 0.76)
    assert (found.low, found.high, found.below, found.above) == (1e-1, 1.0, 1e-2, 10.0)


def test_where_nothing_fails_it_is_open() -> None:
    found = of({1e-3: 0.9, 1e-1: 0.8}, 0.72)
    assert (found.below, found.above) == (None, None)
    assert found.words == "at least 2.0 decades"


def test_one_value_is_no_width() -> None:
    found = of({1e-3: 0.9, 1e-1: 0.1}, 0.72)
    assert (found.words, found.ends) == ("one value of those tried", "0.001")


def test_divergence_ends_it_and_of_a_loss_low_is_good() -> None:
    found = of({1e-3: 0.2, 1e-2: 0.1, 1e-1: None}, 0.5, sign=-1)
    assert (found.low, found.high, found.below, found.above) == (1e-3, 1e-2, None, 1e-1)
    assert plateau(binned([Point(0, 1.0, None)], None, 1), 0.5, 1) is None


def test_a_bell_in_random_trials_among_worse_ones_has_the_width_of_the_bell() -> None:
    """exp(-u^2) of the top at u decades: within a fifth up to u = sqrt(ln 1.25), so 0.945 decades in all."""
    draw = np.random.RandomState(0)
    xs = 10 ** draw.uniform(-3, 1, 1000)
    values = 0.9 * np.exp(-((np.log10(xs) + 1) ** 2)) * draw.choice([1.0, 0.5], 1000)  # half of them another key spoils
    points = [Point(place, float(x), float(value)) for place, (x, value) in enumerate(zip(xs, values, strict=True))]
    edges = edges_of(points, 1, alone=False)
    found = plateau(binned(points, edges, 1), 0.8 * max(values), 1)
    assert found is not None
    assert found.decades == pytest.approx(2 * math.sqrt(math.log(1.25)), abs=0.02)


def test_bins_hold_every_point_once_and_their_best_and_median() -> None:
    draw = np.random.RandomState(1)
    points = [Point(place, float(10 ** draw.uniform(-2, 2)), float(draw.rand())) for place in range(101)]
    edges = edges_of(points, 1, alone=False)
    assert edges is not None
    bins = binned(points, edges, 1)
    assert sorted(point.trial for one in bins for point in one.points) == list(range(101))
    places = np.clip(np.digitize([point.x for point in points], edges[1:-1]), 0, None)
    for one, place in zip(bins, np.unique(places), strict=True):
        values = np.sort([point.value for point in np.array(points, object)[places == place]])
        assert (one.best, one.median) == (values[-1], values[(len(values) - 1) // 2])


@pytest.mark.parametrize(
    ("metric", "classes", "best", "limit"),
    [
        ("val/accuracy", 10, 0.9, 0.72),
        ("val/loss", 10, 0.1, 0.1 + 0.2 * (math.log(10) - 0.1)),
        ("val/loss", None, 1, None),
    ],
)
def test_the_edge_is_a_fifth_from_the_best(metric: str, classes: int | None, best: float, limit: float | None) -> None:
    assert limit_of(best, metric, classes) == (None if limit is None else pytest.approx(limit))


def width_of_truth(norm: str, epochs: int) -> float:
    """The width of the simulation's own formula, by a fine grid: contiguous around the best learning rate."""
    decades = np.arange(-4, 1, 0.005)
    tops = [
        max(
            _top({"optimizer": name, "optimizer.lr": 10**at, "norm": norm, "init.scale": 1.0})
            for name in ("sgd", "adam")
        )
        for at in decades
    ]
    values = 0.1 + (np.array(tops) - 0.1) * (1 - math.exp(-epochs / 4))
    inside, top = values >= 0.8 * values.max(), int(values.argmax())
    low, high = top, top
    while inside[low - 1]:
        low -= 1
    while inside[high + 1]:
        high += 1
    return float(decades[high] - decades[low])


def test_of_the_simulation_it_is_that_of_its_formula(tmp_path: Path) -> None:
    data = load(simulated_sweep(tmp_path / "sim-00000000", trials=800, epochs=2, seed=3, stops=False))
    panel = _panel(data, next(key for key in data.keys if key.name == "optimizer.lr"))
    assert panel is not None
    assert panel.line is not None
    assert panel.line.name == "norm"
    widths = {norm: found.decades for norm, found in panel.plateaus.items()}
    assert widths == pytest.approx({norm: width_of_truth(norm, 2) for norm in ("batch", "layer", "none")}, abs=0.2)


def test_a_line_that_learned_nothing_has_no_plateau() -> None:
    space = [log_number("init.std", 1e-3, 1), choice("norm", "none", "batch")]
    grid = [(x, norm) for norm in ("none", "batch") for x in (1e-3, 1e-2, 1e-1, 1.0)]
    trials = [
        trial(place, 0.1 if norm == "none" else 0.9, params={"init.std": x, "norm": norm})
        for place, (x, norm) in enumerate(grid)
    ]
    found = figure(sweep(*trials, space=space, facts={"num_classes": 10, "val": 287}))
    assert found is not None
    assert "batch at least 3.0 decades (0.001 to 1)" in found.text
    assert "none" not in found.text


def test_without_a_number_searched_by_factors_there_is_no_figure() -> None:
    assert figure(sweep(*[trial(place, 0.5, params={"norm": "none"}) for place in range(9)])) is None
    trials = [trial(place, 0.5, params={"lr": 0.1}) for place in range(9)]
    assert figure(sweep(*trials, space=[log_number("lr", 0.01, 1)])) is None


def test_a_bin_at_random_without_a_good_trial_is_bridged_and_a_gap_is_not() -> None:
    values = [0.1, 0.9, 0.2, 0.9, 0.8, 0.1, 0.1, 0.9]
    bins = binned([Point(place, 10.0**place, value) for place, value in enumerate(values)], None, 1)
    found = plateau(bins, 0.7, 1, bridged=True)
    assert found is not None
    assert (found.low, found.high, found.below, found.above) == (10.0, 1e4, 1.0, 1e5)
