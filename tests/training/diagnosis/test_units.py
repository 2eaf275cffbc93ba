"""Units deleted, swapped and walked through one by one, on networks that can be computed by hand."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from torch import Tensor, nn

from models import create
from models.layers.residual import Residual
from orchestrator.training.diagnosis.lesions import kendall_tau, sets, spread, swapped
from orchestrator.training.diagnosis.paths import LENGTHS, shares, usual, weighed
from orchestrator.training.units import Unit, along_one_path, replaced, units_of, without


class Times(nn.Module):
    """x times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def chain(*factors: float) -> nn.Sequential:
    """Residual units x + a x."""
    return nn.Sequential(*(Residual(Times(factor), nn.Identity(), nn.Identity()) for factor in factors))


def small(unit: str) -> nn.Module:
    torch.manual_seed(0)
    return create("residual_mlp", num_classes=3, in_channels=1, image_size=(4, 4), unit=unit, units=3, width=8).eval()


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (5, 1, 4, 4)), generator=torch.Generator().manual_seed(1))


def test_deleting_a_unit_leaves_half_of_the_2_to_the_n_paths() -> None:
    model, x = chain(*[1.0] * 6), torch.ones(2, 1)
    units = units_of(model, x)
    assert [unit.name for unit in units] == ["0", "1", "2", "3", "4", "5"]
    assert model(x)[0].item() == 2**6
    with without(model, units[2:3]):
        assert model(x)[0].item() == 2**5
    with without(model, units[1:4]):
        assert model(x)[0].item() == 2**3
    assert model(x)[0].item() == 2**6


def test_the_gradients_along_all_paths_add_up_to_the_gradient() -> None:
    factors = (0.5, -2.0, 3.0)
    model, x = chain(*factors), torch.ones(1, 1, requires_grad=True)
    units = units_of(model, x)
    total = 0.0
    for taken in itertools.product([False, True], repeat=3):
        through = frozenset(unit.name for unit, one in zip(units, taken, strict=True) if one)
        with along_one_path(model, units, through):
            out = model(x)
        assert out.item() == pytest.approx(math.prod(1 + factor for factor in factors))
        (gradient,) = torch.autograd.grad(out, x)
        assert gradient.item() == pytest.approx(
            math.prod(factor for factor, one in zip(factors, taken, strict=True) if one)
        )
        total += gradient.item()
    assert total == pytest.approx(math.prod(1 + factor for factor in factors))


def test_a_deleted_residual_unit_leaves_its_shortcut_and_activation() -> None:
    model, x = small("original"), images()
    units = units_of(model, x)
    assert [unit.name for unit in units] == ["stage1.0", "stage1.1", "stage1.2"]
    assert all(unit.residual and unit.keeps_shape for unit in units)
    stage = model.get_submodule("stage1")
    h = model.get_submodule("stem")(x.flatten(1))
    h = torch.relu(stage[0](h))  # type: ignore[index]
    expected = model.get_submodule("classifier")(stage[2](h))  # type: ignore[index]
    with without(model, [units[1]]):
        assert torch.equal(model(x), expected)
    assert not torch.equal(model(x), expected)


def test_a_plain_unit_is_skipped_where_it_keeps_the_shape() -> None:
    model, x = small("plain"), images()
    units = units_of(model, x)
    assert [unit.residual for unit in units] == [False] * 3
    without_it = copy.deepcopy(model)
    del without_it.stage1[1]  # type: ignore[union-attr,operator]
    with without(model, [units[1]]):
        assert torch.equal(model(x), without_it(x))
    assert [*model.state_dict()] == [*small("plain").state_dict()]


def test_units_that_change_the_shape_say_so() -> None:
    model = create("plain_cifar", num_classes=3, in_channels=1, image_size=(8, 8), depth=14, width=4).eval()
    units = units_of(model, images(2, 1, 8, 8))
    assert [unit.keeps_shape for unit in units] == [True, True, False, True, False, True]
    bottleneck = create("resnet_cifar", num_classes=3, in_channels=1, image_size=(8, 8), depth=14, width=4).eval()
    assert [unit.residual for unit in units_of(bottleneck, images(2, 1, 8, 8))] == [True] * 6


