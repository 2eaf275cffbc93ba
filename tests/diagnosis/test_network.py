"""`orchestrator diagnose` of a network: table, page and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from orchestrator.base import errors
from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.diagnosis.subjects import configured
from orchestrator.training.diagnosis.study import diagnosed
from orchestrator.training.predictions import read
from tests.browser import browser, console_errors, needs_browser
from tests.diagnosis.conftest import Diagnose
from tests.reports.test_browser import PICTURES, draw_all
from tests.reports.test_page import Parsed

SMALL = ("model=mlp", "model.hidden=2", "model.width=20", "activation=tanh", "--examples", "64")


def test_a_row_a_layer_and_a_page(diagnose: Diagnose) -> None:
    code, out, _ = diagnose(*SMALL)
    assert code == errors.EXIT_OK
    lines = out.splitlines()
    header = next(line for line in lines if line.startswith("layer"))
    assert header.split()[:5] == ["layer", "module", "activation", "features", "mean"]
    rows = lines[lines.index(header) + 1 :][:4]
    assert [row.split()[0] for row in rows] == ["input", "1", "2", "3"]
    assert [row.split()[1:3] for row in rows[1:]] == [["1", "Tanh"], ["3", "Tanh"], ["5", "10"]]
    assert [row.split()[-1] for row in rows[1:]] == ["2", "4", "5"]
    assert "singular values of the product of the first 3 weights: rms" in out
    assert "sign agreement in the first layer: " in out
    parsed = Parsed(Path("diagnosis-mlp.html").read_text())
    assert lines[-1].startswith("diagnosis-mlp.html (")
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    sections = [attributes["id"] for tag, attributes in parsed.elements if tag == "section"]
    whole = "activations histograms gradients idle products signs updates filters neighbours trials"
    assert sections == whole.split()
    assert parsed.data["trials"]["number"] == [1, 2, 3]
    assert parsed.data["trials"]["name"] == ["1", "3", "5"]
    assert "of layer 2 (3) the nearest other image" in Path("diagnosis-mlp.html").read_text()


def test_json_has_the_numbers_of_the_table(diagnose: Diagnose) -> None:
    code, out, err = diagnose(*SMALL, "--json", "--output", "a.html")
    assert code == errors.EXIT_OK
    found = json.loads(out)
    assert [layer["statistics"]["name"] for layer in found["layers"]] == ["1", "3", "5"]
    assert [layer["number"] for layer in found["layers"]] == [1, 2, 3]
    assert found["examples"] == 64
    assert "images" not in found["neighbours"]
    assert err.startswith("a.html (")


def test_a_second_page_does_not_replace_the_first(diagnose: Diagnose) -> None:
    words = [word for word in SMALL if not word.startswith("model.width")]
    said = [diagnose(*words, f"model.width={width}")[1] for width in (20, 30, 40)]
    names = ["diagnosis-mlp.html", "diagnosis-mlp-2.html", "diagnosis-mlp-3.html"]
    assert [out.splitlines()[-1].split()[0] for out in said] == names
    for name, width in zip(names, (20, 30, 40), strict=True):
        assert Parsed(Path(name).read_text()).data["trials"]["features"][0] == width
    diagnose(*SMALL, "--output", names[0])
    assert [*map(str, sorted(Path().glob("*.html")))] == sorted(names)


def test_a_convolutional_network_with_batch_normalization_and_an_aux_head(diagnose: Diagnose) -> None:
    code, out, _ = diagnose("model=plain_cifar", "model.depth=14", "model.aux=heads", "data=synthetic", "--examples=32")
    assert code == errors.EXIT_OK
    assert "heads.stage2" in out
    assert "singular values" not in out


def test_a_trained_trial_has_the_classes_of_its_predictions(diagnose: Diagnose, trained: Path) -> None:
    code, out, _ = diagnose("from=digits/0", "--json")
    assert code == errors.EXIT_OK
    stored = read(trial_folder(trained / "digits-00000001", 0) / PREDICTIONS)
    said, labels = stored.tensors["val_logits"].argmax(1), stored.tensors["val_labels"]
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    for true, one in zip(labels.tolist(), said.tolist(), strict=True):
        confusion[true, one] += 1
    found = json.loads(out)
    assert found["classes"]["confusion"] == confusion.tolist()
    assert all(layer["update_ratio"] is None for layer in found["layers"])
    sections = [
        attributes["id"] for tag, attributes in Parsed(page_of("digits-00000001-0")).elements if tag == "section"
    ]
    assert {"classes", "confusion"} <= {*sections}


def page_of(name: str) -> str:
    return Path(f"diagnosis-{name}.html").read_text()


def test_a_trial_at_its_initialization_is_the_configuration(diagnose: Diagnose) -> None:
    _, initial, _ = diagnose("from=digits/0", "--initial", "--json")
    _, typed, _ = diagnose(
        "model=mlp", "model.hidden=1", "model.width=24", "optimizer.lr=0.1", "batch_size=16", "--json"
    )
    first, second = json.loads(initial), json.loads(typed)
    assert first["layers"][0]["statistics"] == second["layers"][0]["statistics"]
    assert first["classes"] is None


def test_the_first_update_is_the_gradient_times_the_learning_rate() -> None:
    """Plain gradient descent over the whole batch, with a warm-up of which the first step takes a hundredth."""
    words = ["model=mlp", "model.hidden=1", "optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0"]
    with configured([*words, "optimizer.weight_decay=0", "batch_size=64"]).built(64) as subject:
        weight = dict(subject.model.named_parameters())["1.weight"]
        before = weight.detach().double().norm().item()
        found = diagnosed(subject).layers[0]
    assert found.statistics.weight_gradient is not None
    length = (found.statistics.weight_gradient.second_moment * weight.numel()) ** 0.5
    assert found.update_ratio == pytest.approx(0.5 * length / before, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.hidden=1,2"], "model.hidden: diagnose looks at one configuration; give each key one value"),
        (["from=digits/0", "model.hidden=3"], "model.hidden=3: changes the trial, which is diagnosed as it was"),
        (["from=digits/9"], "has the trials 0 to 2"),
        (["--initial"], "--initial: is about a trial, and none is named; add  from=NAME/7"),
        (["--examples", "100000"], "examples must be from 2 to the 1151 training images, got 100000"),
        (["--layer", "nine"], "the network has no layer nine; the modules of its layers are 1, 3, 5"),
        (["model=resnet81"], "did you mean"),
    ],
)
def test_what_is_refused(diagnose: Diagnose, words: list[str], told: str) -> None:
    code, _, err = diagnose(*words)
    assert code == errors.EXIT_BAD_INPUT
    assert told in err


BARE = """
import torch
from torch import nn

