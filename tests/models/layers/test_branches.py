"""Branches side by side, described as data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.activation import relu
from models.layers.branches import Branches, Builder, Convolution, Fork, Pool, at_full_size, numbered
from models.layers.norm import no_norm

BUILDER = Builder(no_norm(), relu())


def test_branches_are_concatenated_in_order() -> None:
    branches = Branches([nn.Identity(), nn.ReLU()])
    x = torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)

    assert branches(x).flatten().tolist() == [1, -2, 1, 0]
    assert [name for name, _ in branches.named_children()] == ["branch1", "branch2"]


def test_builder_counts_the_channels_of_steps_that_fork_again() -> None:
    fork = Fork((Convolution(3),), (Convolution(4), Fork((Convolution(5, (1, 3)),), (Pool("max"),))))
    module, channels = BUILDER.fork(2, fork)

    assert channels == 3 + (5 + 4)
    assert module(torch.zeros(1, 2, 8, 8)).shape == (1, channels, 8, 8)
    assert module.get_submodule("branch2.1.branch1.0.affine").weight.shape == (5, 4, 1, 3)


def test_width_scales_each_convolution_and_no_pooling() -> None:
    fork = Fork((Convolution(8),), (Pool("average"),))

    assert [Builder(no_norm(), relu(), width).fork(6, fork)[1] for width in (0.5, 1, 2)] == [4 + 6, 8 + 6, 16 + 6]


@pytest.mark.parametrize(("stride", "size"), [(1, 9), (2, 4)])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_keeps_the_size_at_stride_1_and_is_unpadded_at_stride_2(kind: str, stride: int, size: int) -> None:
    assert Pool(kind, stride).layer()(torch.zeros(1, 1, 9, 9)).shape == (1, 1, size, size)  # type: ignore[arg-type]


@pytest.mark.parametrize(("counts_padding", "corner"), [(True, 4 / 9), (False, 1.0)])
def test_average_at_the_border(counts_padding: bool, corner: float) -> None:
    """Of nine positions around a corner four are inside."""
    average = Pool("average", counts_padding=counts_padding).layer()

    assert average(torch.ones(1, 1, 4, 4))[0, 0, 0, 0].item() == pytest.approx(corner)


def test_stem_at_full_size_keeps_pooling_as_a_branch_only() -> None:
    steps = numbered(
        [
            Convolution(4, 3, stride=2, padding=0),
            Pool("max", stride=2),
            Fork((Pool("max", stride=2),), (Convolution(5, 3, stride=2, padding=0),)),
        ]
    )
    module, channels = BUILDER.chain(3, at_full_size(steps))

    assert module(torch.zeros(1, 3, 7, 9)).shape == (1, 4 + 5, 7, 9)
    assert [name for name, _ in module.named_children()] == ["0", "2"]
    assert channels == 9
