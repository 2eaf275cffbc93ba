"""Ensembles from one trial in a comparison: the best trial's network asked about several views, or under several masks."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torchvision.transforms import functional as tv

from orchestrator import load_model
from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.cli.compared import lines_of
from orchestrator.ensembles import record
from orchestrator.ensembles.catalogue import chosen
from orchestrator.ensembles.comparing import compare
from orchestrator.ensembles.comparison import Comparison, Row
from orchestrator.ensembles.finishing import finish
from orchestrator.ensembles.fixing import looks
from orchestrator.ensembles.gathering import Gathered, gather
from orchestrator.training.data import load
from orchestrator.training.soups import Kitchen
from tests.ensembles.candidates import gathered_of, split
from tests.serving.trained import DIGITS, OWN, config, trained_sweep

METHODS = ["multi_crop", "monte_carlo_dropout"]
FEW: dict[str, Any] = {"resamples": 200, "temperature": "none"}
PLAIN, DROPPED = ({"_target_": "models.mlp.mlp", "hidden": 1, "width": 16, "dropout": rate} for rate in (0.0, 0.3))


@pytest.fixture(scope="module", autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch._C._set_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first trial, the best, has no dropout; the second has; the third is worse and has some, too."""
    folder = tmp_path_factory.mktemp("runs")
    trained_sweep(
        folder / "made-0000aaaa",
        config(model=PLAIN, epochs=4),
        config(model=DROPPED, epochs=3, seed=7),
        config(model=DROPPED, epochs=1, seed=8),
        facts={"num_classes": 10, "in_channels": 1, "image_size": [8, 8]},
    )
    return folder


@pytest.fixture(scope="module")
def gathered(runs: Path) -> Gathered:
    return gather(["made"], runs)


@pytest.fixture(scope="module")
def made(gathered: Gathered) -> tuple[Comparison, dict[str, bytes]]:
    networks: dict[str, bytes] = {}
    return compare(gathered, methods=METHODS, networks=networks, **FEW), networks


def rows_of(found: Comparison) -> dict[str, Row]:
    return {row["method"]: row for row in found["rows"]}


def network_of(found: Comparison, method: str) -> Any:
    (place,) = rows_of(found)[method]["members"]
    return found["members"][place]


def made_of(found: Comparison, method: str) -> list[str]:
    return [found["members"][place]["name"] for place in network_of(found, method)["ingredients"]]


def test_they_are_tried_where_they_are_named_alone() -> None:
    assert not {*METHODS} & {choice.name for choice in chosen()}
    assert {*METHODS, "best_single"} == {choice.name for choice in chosen(METHODS)}


def test_multi_crop_is_the_mean_over_torchvisions_crops_of_the_best_trial(runs: Path, made: Any) -> None:
    """Digits of 8x8 pixels, enlarged to 8, 9, 14, 17 and 23; views that coincide once."""
    found, _ = made
    assert made_of(found, "multi_crop") == ["made-0000aaaa/0"]
    dataset = load(DIGITS)
    ids = dataset.splits["test"]
    whole = torch.from_numpy(dataset.images[ids])
    views = [
        crop
        for side in (8, 9, 14, 17, 23)
        for crop in tv.ten_crop(tv.resize(whole, [side, side], antialias=False), [8, 8])
    ]
    distinct = {view.numpy().tobytes(): view for view in views}
    predictor: Any = load_model("made-0000aaaa/0", runs)
    each = [predictor.predict(view.permute(0, 2, 3, 1).numpy()).probabilities for view in distinct.values()]
    said, labels = np.mean(each, 0), dataset.labels[ids]
    assert network_of(found, "multi_crop")["passes"] == len(distinct) == 40
    row = rows_of(found)["multi_crop"]
    assert row["test"]["measures"]["accuracy"] == pytest.approx(accuracy_score(labels, said.argmax(1)), abs=1.1 / 359)
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(labels, said), abs=5e-3)


