"""Soups of real, small networks: averages of weights by hand, and statistics by torch's own function."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import BEST, PREDICTIONS, trial_folder
from orchestrator.training import checkpoint, pretrained
from orchestrator.training.build import build_learner
from orchestrator.training.data import load
from orchestrator.training.restored import evaluated_again, restored
from orchestrator.training.soups import Kitchen, Unfit, averaged
from tests.serving.finetuned import finetuned
from tests.serving.trained import DIGITS, OWN, config, trained_sweep


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return finetuned(tmp_path_factory.mktemp("runs"), 3)


def kitchen_of(sweeps: Any, *numbers: int, **options: Any) -> Kitchen:
    sweep, configs = sweeps
    kitchen = Kitchen(configs[0], **options)
    for number in numbers:
        kitchen.take(number, trial_folder(sweep.folder, number) / BEST, f"{sweep.uid}/{number}")
    return kitchen


def weights(sweeps: Any, number: int) -> dict[str, torch.Tensor]:
    return load_file(trial_folder(sweeps[0].folder, number) / BEST)


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
    kitchen = kitchen_of(sweeps, 1)
    stored = load_file(trial_folder(sweeps[0].folder, 1) / PREDICTIONS)
    assert np.array_equal(kitchen.validation([1]), stored["val_logits"].numpy())
    assert np.array_equal(kitchen.logits(kitchen.network([1]), "test"), stored["test_logits"].numpy())
    assert np.array_equal(kitchen.right([1]), (stored["val_logits"].argmax(1) == stored["val_labels"]).numpy())


def test_equal_ingredients_have_their_own_weights(sweeps: Any) -> None:
    sweep, configs = sweeps
    kitchen = Kitchen(configs[0])
    for number in range(3):
        kitchen.take(number, trial_folder(sweep.folder, 0) / BEST, f"{sweep.uid}/0")
    found = kitchen.network([0, 1, 2])
    for name, tensor in weights(sweeps, 0).items():
        if "running" not in name and tensor.is_floating_point():
            assert torch.equal(found[name], tensor), name


def test_statistics_are_those_of_torchs_own_function(sweeps: Any) -> None:
    from torch.optim.swa_utils import update_bn

    found = kitchen_of(sweeps, 0, 1, 2).network([0, 2])
    learner = build_learner(sweeps[1][0])
    by_hand = {name: (tensor + weights(sweeps, 2)[name]) / 2 for name, tensor in weights(sweeps, 0).items()}
    learner.model.load_state_dict(by_hand)
    train = learner.data.splits["train"]
    update_bn([train.slice(0, len(train))], learner.model)
    names = [name for name in found if "num_batches" not in name]
    assert any("running_var" in name for name in names)
    for name in names:
        assert found[name] == pytest.approx(learner.model.state_dict()[name].numpy(), abs=1e-5), name


def test_statistics_of_a_single_average_are_computed_anew_where_it_is_said(sweeps: Any) -> None:
    kept, anew = (kitchen_of(sweeps, 0, anew=anew).network([0]) for anew in (False, True))
    assert all(torch.equal(tensor, weights(sweeps, 0)[name]) for name, tensor in kept.items())
    assert any(not torch.equal(tensor, kept[name]) for name, tensor in anew.items() if "running" in name)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in anew.items() if "weight" in name)


def test_the_order_of_ingredients_changes_no_bit(sweeps: Any) -> None:
    one, other = kitchen_of(sweeps, 0, 1, 2), kitchen_of(sweeps, 2, 1, 0)
    assert np.array_equal(one.validation([0, 1, 2]), other.validation([2, 0, 1]))


def test_a_last_batch_of_one_image_is_no_batch(sweeps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch normalization of a vector cannot take one."""
    kitchen = kitchen_of(sweeps, 0, 1)
    train = len(build_learner(sweeps[1][0]).data.splits["train"])
    monkeypatch.setattr("orchestrator.training.soups.examples_at_once", lambda height, width: train - 1)
    assert np.isfinite(kitchen.logits(kitchen.network([0, 1]), "val")).all()


def test_other_data_are_refused(sweeps: Any) -> None:
    with pytest.raises(NotReadyError, match="the data set digits here is another than that of the trials"):
        Kitchen(sweeps[1][0], fingerprint="0" * 64)


@pytest.mark.parametrize("damage", ["cut", "of another trial", "of another network", "not finite", "huge", "gone"])
def test_what_is_no_ingredient_is_named(sweeps: Any, tmp_path: Path, damage: str) -> None:
    sweep, configs = sweeps
    kitchen, path, uid = Kitchen(configs[0]), tmp_path / BEST, f"{sweep.uid}/0"
    state = weights(sweeps, 0)
    first = next(name for name, tensor in state.items() if tensor.ndim == 2)
    if damage == "not finite":
        state[first][0, 0] = float("nan")
    if damage == "of another network":
        state[first] = state[first][1:]
    contents = checkpoint.pack(state, {"uid": uid}, stamp=True)
    path.write_bytes(contents[:-10] if damage == "cut" else contents)
    if damage == "huge":
        with path.open("ab") as file:
            file.truncate(2**36)  # a file with a hole, which takes no room
    if damage == "gone":
        path.unlink()
    why = {
        "cut": "cannot be used: it is not a whole safetensors file",
        "of another trial": f"it belongs to trial {uid}, not to",
        "of another network": f"do not fit the network: {first} is torch.float32",
        "not finite": f"not finite: {first}",
        "huge": "more than the network has",
        "gone": "cannot be used",
    }
    with pytest.raises(Unfit, match=why[damage]):
        kitchen.take(0, path, "other-0000aaaa/0" if damage == "of another trial" else uid)


def test_a_claimed_width_takes_no_memory(tmp_path: Path) -> None:
    """A configuration that claims a hundred thousand million weights: files of weights are looked at before it is built."""
    kitchen = Kitchen(config(model={"_target_": "models.mlp.mlp", "hidden": 2, "width": 300_000}))
    save_file({"weight": torch.zeros(2)}, tmp_path / BEST)
    with pytest.raises(Unfit, match="cannot be used"):
        kitchen.take(0, tmp_path / BEST, "a-0000aaaa/0")


def test_preprocessing_that_is_kept_as_tensors_is_no_weight_of_the_network(tmp_path: Path) -> None:
    """A network of whitened images is averaged, kept, begun from and evaluated again."""
    one = config(preprocess={"_target_": f"{OWN}.preprocess.whiten.whiten"})
    sweep = trained_sweep(tmp_path / "digits-0a1b2c3d", one, one | {"seed": 1})
    kitchen = kitchen_of((sweep, [one]), 0, 1)
    soup = tmp_path / "soup.safetensors"
    soup.write_bytes(kitchen.packed(kitchen.network([0, 1]), "soup"))

    found = restored(one, soup, uid="soup")
    with torch.inference_mode():
        logits = found.network(found.transform(torch.from_numpy(load(DIGITS).images[kitchen.val.ids])))
    expected = kitchen.validation([0, 1])
    np.testing.assert_allclose((logits - logits.amax(1, keepdim=True)).numpy(), expected, atol=1e-4)

    weights = trial_folder(sweep.folder, 0) / BEST
    metrics, _ = evaluated_again(one, weights, uid=f"{sweep.uid}/0")
    assert metrics["val/accuracy"] == checkpoint.load(weights, uid=None).state["value"]
    begun = pretrained.read(weights, hashlib.sha256(weights.read_bytes()).hexdigest())
    assert begun.keys() == found.network.state_dict().keys()
