"""Residual blocks and their shortcuts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.layers.activation import Activation, relu
from models.layers.block import conv_block, linear_block
from models.layers.norm import Norm, no_norm
from models.layers.place import Layout
from models.layers.residual import Residual, ZeroPadShortcut, join, residual_branches
from models.resnet import resnet_cifar


def test_a_branch_of_zeros_leaves_the_activation_of_the_input() -> None:
    branch = nn.Conv2d(2, 2, 1)
    nn.init.zeros_(branch.weight)
    nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
    x = torch.randn(1, 2, 3, 3)

    assert torch.equal(Residual(branch, nn.Identity(), nn.ReLU())(x), x.relu())


def largest_of_two(num_features: int, layout: Layout) -> nn.Module:
    """A maxout layer: the larger of channels f and num_features + f."""
    return Larger(layout.feature_axis)


class Larger(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, self.axis)
        return torch.maximum(first, second)


MAXOUT = Activation(largest_of_two, pieces=2)


@pytest.mark.parametrize(
    ("layout", "shape"), [(Layout.VECTORS, (5, 3)), (Layout.MAPS, (5, 3, 4, 4)), (Layout.TOKENS, (5, 7, 3))]
)
def test_pieces_reach_the_join(layout: Layout, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    kinds = {"norm": no_norm(), "activation": MAXOUT, "ends_branch": True}
    branch = conv_block(3, 3, 1, **kinds) if layout is Layout.MAPS else linear_block(3, 3, layout=layout, **kinds)  # type: ignore[arg-type]

    out = join(branch, nn.Identity(), 3, norm=no_norm(), activation=MAXOUT, layout=layout)(x)

    # max over pieces of (x + piece) = x + max over pieces, worked out with features last
    last = x.movedim(layout.feature_axis, -1)
    weight, bias = branch[0].weight.reshape(6, 3), branch[0].bias
    first, second = (last @ weight.T + bias).chunk(2, -1)
    torch.testing.assert_close(out, (last + torch.maximum(first, second)).movedim(-1, layout.feature_axis))


def test_resnet_trains_with_maxout() -> None:
    model = resnet_cifar(num_classes=3, in_channels=1, image_size=(8, 8), depth=8, width=4, activation=MAXOUT)

    logits = model(torch.randn(2, 1, 8, 8))
    logits.sum().backward()

    assert logits.shape == (2, 3)
    assert all(p.grad is not None for p in model.parameters())


def test_a_norm_after_the_activation_follows_the_join() -> None:
    clip = Norm(lambda num_features, place: nn.Hardtanh(0, 1), after_activation=True)
    x = torch.tensor([[-3.0, 0.25, 3.0]])

    out = join(nn.Identity(), nn.Identity(), 3, norm=clip, activation=relu(), layout=Layout.VECTORS)(x)

    assert out.tolist() == [[0.0, 0.5, 1.0]]


def test_a_join_without_activation_is_the_sum() -> None:
    x = torch.tensor([[-3.0, 2.0]])

    assert join(nn.Identity(), nn.Identity(), 2, norm=no_norm(), activation=None)(x).tolist() == [[-6.0, 4.0]]


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
