"""`orchestrator predict`: which model, which files, what is printed, and what is said of files that are no images."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import orchestrator
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.pooling import uniform
from orchestrator.cli import main
from orchestrator.cli.completing import FILES, candidates
from orchestrator.journal.record import read_sweep
from orchestrator.serving.ensemble import write_ensemble
from orchestrator.training.data import load
from tests.serving.trained import DIGITS, config, trained_sweep
from tests.synthetic import Sweep

EVIL = 'a\n\x1b[31m<script>"9.png'


@pytest.fixture(scope="module")
def sweep(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    os.environ["ORCHESTRATOR_CACHE"] = cache
    before = torch.get_num_threads()
    made = trained_sweep(tmp_path_factory.mktemp("all") / "runs" / "digits-0a1b2c3d", config(), config(seed=1))
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)
    trials = read_sweep(made.folder).trials
    members = [(f"{made.uid}/{n}", trial_folder(made.folder, n) / BEST, trials[n].config) for n in (0, 1)]
    folder = made.folder.parent / "comparisons" / "best-00000001"
    write_ensemble(folder / "model", members, uniform((0, 1)), name=folder.name, time_ms=0)
    (folder / "comparison.json").write_text("{}")
    return made


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below, and a file that is none."""
    folder = tmp_path / "digits"
    (folder / "more").mkdir(parents=True)
    pixels = load(DIGITS).images[:3, 0]
    for one, name in zip(pixels, ("0.png", "1.bmp", "more/2.PNG"), strict=True):
        Image.fromarray(one).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def predict(sweep: Sweep, model: str, *arguments: str) -> int:
    return main(["predict", model, *arguments, "--runs-dir", str(sweep.folder.parent)])


@pytest.mark.parametrize("model", ["digits", "digits-0a1b2c3d", "digits/1", "best", "best-00000001", "best-0"])
def test_it_prints_what_load_model_predicts(
    sweep: Sweep, digits: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(sweep, model, str(digits)) == 0
    files = [digits / "0.png", digits / "1.bmp", digits / "more" / "2.PNG"]
    expected = orchestrator.load_model(model, runs_dir=sweep.folder.parent).predict(files)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "class", "probability"]
    assert [line.split() for line in lines] == [
        [str(path), one.label, f"{100 * one.probability:.1f}", "%"] for path, one in zip(files, expected, strict=True)
    ]


def test_the_most_probable_classes_for_programs(sweep: Sweep, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(digits / "0.png")
    assert predict(sweep, "best", file, file, "--top", "3", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    (expected,) = orchestrator.load_model("best", runs_dir=sweep.folder.parent).predict(file)
    best = sorted(expected.probabilities.items(), key=lambda one: -one[1])[:3]
    assert found == {"file": file, "classes": [{"class": name, "probability": share} for name, share in best]}


def test_the_folder_of_a_model_is_one(sweep: Sweep, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep.folder.parent / "comparisons" / "best-00000001" / "model"
    assert main(["predict", str(folder), str(digits / "0.png"), "--runs-dir", str(digits)]) == 0
    assert str(digits / "0.png") in capsys.readouterr().out


def test_files_that_are_no_images_are_named_and_the_others_classified(
    sweep: Sweep, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (digits / EVIL).write_bytes(b"no image")
    (digits / "empty.png").touch()
    os.mkfifo(digits / "pipe.png")
    assert predict(sweep, "digits/0", str(digits), str(digits / "notes.txt"), "--top", "2") == 2
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert len(printed.out.splitlines()) == 1 + 2 * 3
    assert re.findall(r"^error: \S*/(.*?): ", printed.err, re.MULTILINE) == [
        'a\\n\\x1b[31m<script>"9.png',
        "empty.png",
        "pipe.png",
        "notes.txt",
    ]
    assert "is not an image of a known format" in printed.err
    assert predict(sweep, "digits/0", str(digits), "--json") == 2
    found = {Path(one["file"]).name: one for one in json.loads(capsys.readouterr().out)}
    assert "error" in found[EVIL]
    assert "classes" in found["0.png"]


def test_images_of_another_size_are_told_once(sweep: Sweep, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(digits / f"large-{number}.png")
    told = (
        "3 of 6 images have another size than those of the training; they are scaled and cropped at the centre, which the"
        " network has never seen"
    )
    assert predict(sweep, "best", str(digits)) == 0
    assert capsys.readouterr().err.splitlines() == [told]
    (digits / "empty.png").touch()
    assert predict(sweep, "best", str(digits)) == 2
    assert capsys.readouterr().err.splitlines()[0] == told, "a file that cannot be read is none of them"


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["digits", "nowhere.png"], 2, "IMAGE=nowhere.png: there is no such file or folder"),
        (["digits", ""], 2, "IMAGE=: there is no such file or folder"),
        (["digits", "x" * 5000], 2, "there is no such file or folder"),
        (["~nobody-here", "{image}"], 2, "no sweep of that name"),
        (["x" * 5000, "{image}"], 2, "no sweep of that name"),
        (["digits", "{empty}"], 2, "the folder holds no image"),
        (["digits", "{image}", "--top", "0"], 2, "--top=0: must be at least 1"),
        (["digist", "{image}"], 2, "no sweep of that name in .* did you mean digits"),
        (["bset-00000001", "{image}"], 2, "no sweep of that name in .* did you mean best-00000001"),
        (["beast-00000001", "{image}"], 2, "did you mean best-00000001"),
        (["broken-0", "{image}"], 2, "beginning of several comparisons; say which: broken-0000000., broken-0000000."),
        (["broken", "{image}"], 3, "broken-0000000. answers, the newest of 2 comparisons called broken\n"),
        (["digits"], 2, "nothing to classify; name image files, .*:  orchestrator predict digits photos/ --top 3"),
        (["digits/9", "{image}"], 2, "there is no such trial"),
        (["models:/", "{image}"], 2, "is no address of a model"),
        (["broken-00000002", "{image}"], 3, "the comparison broken-00000002 holds no model"),
    ],
)
def test_what_cannot_be_is_said(
    sweep: Sweep, digits: Path, arguments: list[str], code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (digits / "empty").mkdir()
    for uid in ("broken-00000002", "broken-00000003"):
        broken = sweep.folder.parent / "comparisons" / uid
        broken.mkdir(exist_ok=True)
        (broken / "comparison.json").write_text("{}")
    filled = [text.format(empty=digits / "empty", image=digits / "0.png") for text in arguments]
    assert predict(sweep, filled[0], *filled[1:]) == code
    printed = capsys.readouterr()
    assert re.search(why, printed.err)
    assert printed.out == ""


def test_models_and_files_are_completed(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep.folder.parent.parent)
    assert set(candidates(["predict", ""])) >= {"digits-0a1b2c3d", "best-00000001"}
    assert candidates(["predict", "digits-0a1b2c3d/"]) == ["digits-0a1b2c3d/0", "digits-0a1b2c3d/1"]
    assert candidates(["predict", "best", ""]) == [FILES]
    assert candidates(["predict", "best", "--top", "3", "a.png", ""]) == [FILES]
    assert {"--top", "--json", "--runs-dir"} <= set(candidates(["predict", "best", "-"]))
    assert "best-00000001" in candidates(["sync", "b"])
