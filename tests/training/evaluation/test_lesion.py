"""Lesions and single columns against copies of the network from which units were taken by hand, image by image."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models.fractalnet import FractalNetwork
from models.layers.residual import Residual
from orchestrator.training import evaluate
from orchestrator.training.evaluation.column import column
from orchestrator.training.evaluation.drawn import BLOCK, subsets
from orchestrator.training.evaluation.lesion import lesion
from tests.training.evaluation.test_dropout import images_of, split_of

IMAGE = (1, 8, 8)
STAGE = tuple(f"stage1.{place}" for place in range(4))
SIX = tuple(f"stage{stage}.{place}" for stage in (1, 2, 3) for place in range(2))
NETWORKS = {
    "original": ("residual_mlp", {"unit": "original", "units": 4, "width": 8}, STAGE),
    "preactivation": ("residual_mlp", {"unit": "preactivation", "units": 4, "width": 8}, STAGE),
    "plain": ("residual_mlp", {"unit": "plain", "units": 4, "width": 8}, STAGE),
    "resnet_cifar": ("resnet_cifar", {"depth": 14, "width": 4}, SIX),
    "plain_cifar": ("plain_cifar", {"depth": 14, "width": 4}, ("stage1.0", "stage1.1", "stage2.1", "stage3.1")),
    "stochastic_depth": ("resnet_cifar", {"depth": 8, "width": 4, "survival": 0.5}, SIX[::2]),
}
"""Model, its arguments, and the units that can be left out."""


def made(name: str, **more: Any) -> Any:
    """A network whose norms have seen images."""
    torch.manual_seed(0)
    model = models.create(name, num_classes=5, in_channels=1, image_size=(8, 8), **more)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(40, *IMAGE))
    return model.eval()


def without(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy in which these units are what is left without their branch, or nothing."""
    found = copy.deepcopy(model)
    for name in names:
        unit, (above, _, own) = found.get_submodule(name), name.rpartition(".")
        left = nn.Sequential(unit.shortcut, unit.activation) if isinstance(unit, Residual) else nn.Identity()
        found.get_submodule(above)._modules[own] = left
    return found


def swapped(model: nn.Module, pair: tuple[str, str]) -> nn.Module:
    found = copy.deepcopy(model)
    modules = [found.get_submodule(name) for name in pair]
    for name, module in zip(pair, reversed(modules), strict=True):
        found.get_submodule(name.rpartition(".")[0])._modules[name.rpartition(".")[2]] = module
    return found


def answers(model: nn.Module, images: Tensor, evaluation: Any = None) -> Tensor:
    """Logits, the maximum of each image subtracted."""
    return evaluate.logits(model, split_of(images), evaluation=evaluation)


def which(said: Tensor, every: Sequence[Tensor]) -> list[int]:
    """Of each image the one network of several that gave its answer."""
    close = torch.stack([(said - one).abs().amax(1) < 1e-4 for one in every])
    assert torch.equal(close.sum(0), torch.ones(len(said), dtype=torch.int64)), "exactly one gave each answer"
    return [int(number) for number in close.int().argmax(0)]


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_image_is_answered_without_one_unit_and_each_unit_is_missing_equally_often(kind: str) -> None:
    """So that the mean accuracy is that over units and images, as far as images go."""
    name, settings, units = NETWORKS[kind]
    model, images = made(name, **settings), images_of(10 * len(units), *IMAGE)
    said = answers(model, images, lesion(seed=3))
    missing = which(said, [answers(without(model, [unit]), images) for unit in units])
    for start in range(0, len(images), len(units)):
        assert sorted(missing[start : start + len(units)]) == list(range(len(units)))
    assert len({tuple(missing[start :: len(units)]) for start in range(len(units))}) == len(units), "in random order"
    assert torch.equal(answers(model, images), answers(copy.deepcopy(model), images)), "nothing is left in the model"
    assert not model.training


@pytest.mark.parametrize("kind", ["original", "plain", "plain_cifar"])
def test_several_units_are_missing_at_once_and_among_them_those_of_fewer(kind: str) -> None:
    name, settings, units = NETWORKS[kind]
    model, images = made(name, **settings), images_of(12 * len(units), *IMAGE)
    before: list[set[int]] = [set()] * len(images)
    for count in range(len(units) + 1):
        sets = [set(one) for one in itertools.combinations(range(len(units)), count)]
        every = [answers(without(model, [units[place] for place in one]), images) for one in sets]
        gone = [sets[number] for number in which(answers(model, images, lesion(deleted=count, seed=1)), every)]
        assert all(fewer <= more for fewer, more in zip(before, gone, strict=True))
        assert set(Counter(place for one in gone for place in one).values()) <= {12 * count}
        before = gone


@pytest.mark.parametrize("kind", ["original", "plain", "resnet_cifar", "plain_cifar"])
def test_swapped_units_compute_in_the_place_of_each_other(kind: str) -> None:
    """All pairs that keep the same shape: equally often each."""
    name, settings, units = NETWORKS[kind]
    same_stage = [pair for pair in itertools.combinations(units, 2) if pair[0][:6] == pair[1][:6]]
    pairs = same_stage if kind == "original" or kind == "plain" else [("stage1.0", "stage1.1")]
    model, images = made(name, **settings), images_of(5 * len(pairs), *IMAGE)
    said = answers(model, images, lesion(deleted=0, swapped=1, seed=3))
    taken = which(said, [answers(swapped(model, pair), images) for pair in pairs])
    assert Counter(taken) == dict.fromkeys(range(len(pairs)), 5)


