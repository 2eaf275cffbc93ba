"""Soups of real, small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from orchestrator.base.layout import BEST, PREDICTIONS, trial_folder
from orchestrator.training.checkpoint import Damaged
from orchestrator.training.soups import Kitchen, averaged
from tests.serving.trained import config, trained_sweep

NORM = {"_target_": "models.layers.norm.batch_norm"}


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Networks with batch normalization that go on from one of them, as members of a soup do, and their configurations."""
    configs = [config(norm=NORM, epochs=2, seed=seed) for seed in range(3)]
    return trained_sweep(tmp_path_factory.mktemp("soups") / "small-00000000", *configs), configs


def files_of(sweep: Any, *places: int) -> list[tuple[Path, str]]:
    return [(trial_folder(sweep.folder, place) / BEST, f"{sweep.uid}/{place}") for place in places]


def test_the_average_by_hand() -> None:
    states = [
        {"w": torch.tensor([1.0, 2.0]), "count": torch.tensor(7)},
        {"w": torch.tensor([3.0, 4.0]), "count": torch.tensor(9)},
    ]
    found = averaged(states)
    assert found["w"].tolist() == [2.0, 3.0]
    assert found["count"].item() == 7
    with pytest.raises(ValueError, match="different shapes"):
        averaged([states[0], {"w": torch.zeros(3), "count": torch.tensor(1)}])


def test_a_soup_of_one_says_what_its_trial_stored(sweeps: Any) -> None:
    sweep, configs = sweeps
    soup = Kitchen(configs[0], files_of(sweep, 1)).uniform()
    stored = load_file(trial_folder(sweep.folder, 1) / PREDICTIONS)["val_logits"]
    assert torch.equal(soup.val_logits_NK, stored)


def test_a_network_averaged_with_itself_keeps_its_weights_and_nearly_its_statistics(sweeps: Any) -> None:
    """The running mean of training lags behind the weights; over the whole split it is another, and no worse by much."""
    sweep, configs = sweeps
    one, twice = (Kitchen(configs[0], files_of(sweep, *places)).uniform() for places in ((0,), (0, 0)))
    statistics = [name for name in one.tensors if "running" in name]
    assert statistics
    for name, tensor in one.tensors.items():
        if name not in statistics and tensor.is_floating_point():
            assert torch.equal(twice.tensors[name], tensor), name
    agree = (one.val_logits_NK.argmax(1) == twice.val_logits_NK.argmax(1)).float().mean()
    assert agree > 0.95


def test_the_statistics_are_those_of_torchs_own_function(sweeps: Any) -> None:
    from torch.optim.swa_utils import update_bn

    from orchestrator.training.build import build_learner

    sweep, configs = sweeps
    soup = Kitchen(configs[0], files_of(sweep, 0, 1)).uniform()
    learner = build_learner(configs[0])
    learner.model.load_state_dict(averaged([load_file(path) for path, _ in files_of(sweep, 0, 1)]))
    train = learner.data.splits["train"]
    update_bn([train.slice(0, len(train))], learner.model)
    for name, tensor in learner.model.state_dict().items():
        if "running" in name:
            assert soup.tensors[name] == pytest.approx(tensor.numpy(), abs=1e-5), name


def test_the_greedy_soup_is_no_worse_than_its_first_trial(sweeps: Any) -> None:
    """Networks from different beginnings have no useful average: the greedy soup leaves them out, the uniform one suffers."""
    sweep, configs = sweeps
    kitchen = Kitchen(configs[0], files_of(sweep, 0, 1, 2))
    labels = load_file(trial_folder(sweep.folder, 0) / PREDICTIONS)["val_labels"].numpy()
    greedy, uniform, single = kitchen.greedy(), kitchen.uniform(), Kitchen(configs[0], files_of(sweep, 0)).uniform()
    right = [np.count_nonzero(soup.val_logits_NK.argmax(1).numpy() == labels) for soup in (greedy, uniform, single)]
    assert right[0] >= right[2]
    assert right[1] < right[2]
    assert greedy.members[0] == 0
    assert uniform.members == (0, 1, 2)
    assert kitchen.test_logits(greedy).shape[1] == 10


def test_a_damaged_file_is_named(sweeps: Any, tmp_path: Path) -> None:
    sweep, configs = sweeps
    path, uid = files_of(sweep, 0)[0]
    broken = tmp_path / "best.safetensors"
    broken.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(Damaged, match=r"best\.safetensors|not whole|checksum|incomplete"):
        Kitchen(configs[0], [(broken, uid)])
