"""The report in a real browser, offline: every figure is drawn, and what one chooses shows in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.journal.record import SweepRecord, read_sweep
from orchestrator.reports.build import write_report
from tests.browser import browser, console_errors, needs_browser
from tests.reports.hostile import hostile_sweep, sweep_of
from tests.simulated import simulated_sweep

pytestmark = [pytest.mark.slow, needs_browser]

PICTURES = """
return report.plots.map((plot) => {
  const canvas = plot.element.querySelector("canvas");
  if (!canvas || !canvas.width || !canvas.height) return [plot.name, 0];
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let marked = 0;
  for (let at = 3; at < pixels.length; at += 4) marked += pixels[at] > 0;
  return [plot.name, marked];
});
"""
"""Of each view, how many pixels have something on them."""

CHOSEN = """
return report.plots.filter((plot) => plot.names.has("chosen")).map((plot) => {
  const chosen = plot.view.signal("chosen");
  return chosen === null ? null : Object.keys(chosen).map(Number).sort((a, b) => a - b);
});
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a simulated sweep of so many trials, with its report in `report.html` beside it."""
    root, made = tmp_path_factory.mktemp("swept"), dict[int, Path]()

    def of(trials: int) -> Path:
        if trials not in made:
            made[trials] = simulated_sweep(root / str(trials) / f"sim{trials}-00000000", trials=trials, epochs=20)
            write_report(made[trials], made[trials].parent / "report.html")
        return made[trials]

    return of


@contextmanager
def shown(page: Path, profile: Path, **how: Any) -> Iterator[Any]:
    """A browser with the page, every figure of it drawn."""
    with browser(profile, offline=True, **how) as driver:
        driver.get(page.as_uri())
        draw_all(driver)
        yield driver


def draw_all(driver: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    count = driver.execute_script("return report.plots.length")
    for place in range(count):
        driver.execute_script("report.plots[arguments[0]].element.scrollIntoView({block: 'center'})", place)
        WebDriverWait(driver, 60).until(
            lambda driver, place=place: driver.execute_script(
                "const plot = report.plots[arguments[0]]; return !plot.stale && plot.element.dataset.drawn === '1'",
                place,
            )
        )
    driver.execute_script("scrollTo(0, 0)")


def filtered(driver: Any) -> list[Any]:
    """What is chosen, as each view has it once it was on screen."""
    draw_all(driver)
    found: list[Any] = driver.execute_script(CHOSEN)
    return found


def point(driver: Any, name: str, x: str, y: str) -> tuple[float, float]:
    """Where on the page a place of the first view of a figure is; `x` and `y` are expressions of its view `v`."""
    driver.execute_script("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", name)
    found: list[float] = driver.execute_script(
        f"""const plot = report.plots.find((one) => one.name === arguments[0]), v = plot.view;
        const box = plot.element.querySelector("canvas").getBoundingClientRect();
        const {{ left, top }} = v.padding(), [right, down] = v.origin();
        return [box.left + left + right + ({x}), box.top + top + down + ({y})];""",
        name,
    )
    return found[0], found[1]


def drag(driver: Any, *points: tuple[float, float]) -> None:
    """Presses at the first point and releases at the last; a single one is a click."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    actions = ActionBuilder(driver, duration=20)
    actions.pointer_action.move_to_location(*map(round, points[0]))
    actions.pointer_action.pointer_down()
    for one in points[1:]:
        actions.pointer_action.move_to_location(*map(round, one))
    actions.pointer_action.pointer_up()
    actions.perform()
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def line(driver: Any) -> str:
    text: str = driver.find_element("id", "filter").text
    return text


def best_of(record: SweepRecord, numbers: list[int]) -> int:
    """The one with the highest value; of equal ones the lowest number."""
    valued = [record.trials[number] for number in numbers if record.trials[number].value is not None]
    return max(valued, key=lambda trial: (trial.value or 0, -trial.index)).index


