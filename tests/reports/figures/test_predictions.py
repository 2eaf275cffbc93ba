"""The confusion matrix and the worst mistakes, from stored predictions and the data set's own images."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save
from sklearn.metrics import confusion_matrix

from orchestrator.base.layout import PREDICTIONS, trial_folder
from orchestrator.reports.data import SweepData
from orchestrator.reports.figures import confusion, mistakes
from orchestrator.reports.parts.images import data_uri, stored_images
from orchestrator.reports.parts.predictions import best_predictions
from orchestrator.training.data import Contents, Dataset, Source, load
from orchestrator.training.data.cache import cached
from orchestrator.training.data.dataset import assemble
from tests.reports.made import sweep, trial

SPLIT = {"val_fraction": 0.3, "split_seed": 1}


class Noise(Source):
    """Random images in three classes, kept in the cache."""

    channels = 1

    def key(self) -> str:
        return f"noise {self.channels}"

    def decode(self, allocate: Any, progress: Any) -> Contents:
        draw = np.random.RandomState(0)
        images = allocate((90, self.channels, 8, 8))
        images[:] = draw.randint(0, 256, images.shape)
        part = np.where(np.arange(90) % 3 == 2, 2, 0).astype(np.uint8)
        return Contents(images, (np.arange(90) // 3 % 3).astype(np.int64), part, ("cat", "<b>dog", "eel"))


class Colours(Noise):
    channels = 3


def prepared(folder: Path, source: type[Noise] = Noise, *, seed: int = 0) -> tuple[SweepData, Dataset, np.ndarray]:
    """A sweep of one trial with predictions at random, its data set, and the probabilities [N, K]."""
    made = source(name="noise", **SPLIT)  # type: ignore[arg-type]
    contents, digest, entry = cached(made, folder / "cache", lambda done, total: None)
    data = assemble("noise", contents, digest, **SPLIT, entry=entry)  # type: ignore[arg-type]
    ids = data.splits["val"]
    logits = np.random.RandomState(seed).normal(size=(len(ids), 3)).astype(np.float32) * 3
    logits -= logits.max(axis=1, keepdims=True)
    state = {"uid": "s-00000000/0", "fingerprint": data.fingerprint, "classes": list(data.classes)}
    tensors = {"val_logits": logits, "val_ids": ids, "val_labels": data.labels[ids]}
    contents_of_file = save(tensors, {"state": json.dumps(state)})
    path = trial_folder(folder, 0) / PREDICTIONS
    path.parent.mkdir(parents=True)
    path.write_bytes(contents_of_file)
    config = {"data": SPLIT, "data_entry": entry, "data_cache": str(folder / "cache")}
    artifact: Any = {"path": "trials/00000/artifacts/predictions.safetensors", "sha256": sha(contents_of_file)}
    best = trial(0, 0.5, config=config, artifacts=[artifact])
    probabilities = np.exp(logits.astype(np.float64))
    return sweep(best, trial(1, 0.4), folder=folder), data, probabilities / probabilities.sum(axis=1, keepdims=True)


def sha(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


def test_the_matrix_is_scikit_learns(tmp_path: Path) -> None:
    data, images, probabilities = prepared(tmp_path)
    found = best_predictions(data)
    assert found is not None
    labels = images.labels[images.splits["val"]]
    expected = confusion_matrix(labels, probabilities.argmax(axis=1))
    pairs = confusion.counts(found)
    assert [[pairs[true, said] for said in range(3)] for true in range(3)] == expected.tolist()
    drawn = confusion.figure(data)
    assert drawn is not None
    assert drawn.text.startswith(f"Trial 0 gets {np.trace(expected)} of {expected.sum()} validation images right.")


@pytest.mark.parametrize(("source", "mode"), [(Noise, "L"), (Colours, "RGB")])
def test_the_surest_mistakes_show_the_pixels_of_the_data_set(source: type[Noise], mode: str, tmp_path: Path) -> None:
    data, images, probabilities = prepared(tmp_path, source)
    drawn = mistakes.figure(data)
    assert drawn is not None
    assert drawn.html is not None
    ids, said = images.splits["val"], probabilities.argmax(axis=1)
    labels = images.labels[ids]
    wrong = [place for place in np.argsort(-probabilities.max(axis=1), kind="stable") if said[place] != labels[place]][
        :24
    ]
    shown = re.findall(r'src="data:image/png;base64,([^"]+)".*?<b>(.*?)</b> \((\d+)%\)', drawn.html)
    assert len(shown) == len(wrong) > 5
    for place, (png, name, percent) in zip(wrong, shown, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(png)))
        assert picture.mode == mode
        pixels = np.asarray(picture)
        assert np.array_equal(pixels[None] if mode == "L" else pixels.transpose(2, 0, 1), images.images[ids[place]])
        assert html.unescape(name) == images.classes[said[place]]
        assert int(percent) == pytest.approx(100 * probabilities[place].max(), abs=0.5001)
    assert "<b>dog" not in drawn.html


def test_another_file_than_the_journals_is_not_read(tmp_path: Path) -> None:
    data, _, _ = prepared(tmp_path)
    path = trial_folder(tmp_path, 0) / PREDICTIONS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert best_predictions(data) is None
    assert confusion.figure(data) is None
    assert mistakes.figure(data) is None


@pytest.mark.parametrize("how", ["cleared", "other", "outside", "memory"])
def test_without_the_images_the_matrix_says_why(how: str, tmp_path: Path) -> None:
    data, images, _ = prepared(tmp_path)
    config = data.record.trials[0].config
    if how == "cleared":
        (tmp_path / "cache" / images.entry / "images.npy").unlink()
    elif how == "other":
        config["data"] = {"val_fraction": 0.3, "split_seed": 2}
    elif how == "outside":
        config["data_entry"] = f"../cache/{images.entry}"
    else:
        config["data_entry"] = ""
    assert mistakes.figure(data) is None
    drawn = confusion.figure(data)
    assert drawn is not None
    said = {"other": "not those that it was trained on", "memory": "made in memory"}.get(how, "no longer in the cache")
    assert said in drawn.text


def test_a_pipe_in_the_place_of_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    import os

    entry = "noise-0123456789abcdef"
    (tmp_path / entry).mkdir()
    os.mkfifo(tmp_path / entry / "entry.json")
    config = {"data": SPLIT, "data_entry": entry, "data_cache": str(tmp_path)}
    assert stored_images(config, "x") == "its images are no longer in the cache of decoded images"


def test_the_images_of_chosen_classes_are_those_of_the_data_set(tmp_path: Path) -> None:
    spec = {"_target_": "orchestrator.training.data.digits.digits", "classes": [7, "2"]}
    chosen = load(spec, cache=tmp_path)
    config = {"data": spec, "data_entry": chosen.entry, "data_cache": str(tmp_path)}
    found = stored_images(config, chosen.fingerprint)
    assert not isinstance(found, str)
    assert np.array_equal(found, chosen.images)
    others = {**config, "data": {**spec, "classes": [7, 3]}}
    assert stored_images(others, chosen.fingerprint) == "the images in the cache are not those that it was trained on"


def test_photographs_are_scaled_down() -> None:
    address, width, height = data_uri(np.zeros((3, 300, 600), np.uint8))
    assert (width, height) == (128, 64)
    assert Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size == (128, 64)


def test_of_many_classes_those_with_mistakes_are_drawn() -> None:
    from collections import Counter

    pairs = Counter({(3, 7): 5, (50, 50): 90, (99, 3): 1})
    assert confusion.most_confused(pairs, 100, 3) == [3, 7, 99]
    assert confusion.most_confused(pairs, 100, 100) == list(range(100))