def test_pairs_are_swapped_one_after_the_other() -> None:
    name, settings, units = NETWORKS["plain"]
    model, images = made(name, **settings), images_of(60, *IMAGE)
    twice = [*itertools.permutations(itertools.combinations(units, 2), 2)]
    every = [answers(swapped(swapped(model, one), two), images) for one, two in twice]
    said = answers(model, images, lesion(deleted=0, swapped=2, seed=3))
    close = torch.stack([(said - one).abs().amax(1) < 1e-4 for one in every])
    assert close.any(0).all()


@pytest.mark.parametrize("evaluation", [lesion(deleted=2, seed=4), lesion(deleted=0, swapped=2, seed=4)])
@pytest.mark.parametrize("at_once", [1, 7, BLOCK])
def test_batching_does_not_matter(at_once: int, evaluation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, settings, _ = NETWORKS["original"]
    model, images = made(name, **settings), images_of(2 * BLOCK + 5, *IMAGE)
    whole = answers(model, images, evaluation)
    monkeypatch.setattr(evaluate, "EXAMPLES_AT_ONCE", at_once)
    torch.testing.assert_close(answers(model, images, evaluation), whole, atol=1e-4, rtol=0)
    assert not torch.allclose(answers(model, images), whole, atol=0.1)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_sets_follow_from_the_place_alone(size: int) -> None:
    """9 numbers, so that neither cycles nor blocks of places end together."""
    whole = subsets(5, 0, 700, of=9, size=size)
    for start, count in [(0, 1), (8, 2), (63, 70), (575, 3), (576, 124)]:
        assert torch.equal(subsets(5, start, count, of=9, size=size), whole[start : start + count])
    assert all(len(set(row)) == size for row in whole.tolist())
    assert not torch.equal(subsets(6, 0, 700, of=9, size=size), whole)


def test_all_sets_are_drawn_about_equally_often() -> None:
    """6 sets of two of four, 2,000 places: chi-square with 5 degrees of freedom is below 25.7 in all but 1 of 10,000 draws."""
    drawn = Counter(frozenset(row) for row in subsets(0, 0, 2000, of=4, size=2).tolist())
    assert len(drawn) == 6
    assert sum((count - 2000 / 6) ** 2 / (2000 / 6) for count in drawn.values()) < 25.7


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_column_alone_is_the_plain_network_of_its_convolutions(number: int) -> None:
    model, images = made("fractalnet", columns=3, blocks=2, filters=4), images_of(30, *IMAGE)
    assert isinstance(model, FractalNetwork)
    layers: list[nn.Module] = []
    for stage in (model.stage1, model.stage2):
        layers += [*stage.block.columns[number - 1], stage.pool]  # type: ignore[union-attr,misc]
    plain = nn.Sequential(*layers, model.pool, model.flatten, model.classifier)  # type: ignore[arg-type]
    before = answers(model, images)
    torch.testing.assert_close(answers(model, images, column(column=number)), answers(plain, images), atol=1e-4, rtol=0)
    assert torch.equal(answers(model, images), before), "nothing is left in the model"


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("model", "evaluation", "why"),
    [
        ("mlp", lesion(), "needs a network with units that can be left out, and this one has none.*model=resnet_cifar"),
        ("mlp", lesion(deleted=0), "this one has none"),
        ("resnet_cifar", lesion(deleted=4), "deleted must be at most 3, the units of this network, got 4"),
        ("plain_cifar", lesion(deleted=2), "at most 1, the units of this network, those that keep the shape, got 2"),
        ("resnet_cifar", lesion(deleted=0, swapped=1), "swapped must be at most 0, the pairs .* same shape, got 1"),
        ("mlp", column(), "needs a fractal network.* set model=fractalnet or evaluate=single_crop"),
        ("fractalnet", column(column=4), "column must be at most 3, the columns of this network, got 4"),
    ],
)
def test_networks_that_cannot_be_asked_so_are_refused(model: str, evaluation: Any, why: str, device: str) -> None:
    """Before anything is trained, of which the check changes nothing."""
    settings = {"mlp": {}, "fractalnet": {"blocks": 2, "filters": 4}}.get(model, {"depth": 8, "width": 4})
    with torch.device(device):
        network = models.create(model, num_classes=5, in_channels=1, image_size=(8, 8), **settings)
    [*network.children()][-1].eval()
    modes, drawn = [module.training for module in network.modules()], torch.get_rng_state()
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=why):
        evaluation.check(network, IMAGE)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn)
    assert device == "meta" or all(torch.equal(tensors[name], one) for name, one in network.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"deleted": -1}, "must be at least 0, got -1 and 0"),
        ({"swapped": 1}, "deletes or swaps, got deleted=1 and swapped=1; set one of them to 0"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        lesion(**settings)
    with pytest.raises(ValueError, match="column must be at least 1, the shallowest, got 0"):
        column(column=0)