def test_monte_carlo_dropout_is_of_the_best_trial_with_dropout(runs: Path, made: Any) -> None:
    """The best of all has none. The masks are those of that trial's seed, by hand and by torch's own layers."""
    found, _ = made
    assert made_of(found, "monte_carlo_dropout") == ["made-0000aaaa/1"]
    row = rows_of(found)["monte_carlo_dropout"]
    dataset = load(DIGITS)
    ids = dataset.splits["test"]
    predictor: Any = load_model("made-0000aaaa/1", runs)
    torch.manual_seed(0)
    images = predictor._transform(torch.from_numpy(dataset.images[ids]))
    for layer in predictor.network.modules():
        layer.train(isinstance(layer, torch.nn.Dropout))
    with torch.no_grad():
        said = torch.stack([torch.softmax(predictor.network(images).double(), 1) for _ in range(100)]).mean(0).numpy()
    # other masks of the same distribution: the mean of 100 differs little
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(dataset.labels[ids], said), abs=0.02)


def test_they_choose_by_validation_and_see_the_test_after_the_winner_is_fixed(
    runs: Path, gathered: Gathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs / "made-0000aaaa"
    before, asked = looks(folder), []
    computed = Kitchen.logits

    def told(kitchen: Kitchen, tensors: Any, name: str) -> Any:
        asked.append((name, looks(folder) - before))
        return computed(kitchen, tensors, name)

    monkeypatch.setattr(Kitchen, "logits", told)
    compare(gathered, methods=METHODS, seed=3, **FEW)
    assert [fixed for name, fixed in asked if name == "test"] == [1, 1]
    assert {fixed for name, fixed in asked if name == "val"} == {0}


def test_what_they_cost_counts_every_pass(gathered: Gathered) -> None:
    plain, network = rows_of(compare(gathered, methods=["mean"], **FEW))["best_single"], 64 * 16 + 16 * 10
    assert plain["multiply_adds"] == network
    found = rows_of(compare(gathered, methods=METHODS, latency=True, **FEW))
    assert found["multi_crop"]["multiply_adds"] == 40 * network
    assert found["monte_carlo_dropout"]["multiply_adds"] == 100 * network
    assert found["multi_crop"]["latency_ms"] == pytest.approx(40 * (found["best_single"]["latency_ms"] or 0))
    assert found["multi_crop"]["parameters"] == found["best_single"]["parameters"]
    assert not rows_of(compare(gathered, methods=METHODS, macs=2 * network, **FEW))["multi_crop"]["allowed"]


def test_a_trial_that_was_evaluated_so_costs_and_says_the_same(tmp_path: Path, gathered: Gathered) -> None:
    """`evaluate=monte_carlo_dropout` in a trial, and the method of a comparison, of one network and seed."""
    masks = {"_target_": f"{OWN}.evaluation.monte_carlo_dropout.monte_carlo_dropout", "masks": 100}
    facts = {"num_classes": 10, "in_channels": 1, "image_size": [8, 8]}
    trained_sweep(
        tmp_path / "asked-0000bbbb",
        config(model=DROPPED, seed=7, epochs=2, evaluate=masks),
        config(model=DROPPED, seed=9, epochs=1, evaluate=masks),
        facts=facts,
    )
    found = compare(gather(["asked"], tmp_path), methods=["monte_carlo_dropout", "uniform_soup"], **FEW)
    rows = rows_of(found)
    single, again = rows["best_single"], rows["monte_carlo_dropout"]
    assert made_of(found, "monte_carlo_dropout") == [found["members"][single["members"][0]]["name"]]
    assert again["test"]["measures"] == pytest.approx(single["test"]["measures"])
    assert single["multiply_adds"] == again["multiply_adds"] == 100 * (64 * 16 + 16 * 10)
    assert rows["uniform_soup"]["multiply_adds"] == single["multiply_adds"], "a soup is asked as its trials were"


@pytest.mark.parametrize("method", METHODS)
def test_the_winner_is_a_model_that_asks_as_often(runs: Path, made: Any, tmp_path: Path, method: str) -> None:
    found, networks = copy.deepcopy(made[0]), made[1]
    found["winner"] = method
    copied = tmp_path / "runs"
    shutil.copytree(runs, copied)
    path = record.write(found, copied)
    told = [*finish(found, path.parent, gather(["made"], copied).sources, register=None, networks=networks)]
    assert told == [f"page: {path.parent / 'comparison.html'}"], "nothing kept it from being a model"
    shutil.rmtree(copied / "made-0000aaaa")
    model: Any = load_model(found["uid"], copied)
    passes = network_of(found, method)["passes"]
    assert [member.passes for member in model.members] == [passes]
    dataset = load(DIGITS)
    ids = dataset.splits["test"]
    said = model.predict(dataset.images[ids].transpose(0, 2, 3, 1)).probabilities
    row = rows_of(found)[method]
    assert row["test"]["measures"]["accuracy"] == accuracy_score(dataset.labels[ids], said.argmax(1))
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(dataset.labels[ids], said), abs=1e-5)
    lines = " ".join(" ".join(lines_of(record.read(path), path)).split())
    assert f"{method}, one network, asked {passes} times about each image, wins on validation" in lines


