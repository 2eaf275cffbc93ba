import math

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.training.diagnosis.statistics import (
    copied_weights,
    dead_units,
    saturated,
    summary,
    update_ratios,
)


def test_a_summary_is_what_numpy_says() -> None:
    values = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(0))
    found, numbers = summary(values), values.double().numpy().ravel()
    assert found.mean == pytest.approx(numbers.mean(), abs=1e-12)
    assert found.std == pytest.approx(numbers.std(), rel=1e-12)
    assert found.second_moment == pytest.approx((numbers**2).mean(), rel=1e-12)
    assert (found.least, found.most, found.nonfinite) == (numbers.min(), numbers.max(), 0)
    assert found.unit.counts == tuple(np.histogram(numbers, 30, (-1, 1))[0])
    assert found.whole.counts == tuple(np.histogram(numbers, 30)[0])
    assert (found.whole.low, found.whole.high) == (numbers.min(), numbers.max())


def test_saturated_values_are_in_the_outer_bins() -> None:
    found = summary(torch.tensor([-1.0, 1.0, 1.0, 0.01])).unit.counts
    assert (found[0], found[15], found[29], sum(found)) == (1, 1, 2, 4)


def test_values_that_are_all_equal_have_a_histogram() -> None:
    found = summary(torch.full((4,), 3.0))
    assert (found.std, found.whole.low, found.whole.high) == (0, 2.5, 3.5)
    assert sum(found.whole.counts) == 4


def test_large_values_do_not_overflow() -> None:
    assert summary(torch.tensor([1e30, -1e30])).std == pytest.approx(1e30)


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    found = summary(torch.tensor([1.0, math.inf, math.nan, 3.0]))
    assert (found.mean, found.nonfinite) == (2, 2)
    assert summary(torch.tensor([math.nan])).nonfinite == 1


def test_a_dead_unit_is_zero_for_every_example_and_position() -> None:
    vectors = torch.tensor([[0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.0]])
    assert dead_units(vectors, -1) == 0.25
    maps = torch.zeros(2, 4, 3, 3)
    maps[1, 2, 0, 0] = 0.5
    assert dead_units(maps, 1) == 0.75


def test_saturation_is_a_share_of_a_bounded_activation() -> None:
    assert saturated(torch.tensor([-0.99, 0.5, 0.97, 0.985]), nn.Tanh()) == 0.5
    assert saturated(torch.tensor([0.005, 0.5, 0.98, 0.995]), nn.Sigmoid()) == 0.5
    assert saturated(torch.tensor([0.0, 6.0]), nn.ReLU6()) == 0.5
    assert saturated(torch.tensor([0.0, 6.0]), nn.ReLU()) is None


def test_an_update_is_measured_against_the_weight() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        before = copied_weights(model)
        model[0].weight += 1
    assert update_ratios(model, before) == {"0.weight": pytest.approx(2 / 5), "1.weight": 0.0}
