"""Residual blocks and their shortcuts."""

from __future__ import annotations

import torch
from torch import nn

from models.layers.residual import Residual, ZeroPadShortcut, residual_branches


def test_a_branch_of_zeros_leaves_the_activation_of_the_input() -> None:
    branch = nn.Conv2d(2, 2, 1)
    nn.init.zeros_(branch.weight)
    nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
    x = torch.randn(1, 2, 3, 3)

    assert torch.equal(Residual(branch, nn.Identity(), nn.ReLU())(x), x.relu())


def test_zero_pad_takes_every_second_position_and_adds_zeros() -> None:
    x = torch.arange(9.0).reshape(1, 1, 3, 3)

    out = ZeroPadShortcut(2, 1)(x)

    assert out.tolist() == [[[[0, 2], [6, 8]], [[0, 0], [0, 0]]]]


def test_zero_pad_keeps_channels_last() -> None:
    x = torch.zeros(2, 4, 8, 8).to(memory_format=torch.channels_last)

    assert ZeroPadShortcut(2, 4)(x).is_contiguous(memory_format=torch.channels_last)


def test_branches_are_found_from_the_input_on_at_any_depth() -> None:
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    model = nn.Sequential(
        nn.Linear(1, 1),
        nn.Sequential(Residual(first, nn.Identity(), nn.ReLU())),
        Residual(second, nn.Identity(), nn.ReLU()),
    )

    assert list(residual_branches(model)) == [first, second]
