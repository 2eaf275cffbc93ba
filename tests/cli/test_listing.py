"""`orchestrator list`: groups, choices, and what an architecture costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import models
from orchestrator.base.build import parameters
from orchestrator.base.groups import GROUPS, PARTS, PROVIDED, SEARCHES
from orchestrator.base.settings import ROOT_KEYS
from orchestrator.base.targets import resolve
from orchestrator.cli import main
from orchestrator.config.described import keys_of_choice
from orchestrator.config.files import open_catalogue
from orchestrator.config.grammar import parse


def lines_of(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(["list", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["list", *argv]) == 2
    return capsys.readouterr().err


def test_models_are_listed_with_their_published_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, "model")

    rows = {line.split()[0]: line.split() for line in lines[1:-1]}
    assert rows.keys() == set(models.names())
    # parameters and multiply-adds of torchvision's documentation, depth of the name, image size of the paper
    assert rows["resnet50"][1:5] == ["25.6M", "4.09G", "50", "224"]
    assert rows["vgg16"][1:5] == ["138M", "15.5G", "16", "224"]


def test_a_model_is_described_with_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(lines_of(capsys, "model", "resnet50"))

    assert "parameters       25,557,032" in text
    assert "multiply-adds    4,089,184,256 an image" in text
    assert "depth            50 layers" in text
    assert "_target_: models.resnet." in text


def test_layers_of_a_model_follow_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    """A 3x3 convolution from 1 to 16 channels has 144 weights; without normalization it has a bias, too."""
    lines = lines_of(
        capsys,
        "model",
        "resnet_cifar",
        "model.depth=8",
        "norm=none",
        "--layers",
        "--channels",
        "1",
        "--image-size",
        "8",
    )

    assert lines[0].split() == ["layer", "volume", "activations", "parameters", "operations"]
    first = next(line for line in lines if "stem" in line).split()
    assert first[-4:] == ["8x8x16", "1,024", "160", "9,216"]


def test_layers_in_the_convention_of_the_lecture(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, "model", "resnet34", "--layers", "--convention", "lecture_resnet")

    assert ["3x", "res(3,", "64)", "56x56x64", "200,704", "221,568", "694,837,248"] in [line.split() for line in lines]
    assert lines[-1].split()[-2:] == ["21,789,160", "3,668,417,232"]


def test_a_choice_of_another_group_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "_target_: models.layers.norm.batch_norm" in lines_of(capsys, "norm", "batch")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["model", "resnet81"], "resnet81: is not in conf/model; did you mean resnet18"),
        (["modle"], r"is not a group; did you mean model\? known: "),
        (["model", "linear", "norm=batch"], "linear has no hidden features"),
        (["model", "resnet50", "model.widht=2"], "did you mean model.width"),
        (["model", "resnet50", "norm=batch,group"], "must be one value here"),
        (["model", "resnet50", "--image-size", "8"], "needs at least 32x32 images, got 8x8"),
        (["model", "resnet50", "--image-size", "0"], "--image-size=0: must be at least 1"),
        (["norm", "batch", "--layers"], "--layers: is for one model"),
        (["model", "--layers"], "--layers: is for one model"),
        (["model", "--image-size", "32"], "--image-size: is for one model"),
        (["model", "resnet50", "--convention", "lecture_resnet"], "add --layers"),
        (["norm", "batch", "eps=3"], "is for models"),
    ],
)
def test_what_cannot_be_listed_is_told(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert re.search(message, error_of(capsys, *argv))


def test_choices_of_ones_own_are_listed_without_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "narrow.yaml").write_text("# A narrow one.\n_target_: models.mlp.mlp\nwidth: 10\n")

    lines = lines_of(capsys, "model", "--config-dir", str(tmp_path))
    own = next(line for line in lines if line.startswith("narrow"))
    described = "\n".join(lines_of(capsys, "model", "narrow", "--config-dir", str(tmp_path)))

    assert own.split() == ["narrow", "A", "narrow", "one."]
    # 32x32x3 images: 3072 x 10 + 10, 10 x 10 + 10 (the default has two hidden layers), 10 x 10 + 10
    assert "parameters       30,950" in described


def test_plan_says_what_a_trial_of_each_architecture_costs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On digits, 1,151 training images of 64 pixels: the linear map has 64 x 10 multiply-adds, an MLP of one hidden layer of 10
    has 64 x 10 + 10 x 10; the norm adds none, and is no line of its own."""
    overrides = ["model=linear,mlp", "model.hidden=1", "model.width=10", "norm=none,default", "epochs=4"]

    assert main(["launch", "--plan", f"runs_dir={tmp_path}", *overrides]) == 0

    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("cost"))
    linear, mlp, images = (" ".join(line[16:].split()) for line in lines[start : start + 3])
    assert linear == "model=linear 650 parameters 640 multiply-adds an image 2.95M a trial x 1"
    assert mlp == "model=mlp 760 parameters 740 multiply-adds an image 3.41M a trial x 1.16"
    assert images.startswith("4.6k images a trial (1,151 in each of 4 epochs);")


