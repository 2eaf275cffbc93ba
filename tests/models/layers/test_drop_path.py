"""Branches that are left out at random, and dropout, of which they are the coarse form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.drop_path import DropPath


def test_an_example_is_dropped_as_a_whole_or_kept_and_scaled() -> None:
    torch.manual_seed(0)
    factors = DropPath(0.2)(torch.ones(1000, 3, 2, 2))

    assert (factors == factors[:, :1, :1, :1]).all()
    assert sorted(set(factors.flatten().tolist())) == pytest.approx([0, 1.25])
    # the share that is dropped: a binomial of 1000 at 0.2, within four standard deviations
    assert (factors[:, 0, 0, 0] == 0).float().mean().item() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("layer", [DropPath(0.75), nn.Dropout(0.75)], ids=["drop-path", "dropout"])
def test_the_expectation_in_training_is_what_evaluation_gives(layer: nn.Module) -> None:
    """Of one linear layer exactly, Srivastava et al. 2014, section 10; 40,000 draws: within four standard errors."""
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 1, dtype=torch.float64), torch.rand(1, 6, dtype=torch.float64)

    with torch.no_grad():
        draws = linear(layer.train()(x.expand(40_000, 6)))
        expected = linear(layer.eval()(x))

    assert abs(draws.mean() - expected).item() < 4 * draws.std().item() / 200
    assert draws.std() > 0.1


def test_drop_is_the_probability_of_dropping_not_of_keeping() -> None:
    torch.manual_seed(0)

    assert nn.Dropout(0.1)(torch.ones(10_000)).count_nonzero().item() == pytest.approx(9_000, abs=4 * 30)
    assert DropPath(0.1)(torch.ones(10_000, 1)).count_nonzero().item() == pytest.approx(9_000, abs=4 * 30)


def test_nothing_happens_in_evaluation_or_at_rate_zero() -> None:
    x = torch.randn(4, 3)

    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0)(x) is x


def test_the_rate_is_checked() -> None:
    with pytest.raises(ValueError, match=r"drop_prob must be in \[0, 1\), got 1"):
        DropPath(1.0)