def test_a_network_without_units_has_none() -> None:
    assert units_of(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), images()) == []


def test_swapped_units_compute_each_in_the_place_of_the_other() -> None:
    model, x = small("original"), images()
    other = copy.deepcopy(model)
    state = model.state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith("stage1.0."):
            state[name.replace("stage1.0.", "stage1.2.")] = tensor
        elif name.startswith("stage1.2."):
            state[name.replace("stage1.2.", "stage1.0.")] = tensor
    other.load_state_dict(state)
    first, last = model.get_submodule("stage1.0"), model.get_submodule("stage1.2")
    with replaced(model, {"stage1.0": last, "stage1.2": first}):
        assert torch.equal(model(x), other(x))
    assert model.get_submodule("stage1.0") is first


def test_only_units_of_one_shape_are_swapped() -> None:
    a, b = torch.Size((4,)), torch.Size((8,))
    units = [Unit("0", True, a, a), Unit("1", True, a, b), Unit("2", True, b, b), Unit("3", True, a, a)]
    for seed in range(5):
        places = swapped(units, 1, torch.Generator().manual_seed(seed))
        assert places == [3, 1, 2, 0]
    assert swapped(units[:3], 4, torch.Generator()) == [0, 1, 2]


def test_all_sets_are_deleted_where_there_are_few_and_random_ones_where_there_are_more() -> None:
    draw = torch.Generator().manual_seed(0)
    assert sets(4, 2, 6, draw) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    found = sets(4, 2, 5, draw)
    assert len({frozenset(one) for one in found}) == len(found) == 5
    assert {len(one) for one in sets(54, 30, 20, draw)} == {30}


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 2, 3, 4], [2, 0, 4, 1, 3]])
def test_kendall_tau_is_that_of_scipy(order: list[int]) -> None:
    assert kendall_tau(order) == pytest.approx(kendalltau(range(len(order)), order).statistic)


def test_sizes_are_spread_over_all_of_them() -> None:
    assert spread(3) == [1, 2, 3]
    assert (spread(54)[0], spread(54)[-1]) == (1, 54)
    assert len(spread(54)) == 12


def test_lengths_are_binomial_and_in_the_paper_of_54_units_mostly_19_to_35() -> None:
    found = shares(54)
    assert sum(found) == pytest.approx(1)
    assert 2**54 * found[27] == math.comb(54, 27)
    assert sum(found[19:36]) == pytest.approx(0.980, abs=0.0005)
    assert sum(found[5:18]) == pytest.approx(0.0045, abs=0.00005)


def test_the_usual_lengths_are_the_shortest_range_with_95_per_cent() -> None:
    assert usual([0.02, 0.48, 0.48, 0.02]) == (1, 2)
    assert usual([0.25, 0.25, 0.25, 0.25]) == (0, 3)
    low, high = usual(shares(54))
    assert sum(shares(54)[low : high + 1]) >= 0.95
    assert sum(shares(54)[low:high]) < 0.95


def test_a_length_counts_its_paths_times_the_gradient_along_one() -> None:
    """Of (1 + a)^n the part of length k is binomial with probability a / (1 + a)."""
    a, n = 0.25, 10
    found = weighed(n, {length: [a**length] for length in range(n + 1)})
    share = a / (1 + a)
    for one in found.lengths:
        expected = math.comb(n, one.units) * share**one.units * (1 - share) ** (n - one.units)
        assert one.weight == pytest.approx(expected)
    assert found.weighted == pytest.approx(n * share)
    assert found.mean == 5


def test_between_sampled_lengths_the_logarithm_is_interpolated() -> None:
    count = 2 * LENGTHS
    known = {length: [0.5**length, 0.5**length] for length in range(0, count + 1, 2)}
    lengths = weighed(count, known).lengths
    assert lengths[7].samples == 0
    assert lengths[7].gradient == pytest.approx(0.5**7)


def test_paths_without_any_gradient_have_none() -> None:
    found = weighed(2, {0: [1.0], 1: [0.0, 0.0], 2: [0.0]})
    assert [one.weight for one in found.lengths] == [1, 0, 0]
