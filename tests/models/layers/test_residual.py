"""Residual blocks and their shortcuts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.activation import maxout, relu
from models.layers.block import conv_block, linear_block
from models.layers.norm import Norm, no_norm
from models.layers.place import Layout
from models.layers.residual import Residual, StochasticDepth, ZeroPadShortcut, added, join, residual_branches
from models.resnet import resnet_cifar


def test_a_branch_of_zeros_leaves_the_activation_of_the_input() -> None:
    branch = nn.Conv2d(2, 2, 1)
    nn.init.zeros_(branch.weight)
    nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
    x = torch.randn(1, 2, 3, 3)

    assert torch.equal(Residual(branch, nn.Identity(), nn.ReLU())(x), x.relu())


MAXOUT = maxout(pieces=2)


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


def unit(survival: float) -> StochasticDepth:
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2))
    return StochasticDepth(branch, nn.Identity(), nn.ReLU(), survival=survival)


def counted(module: nn.Module) -> list[None]:
    """A list that grows by one with each call of the module."""
    calls: list[None] = []
    module.register_forward_hook(lambda module, args, out: calls.append(None))
    return calls


def test_stochastic_depth_computes_the_branch_as_often_as_it_says() -> None:
    model = unit(0.3)
    calls = counted(model.branch)

    for _ in range(2000):
        model(torch.zeros(1, 2, 3, 3))

    # binomial: mean 600, standard deviation 20.5; three of them, at one fixed seed
    assert abs(len(calls) - 600) < 62


def test_a_branch_that_is_left_out_is_not_computed_and_not_trained() -> None:
    model = unit(1e-9)
    calls = counted(model.branch)
    x = torch.randn(4, 2, 3, 3, requires_grad=True)

    out = model(x)
    out.sum().backward()

    assert calls == []
    assert torch.equal(out, x.relu())
    assert all(parameter.grad is None for parameter in model.branch.parameters())
    assert model.branch[1].num_batches_tracked == 0  # type: ignore[index]


def test_stochastic_depth_decides_once_for_the_whole_mini_batch() -> None:
    """h(x + b f(x)) with one b: for all examples the sum, or for all the input."""
    model = StochasticDepth(nn.Conv2d(2, 2, 1), nn.Identity(), nn.Identity(), survival=0.5)
    x = torch.randn(16, 2, 3, 3)

    seen = {bool(torch.equal(out, x)) for out in (model(x) for _ in range(20))}
    both = x + model.branch(x)

    assert seen == {True, False}
    assert all(torch.equal(out, x) or torch.equal(out, both) for out in (model(x) for _ in range(20)))


def test_in_evaluation_the_branch_counts_as_often_as_it_was_computed() -> None:
    """The lecture's rule: h(x + p f(x))."""
    model = unit(0.3).eval()
    x = torch.randn(4, 2, 3, 3)

    torch.testing.assert_close(model(x), (x + 0.3 * model.branch(x)).relu())


def test_survival_weighting_is_the_expectation_over_b_of_the_training_pass_of_one_linear_layer() -> None:
    """Exactly: p times the pass with its branch, and 1 - p times that without."""
    kept, dropped = (StochasticDepth(nn.Linear(3, 3), nn.Identity(), nn.Identity(), survival=p) for p in (1.0, 1e-9))
    dropped.load_state_dict(kept.state_dict())
    unit = StochasticDepth(kept.branch, nn.Identity(), nn.Identity(), survival=0.7).eval()
    x = torch.randn(5, 3)

    torch.testing.assert_close(unit(x), 0.7 * kept.train()(x) + 0.3 * dropped.train()(x))


def test_a_unit_that_always_survives_is_the_ordinary_one() -> None:
    x = torch.randn(4, 2, 3, 3)

    assert type(added(nn.Identity(), nn.Identity())) is Residual
    assert type(join(nn.Identity(), nn.Identity(), 2, norm=no_norm(), activation=None)) is Residual
    assert torch.equal(unit(1.0)(x), Residual(unit(1.0).branch, nn.Identity(), nn.ReLU())(x))


def test_the_pieces_of_a_branch_that_is_left_out_are_those_of_the_shortcut() -> None:
    model = join(
        conv_block(3, 3, 1, norm=no_norm(), activation=MAXOUT, ends_branch=True),
        nn.Identity(),
        3,
        norm=no_norm(),
        activation=MAXOUT,
        survival=1e-9,
    )
    x = torch.randn(2, 3, 4, 4)

    assert torch.equal(model(x), x)


@pytest.mark.parametrize("survival", [0.0, 1.1, -0.5, float("nan")])
def test_survival_is_checked(survival: float) -> None:
    with pytest.raises(ValueError, match=rf"survival must be in \(0, 1\], got {survival}"):
        unit(survival)


def test_the_network_computes_the_expected_number_of_units() -> None:
    """Linear decay to 0.5 over 9 units: 9 - 0.5 * 10 / 2 = 6.5 a step; each step has variance sum p (1 - p) < 1.6."""
    model = resnet_cifar(num_classes=2, in_channels=1, image_size=(8, 8), depth=20, width=1, survival=0.5)
    torch.manual_seed(0)
    calls = [counted(branch) for branch in residual_branches(model)]
    steps = 200

    for _ in range(steps):
        model(torch.zeros(2, 1, 8, 8))

    assert len(calls) == 9
    assert abs(sum(map(len, calls)) / steps - 6.5) < 3 * (1.6 / steps) ** 0.5
    assert len(calls[0]) > 0.87 * steps  # survives with 17 / 18; six standard deviations below is 0.84


def test_added_gives_each_piece_of_the_branch_the_one_value_of_the_shortcut() -> None:
    x = torch.tensor([[[[1.0]], [[2.0]]]])
    four = nn.Conv2d(2, 4, 1, bias=False)
    with torch.no_grad():
        four.weight[:, :, 0, 0] = torch.tensor([[10.0, 0], [0, 10], [100, 0], [0, 100]])

    assert added(four, nn.Identity(), pieces=2)(x).flatten().tolist() == [11, 22, 101, 202]


def test_zero_pad_of_pieces_keeps_each_among_its_own() -> None:
    x = torch.tensor([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)  # pieces (1, 2) and (3, 4) of two features

    assert ZeroPadShortcut(1, 1, pieces=2)(x).flatten().tolist() == [1, 2, 0, 3, 4, 0]