@pytest.mark.parametrize(
    ("trials", "width", "dark"), [(16, 1400, False), (16, 700, True), (500, 1400, True), (2000, 1400, False)]
)
def test_every_figure_is_drawn_without_an_error(
    trials: int, width: int, dark: bool, swept: Callable[[int], Path], tmp_path: Path
) -> None:
    page = swept(trials).parent / "report.html"
    assert page.stat().st_size < 10e6
    with shown(page, tmp_path / "profile", width=width, dark=dark) as driver:
        pictures = driver.execute_script(PICTURES)
        assert {name for name, _ in pictures} >= {"best", "parallel", "curves", "slices"}
        assert [name for name, marked in pictures if marked < 500] == []
        assert console_errors(driver) == []
        overflow = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "the page itself is not scrolled sideways"
        back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("width", [1280, 400])
def test_the_claims_are_a_table_that_fits(width: int, tmp_path: Path) -> None:
    learns = {"lecture": "004 L1", "says": "a trial learns more than chance would let it, in every seed"}
    measure = {"metric": "val/accuracy", "over": {"optimizer.lr": "best"}}
    claims = [
        {"id": "S-learns-more-than-chance", "left": measure, "at_least": 0.1, "margin": 0.05, **learns},
        {"id": "S-perfect", "left": measure, "at_least": 1.0, **learns},
        {"id": "S-nothing", "left": {"metric": "val/accuracy", "of": {"epochs": 99}}, "at_most": 0.5, **learns},
    ]
    folder = simulated_sweep(tmp_path / "sim-00000000", trials=3, repeat=3, seed=3, epochs=8, claims=claims)
    write_report(folder, page := tmp_path / "report.html")
    with shown(page, tmp_path / "profile", width=width) as driver:
        section = driver.find_element("id", "claims")
        rows = [row.text for row in section.find_elements("css selector", "tbody tr")]
        assert [name for name in ("holds", "does not hold", "undecided") for row in rows if f" {name} " in row] == [
            "holds",
            "does not hold",
            "undecided",
        ]
        assert section.find_elements("css selector", "[title*='val/accuracy']")
        assert console_errors(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("trials", [16, 500])
def test_brushes_of_several_axes_filter_all_figures(trials: int, swept: Callable[[int], Path], tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    folder = swept(trials)
    record = read_sweep(folder)
    with shown(folder.parent / "report.html", tmp_path / "profile") as driver:
        assert line(driver).startswith(f"All {trials} trials.")
        drag(driver, point(driver, "parallel", "v.signal('xs')[2]", "v.scale('y2')('batch')"))  # a click on a choice
        batch = [trial.index for trial in record.trials.values() if trial.params["norm"] == "batch"]
        assert 0 < len(batch) < trials
        views = filtered(driver)
        assert len(views) >= 8
        assert all(chosen == batch for chosen in views)
        assert line(driver).startswith(f"{len(batch)} of {trials} trials: norm batch")
        best = best_of(record, batch)
        assert line(driver).splitlines()[1] == f"orchestrator show {folder.name}/{best}"
        low, high = 1e-3, 1e-1
        ends = [point(driver, "parallel", "v.signal('xs')[1]", f"v.scale('y1')({end})") for end in (low, high)]
        drag(driver, ends[0], (ends[0][0], ends[1][1] + 9), ends[1])
        assert line(driver).splitlines()[0].count("optimizer.lr 0.001") + line(driver).count("norm batch") >= 1
        both = filtered(driver)[0]
        assert all(chosen == both for chosen in filtered(driver))
        surely = [i for i in batch if low * 1.1 < record.trials[i].params["optimizer.lr"] < high / 1.1]
        perhaps = [i for i in batch if low / 1.1 < record.trials[i].params["optimizer.lr"] < high * 1.1]
        assert set(surely) <= set(both) <= set(perhaps)
        rows = [
            int(row.get_attribute("data-number")) for row in driver.find_elements("css selector", "#table tbody tr")
        ]
        assert sorted(rows) == both
        driver.find_element("tag name", "body").send_keys(Keys.ESCAPE)
        assert all(chosen is None for chosen in filtered(driver))
        assert line(driver).startswith("All ")
        assert console_errors(driver) == []


def test_a_click_on_a_curve_chooses_its_trial_and_another_on_a_row_its_own(
    swept: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = swept(500)
    record = read_sweep(folder, keep_epochs=True)
    best = best_of(record, list(record.trials))
    epoch = record.trials[best].epochs[-2]
    value = epoch["metrics"]["val/accuracy"]
    with shown(folder.parent / "report.html", tmp_path / "profile") as driver:
        drag(driver, point(driver, "curves", f"v.scale('x')({epoch['epoch']})", f"v.scale('y')({value})"))
        assert filtered(driver)[0] == [best]
        assert all(chosen == [best] for chosen in filtered(driver))
        assert line(driver).splitlines()[1:] == [f"orchestrator show {folder.name}/{best}"]
        drag(driver, point(driver, "parallel", "v.signal('xs')[0]", "v.scale('y0')('adam')"))
        adam = [trial.index for trial in record.trials.values() if trial.params["optimizer"] == "adam"]
        assert all(chosen == adam for chosen in filtered(driver))
        assert len(line(driver).splitlines()) == 1 + 20 + 1, "the best 20, and how many more"
        row = driver.find_elements("css selector", "#table tbody tr")[3]
        number = int(row.get_attribute("data-number"))
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
        row.click()
        assert all(chosen == [number] for chosen in filtered(driver))
        assert (
            driver.execute_script("return report.plots.find((one) => one.name === 'parallel').view.signal('brush0')")
            is None
        )
        driver.find_element("css selector", "#filter button").click()
        assert all(chosen is None for chosen in filtered(driver))
        assert console_errors(driver) == []


@pytest.mark.parametrize("attribute", ["src", "srcdoc"])
def test_it_works_in_the_frame_in_which_mlflow_shows_it(
    attribute: str, swept: Callable[[int], Path], tmp_path: Path
) -> None:
    import html

    page = swept(16).parent / "report.html"
    value = page.as_uri() if attribute == "src" else html.escape(page.read_text("utf-8"))
    frame = f'<iframe sandbox="allow-scripts" style="width: 1300px; height: 800px" {attribute}="{value}"></iframe>'
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!doctype html><meta charset=utf-8>{frame}")
    with browser(tmp_path / "profile", offline=True) as driver:
        driver.get(outer.as_uri())
        driver.switch_to.frame(driver.find_element("tag name", "iframe"))
        draw_all(driver)
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 500] == []
        driver.find_elements("css selector", "#table tbody tr")[0].click()
        first = int(driver.find_element("css selector", "#table tbody tr").get_attribute("data-number"))
        assert all(chosen == [first] for chosen in filtered(driver))
        assert console_errors(driver) == []


def test_a_strangers_texts_do_nothing(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_report(hostile_sweep(tmp_path / "evil-00000000"), page)
    with shown(page, tmp_path / "profile") as driver:
        driver.find_elements("css selector", "#table tbody tr")[0].click()
        assert driver.execute_script("return window.hacked === undefined")
        assert console_errors(driver) == []
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 100] == []


@pytest.mark.parametrize("state", ["completed", "failed", None])
def test_a_single_trial(state: str | None, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    values = [0.1, 0.4] if state != "failed" else []
    trials = [{"params": {"a": 0.5, "b": "x"}, "values": values, "state": state}]
    write_report(sweep_of(tmp_path / "one-00000000", trials, closed=state is not None), page)
    with shown(page, tmp_path / "profile") as driver:
        driver.find_element("css selector", "#table tbody tr").click()
        assert line(driver).splitlines()[1] == "orchestrator show one-00000000/0"
        assert console_errors(driver) == []