@pytest.fixture(scope="module")
def two_architectures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials of each; the first of each is the better one."""
    folder, linear = tmp_path_factory.mktemp("two"), {"_target_": "models.mlp.linear"}
    choices = {"data": "digits", "model": "linear", "optimizer": "sgd"}
    slow = {"optimizer": {"_target_": f"{OWN}.optimizers.sgd", "lr": 1e-3, "momentum": 0.0}}
    trained_sweep(
        folder / "both-0000aaaa",
        config(model=PLAIN, epochs=3),
        config(model=PLAIN, seed=1, **slow),
        config(model=linear, choices=choices),
        config(model=linear, choices=choices, seed=1, **slow),
    )
    return folder


def test_fusion_over_views_averages_each_member_over_scales_and_then_the_members(two_architectures: Path) -> None:
    """Pooled by hand from the validation and test logits that the kitchens of both trials give for themselves."""
    gathered, spec = gather(["both"], two_architectures), {"_target_": f"{OWN}.evaluation.multi_scale.multi_scale"}
    found = compare(gathered, methods=["fusion", "fusion_multi_scale"], **FEW)
    row = rows_of(found)["fusion_multi_scale"]
    members = [found["members"][place] for place in row["members"]]
    assert sorted(found["members"][one["ingredients"][0]]["name"][-1] for one in members) == ["0", "2"]
    assert {one["passes"] for one in members} == {40}
    dataset, said = load(DIGITS), []
    for number, model in ((0, PLAIN), (2, {"_target_": "models.mlp.linear"})):
        kitchen = Kitchen(config(model=model, evaluate=spec))
        kitchen.take(
            number, trial_folder(two_architectures / "both-0000aaaa", number) / BEST, f"both-0000aaaa/{number}"
        )
        logits = torch.from_numpy(kitchen.logits(kitchen.network([number]), "test"))
        said.append(torch.softmax(logits.double(), 1).numpy())
    labels = dataset.labels[dataset.splits["test"]]
    assert row["test"]["measures"]["nll"] == pytest.approx(log_loss(labels, np.mean(said, 0)), abs=1e-6)
    assert row["test"]["measures"]["nll"] < np.mean([log_loss(labels, one) for one in said]), "Jensen"
    assert rows_of(found)["fusion"]["test"]["measures"] != row["test"]["measures"]


@pytest.mark.parametrize("temperature", ["after", "before"])
def test_fusion_over_views_has_a_temperature_where_it_is_wanted(two_architectures: Path, temperature: Any) -> None:
    chose = {"methods": ["fusion_multi_scale"], "resamples": 100, "temperature": temperature}
    row = rows_of(compare(gather(["both"], two_architectures), **chose))["fusion_multi_scale"]
    assert (row["temperature"] != 1) == (temperature == "after")
    assert len(row["member_temperatures"]) == (2 if temperature == "before" else 0)


def test_fusion_over_views_is_a_model_that_asks_every_member_so(two_architectures: Path, tmp_path: Path) -> None:
    copied = tmp_path / "runs"
    shutil.copytree(two_architectures, copied)
    gathered = gather(["both"], copied)
    found = compare(gathered, methods=["fusion_multi_scale"], **FEW)
    place = next(place for place, row in enumerate(found["rows"]) if row["method"] == "fusion_multi_scale")
    if found["winner"] != "fusion_multi_scale":  # as if it were; what is told of the winner's members is another's then
        found["winner"] = "fusion_multi_scale"
        del found["worst"], found["agreement"]
    path = record.write(found, copied)
    told = [*finish(found, path.parent, gathered.sources, register=None)]
    assert told == [f"page: {path.parent / 'comparison.html'}"], "nothing kept it from being a model"
    shutil.rmtree(copied / "both-0000aaaa")
    model: Any = load_model(found["uid"], copied)
    assert [member.passes for member in model.members] == [40, 40]
    dataset = load(DIGITS)
    ids = dataset.splits["test"]
    said = model.predict(dataset.images[ids].transpose(0, 2, 3, 1)).probabilities
    measures = found["rows"][place]["test"]["measures"]
    assert measures["nll"] == pytest.approx(log_loss(dataset.labels[ids], said), abs=1e-5)
    assert "fusion_multi_scale, of 2 trials, wins on validation" in " ".join(lines_of(record.read(path), path))


def test_fusion_over_views_needs_kept_weights_of_two_architectures(gathered: Gathered) -> None:
    why = dict(compare(gathered, methods=["fusion_multi_scale"], **FEW)["not_tried"])
    assert why["fusion_multi_scale"].startswith(
        "it takes kept weights of two architectures, and there are those of mlp;"
    )


def test_the_reasons_why_they_cannot_be(runs: Path, tmp_path: Path) -> None:
    pool, test = split(4, 100, 100)
    of_server = dict(compare(gathered_of(pool, test), methods=METHODS, **FEW)["not_tried"])
    assert {"compare where the sweep lies" in why for why in of_server.values()} == {True}

    trained_sweep(tmp_path / "plain-0000cccc", config(model=PLAIN), config(model=PLAIN, seed=1))
    (found,) = compare(gather(["plain"], tmp_path), methods=["monte_carlo_dropout"], **FEW)["not_tried"]
    assert found[1].startswith("the network of the best kept trial needs a network with dropout, and this one has none")

    copied = tmp_path / "runs"
    shutil.copytree(runs, copied)
    for number in range(3):
        (trial_folder(copied / "made-0000aaaa", number) / BEST).unlink()
    why = dict(compare(gather(["made"], copied), methods=METHODS, **FEW)["not_tried"])
    assert why == dict.fromkeys(
        METHODS, "it takes the weights of a trial, and none are kept here; keep_weights=20 keeps some"
    )


@pytest.mark.parametrize("changes", [{"ingredients": [0, 1]}, {"passes": 3, "evaluate": None}, {"evaluate": {"a": 1}}])
def test_a_record_that_makes_no_sense_is_refused(made: Any, tmp_path: Path, changes: Any) -> None:
    said: Any = copy.deepcopy(made[0])
    place = next(place for place, member in enumerate(said["members"]) if "passes" in member)
    said["members"][place].update(changes)
    (tmp_path / "comparison.json").write_text(json.dumps(said))
    with pytest.raises(NotReadyError, match=rf"members\[{place}\]|evaluate"):
        record.read(tmp_path / "comparison.json")