class Bare(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(num_classes, in_channels))

    def forward(self, x):
        return nn.functional.linear(x.mean((2, 3)), self.rows)

def bare(num_classes: int, in_channels: int, **_) -> nn.Module:
    return Bare(num_classes, in_channels)
"""


def test_a_network_without_layers_is_told_as_that(diagnose: Diagnose, tmp_path: Path) -> None:
    (tmp_path / "bare_of_mine.py").write_text(BARE)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "bare.yaml").write_text("_target_: bare_of_mine.bare\n")
    code, _, err = diagnose(
        *("model=bare", "--config-dir", str(tmp_path / "conf")),
        *("allowed_targets=[bare_of_mine]", f"import_paths=[{tmp_path}]"),
    )
    assert code == errors.EXIT_BAD_INPUT
    assert "bare: the network has no layer to look at" in err


def test_damaged_weights_are_told_with_the_way_out(diagnose: Diagnose, trained: Path) -> None:
    path = trial_folder(trained / "digits-00000001", 0) / "best.safetensors"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-100])
        code, _, err = diagnose("from=digits/0")
    finally:
        path.write_bytes(whole)
    assert code == errors.EXIT_NOT_READY
    assert "this trains it again:  orchestrator train from=digits-00000001/0" in err


LABELS = """
const found = [];
const walk = (item, role) => {
  if (item.text !== undefined && role === "axis-label") found.push(String(item.text));
  for (const inner of item.items || []) walk(inner, item.role || role);
};
for (const plot of report.plots) walk(plot.view.scenegraph().root, "");
return found;
"""
"""What is written along the axes of all figures."""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("words", [("from=digits/0",), SMALL])
def test_every_figure_is_drawn_without_an_error(diagnose: Diagnose, words: tuple[str, ...], tmp_path: Path) -> None:
    assert diagnose(*words, "--output", "page.html")[0] == errors.EXIT_OK
    with browser(tmp_path / "profile", offline=True, width=1300) as driver:
        driver.get((tmp_path / "page.html").as_uri())
        draw_all(driver)
        assert [name for name, marked in driver.execute_script(PICTURES) if marked < 300] == []
        assert console_errors(driver) == []
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
        table = "const box = document.querySelector('#trials .scroll'); return box.scrollWidth - box.clientWidth"
        assert driver.execute_script(table) <= 0
        labels = driver.execute_script(LABELS)
        assert len(labels) > 20
        assert [label for label in labels if re.fullmatch(r"[−-]?\d+e[+−-]?[0-4]", label)] == []
        driver.find_element("css selector", "#table tbody tr").click()
        line = driver.find_element("id", "filter").text
        assert line.startswith("1 of ")
        assert "orchestrator show" not in line


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("activation", "width"), [("relu", 1280), ("tanh", 1280), ("relu", 400)])
def test_long_names_take_a_second_line(diagnose: Diagnose, activation: str, width: int, tmp_path: Path) -> None:
    words = ("model=resnet20", f"activation={activation}", "data=synthetic", "--examples", "16")
    assert diagnose(*words, "--output", "page.html")[0] == errors.EXIT_OK
    with browser(tmp_path / "profile", offline=True, width=width) as driver:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        driver.get((tmp_path / "page.html").as_uri())
        names = [cell.text.replace("\n", "") for cell in driver.find_elements("css selector", "#table td.name")]
        assert names[4:6] == ["stage1.0.branch.1.affine", "stage1.0.activation"]
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
        box = "document.querySelector('#trials .scroll')"
        columns = driver.execute_script(f"return {box}.scrollWidth - {box}.clientWidth")
        module = driver.execute_script("return document.querySelector('#table td.name').offsetWidth")
        assert columns <= 0 if width == 1280 else module <= 160