def test_plan_says_what_probes_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On 1,151 digits: a hidden layer of 64 x 100 multiply-adds, once for a probe and every epoch for the whole network, and a
    classifier of 100 x 10 every epoch."""
    overrides = ["transfer=head,default", "model.hidden=1", "epochs=10"]

    assert main(["launch", "--plan", f"runs_dir={tmp_path}", *overrides]) == 0

    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("cost"))
    probe, whole = (" ".join(line[16:].split()) for line in lines[start : start + 2])
    # 1,151 x (6,400 + 10 x 1,000) = 18.9M, 1,151 x 10 x 7,400 = 85.2M
    assert probe.startswith("model=mlp, transfer=head ")
    assert probe.endswith(" 7.4k multiply-adds an image 18.9M a trial x 1")
    assert whole.endswith(" 7.4k multiply-adds an image 85.2M a trial x 4.51")


@pytest.mark.parametrize("group", [*GROUPS, *PARTS])
def test_every_key_of_every_choice_is_described(group: str) -> None:
    """As the target's signature has them, with a usual range where the file has one, and its source."""
    catalogue = open_catalogue(None)
    for name, path in catalogue.files[group].items():
        spec, usual = catalogue.choice(group, name)
        known = parameters(resolve(spec["_target_"]), PROVIDED.get(group, ())) if spec else {}
        keys = {key.key.removeprefix(f"{group}."): key for key in keys_of_choice(group, path)}
        assert keys.keys() == known.keys()
        for argument, key in keys.items():
            assert key.type not in ("", "?", "a value")
            assert key.default == "(needed)" or argument in spec
            assert key.usual == str(usual.get(argument, ""))
            assert not key.usual or key.source, f"{path}: the range of {argument} has no source"
            assert not key.usual or parse(f"{key.key}={key.usual}").is_sweep_override()


def test_a_choice_is_a_table_of_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    header, lr, *_ = lines_of(capsys, "optimizer", "sgd")[2:]
    assert header.split() == ["key", "type", "default", "usual", "range", "remarks"]
    assert re.match(r"optimizer\.lr +a number +0\.1 +tag\(log, interval\(1e-3, 1\)\) +Bengio 2012", lr)


def test_a_comment_above_a_range_is_its_source(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "# What it is.\n_target_: torch.optim.SGD\nlr: 0.1  # of the paper\n# two lines\n# about it\nmomentum: '#'\n"
        "search:\n  # Somebody 2012,\n  # table 1\n  lr: choice(1, 2)\n  momentum: interval(0, 1)  # Other 2013\n"
    )
    keys = {key.key: key for key in keys_of_choice("optimizer", path)}
    assert keys["optimizer.lr"].row[2:] == ["0.1", "choice(1, 2)", "Somebody 2012, table 1"]
    assert keys["optimizer.momentum"].row[2:] == ["'#'", "interval(0, 1)", "Other 2013"]
    # what the file does not set has the default of the signature, which PyTorch documents
    assert keys["optimizer.weight_decay"].row[1:4] == ["a number or Tensor", "0", ""]


def test_code_of_ones_own_is_described_once_it_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "own.yaml").write_text("# Mine.\n_target_: listed_of_mine.own\nlr: 0.5\n")
    (tmp_path / "listed_of_mine.py").write_text("def own(params, lr: float = 1.0, steps: int = 3): ...\n")
    named = ("optimizer", "own", "--config-dir", str(tmp_path))

    without = lines_of(capsys, *named)
    allowed = lines_of(capsys, *named, "allowed_targets=[listed_of_mine]", f"import_paths=[{tmp_path}]")

    assert without[0] == "optimizer=own: Mine."
    assert without[3].split() == ["optimizer.lr", "?", "0.5"]
    assert "allowed_targets=[PACKAGE]" in without[4]
    assert [line.split() for line in allowed[3:5]] == [
        ["optimizer.lr", "a", "number", "0.5"],
        ["optimizer.steps", "an", "integer", "3"],
    ]


def test_the_help_of_launch_has_every_key_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {*ROOT_KEYS, *GROUPS, *PARTS, *SEARCHES} <= {line.split()[0] for line in lines if line}
    assert any(re.match(r"trials +16 +at most", line) for line in lines)
    assert any(re.match(r"model +mlp +alexnet, .* and \d+ more: orchestrator list GROUP$", line) for line in lines)
