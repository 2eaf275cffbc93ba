"""A trial's way of evaluation in all that it leaves: its predictions, what it is loaded as, and `verify --deep`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.transforms import functional as tv

import orchestrator
from orchestrator.base.layout import BEST, PREDICTIONS, trial_folder
from orchestrator.base.pooling import Ensemble
from orchestrator.journal.record import read_sweep
from orchestrator.serving.ensemble import write_ensemble
from orchestrator.serving.mlmodel import write_model
from orchestrator.serving.pooled import load_ensemble
from orchestrator.serving.predictor import Predictor
from orchestrator.serving.pyfunc import load_folder
from orchestrator.training.data import load
from orchestrator.training.restored import evaluated_again
from tests.serving.trained import DIGITS, OWN, config, trained_sweep
from tests.synthetic import Sweep

OF = f"{OWN}.evaluation"
MASKS = {"_target_": f"{OF}.monte_carlo_dropout.monte_carlo_dropout", "masks": 5}
CROPS = {"_target_": f"{OF}.ten_crops.ten_crops", "size": 0.75}
MODEL = {"_target_": "models.mlp.mlp", "hidden": 1, "width": 24, "dropout": 0.5}
UNITS = {"_target_": "models.residual_mlp.residual_mlp", "units": 3, "width": 16}
FRACTAL = {"_target_": "models.fractalnet.fractalnet", "columns": 2, "blocks": 1, "filters": 4}
CONFIGS = [
    config(model=MODEL, seed=4, evaluate=MASKS),
    config(model=MODEL, seed=4, evaluate=CROPS),
    config(model=MODEL, seed=4),
    config(model=UNITS, seed=4, evaluate={"_target_": f"{OF}.lesion.lesion", "deleted": 1}),
    config(model=UNITS, seed=4, evaluate={"_target_": f"{OF}.lesion.lesion", "deleted": 0, "swapped": 1}),
    config(model=UNITS, seed=4),
    config(model=FRACTAL, seed=4, evaluate={"_target_": f"{OF}.column.column", "column": 2}),
    config(model=FRACTAL, seed=4),
]
SAME_TRAINING = ((0, 1, 2), (3, 4, 5), (6, 7))
OF_ONE_PASS = (3, 4, 6)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    before = torch.get_num_threads()
    yield trained_sweep(tmp_path_factory.mktemp("runs") / "digits-0a1b2c3d", *CONFIGS)
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


def stored(sweep: Sweep, index: int, split: str = "test") -> Any:
    """Probabilities, as the trial stored them."""
    found = load_file(trial_folder(sweep.folder, index) / PREDICTIONS)
    return torch.softmax(found[f"{split}_logits"].double(), 1).numpy()


def loaded(sweep: Sweep, index: int) -> Predictor:
    found = orchestrator.load_model(f"{sweep.uid}/{index}", sweep.folder.parent)
    assert isinstance(found, Predictor)
    return found


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    dataset = load(DIGITS)
    found: np.ndarray = dataset.images[dataset.splits["test"]]
    return found


@pytest.mark.parametrize("trials", SAME_TRAINING)
def test_training_is_the_same_whatever_the_test_does(sweep: Sweep, trials: tuple[int, ...]) -> None:
    weights = [load_file(trial_folder(sweep.folder, index) / BEST) for index in trials]
    for others in weights[1:]:
        assert all(torch.equal(one, others[name]) for name, one in weights[0].items())
    assert len({stored(sweep, index).tobytes() for index in trials}) == len(trials)


def test_the_stored_predictions_are_the_mean_over_torchvisions_ten_crops(sweep: Sweep, images: np.ndarray) -> None:
    predictor = loaded(sweep, 2)  # the same weights, asked once
    whole = torch.from_numpy(images)
    crops = [tv.resize(crop, [8, 8], antialias=False) for crop in tv.ten_crop(whole, [6, 6])]
    each = [predictor.predict(crop.permute(0, 2, 3, 1).numpy()).probabilities for crop in crops]
    np.testing.assert_allclose(stored(sweep, 1), np.mean(each, 0), atol=1e-5 if images.dtype != np.uint8 else 0.02)


@pytest.mark.parametrize("index", [0, 1, *OF_ONE_PASS])
def test_predict_asks_as_the_trial_was_evaluated(sweep: Sweep, images: np.ndarray, tmp_path: Path, index: int) -> None:
    """The sweep's trial, the same as a model of MLflow, and as a member of an ensemble; draws follow the images' places."""
    shown, expected = images.transpose(0, 2, 3, 1), stored(sweep, index)
    predictor = loaded(sweep, index)
    assert predictor.passes == {0: 5, 1: 10}.get(index, 1)
    np.testing.assert_allclose(predictor.predict(shown).probabilities, expected, atol=1e-6)
    trial = trial_folder(sweep.folder, index) / BEST
    alone = Ensemble(members=(0,), weights=(1.0,), pooling="probabilities")
    write_ensemble(tmp_path / "model", [("digits/0", trial, CONFIGS[index])], alone, name="one", time_ms=0)
    pooled = load_ensemble(tmp_path / "model" / "data")
    np.testing.assert_allclose(pooled.predict(shown).probabilities, expected, atol=1e-6)


def test_a_written_model_says_how_it_is_asked(tmp_path: Path, images: np.ndarray) -> None:
    sweep = trained_sweep(tmp_path / "digits-0a1b2c3d", CONFIGS[0])
    for name, path in write_model(sweep.folder, read_sweep(sweep.folder), tmp_path / "written"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / name)
    said = load_folder(tmp_path / "model" / "data").predict(images.transpose(0, 2, 3, 1)).probabilities
    np.testing.assert_allclose(said, stored(sweep, 0), atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, *OF_ONE_PASS])
def test_kept_weights_evaluated_again_give_the_recorded_numbers(sweep: Sweep, index: int) -> None:
    trial = read_sweep(sweep.folder).trials[index]
    found, _ = evaluated_again(CONFIGS[index], trial_folder(sweep.folder, index) / BEST, uid=f"{sweep.uid}/{index}")
    assert found["val/accuracy"] == trial.value
    assert {name: value for name, value in found.items() if name.startswith("test/")} == trial.metrics


def test_the_stored_predictions_lack_one_unit_each(sweep: Sweep, images: np.ndarray) -> None:
    """The same weights with the last layer of a branch at 0: three networks, one of which gave each answer."""
    predictor = loaded(sweep, 5)
    stage = predictor.network.stage1
    found = []
    for unit in stage:
        norm = unit.branch[1].norm
        kept = [parameter.clone() for parameter in norm.parameters()]
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.zero_()
            found.append(predictor.predict(images.transpose(0, 2, 3, 1)).probabilities)
            for parameter, before in zip(norm.parameters(), kept, strict=True):
                parameter.copy_(before)
    close = np.abs(np.stack(found) - stored(sweep, 3)).max(2) < 1e-6
    assert close.any(0).all()
    assert close.sum(1).tolist() == pytest.approx([len(images) / 3] * 3, abs=1)
