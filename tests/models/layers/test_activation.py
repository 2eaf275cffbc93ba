"""Activations, at values worked out by hand, and what their papers say of them."""

from __future__ import annotations

from math import erf, exp, log, sqrt

import pytest
import torch
from torch import Tensor, nn

from models.initializers import initialize
from models.initializers.kaiming import kaiming
from models.layers.activation import (
    Activation,
    elu,
    gelu,
    hardswish,
    identity,
    leaky_relu,
    maxout,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from models.layers.block import linear_block
from models.layers.norm import no_norm
from models.layers.place import Layout

LAMBDA, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
"""Of SELU: Klambauer et al. 2017, equation 14."""

CASES: list[tuple[Activation, float, float]] = [
    # at -1, at 2
    (identity(), -1, 2),
    (sigmoid(), 1 / (1 + exp(1)), 1 / (1 + exp(-2))),
    (tanh(), (exp(-2) - 1) / (exp(-2) + 1), (exp(4) - 1) / (exp(4) + 1)),
    (relu(), 0, 2),
    (relu6(), 0, 2),
    (leaky_relu(), -0.01, 2),
    (leaky_relu(negative_slope=0.1), -0.1, 2),
    (prelu(), -0.25, 2),
    (prelu(initial_slope=3, shared=True), -3, 2),
    (elu(), exp(-1) - 1, 2),
    (elu(alpha=2.0), 2 * (exp(-1) - 1), 2),
    (selu(), LAMBDA * ALPHA * (exp(-1) - 1), 2 * LAMBDA),
    (softplus(), log(1 + exp(-1)), log(1 + exp(2))),
    (gelu(), -(1 - erf(1 / sqrt(2))) / 2, 1 + erf(2 / sqrt(2))),
    (silu(), -1 / (1 + exp(1)), 2 / (1 + exp(-2))),
    (hardswish(), -2 / 6, 2 * 5 / 6),
]


@pytest.mark.parametrize(("activation", "at_minus_one", "at_two"), CASES)
def test_values(activation: Activation, at_minus_one: float, at_two: float) -> None:
    layer = activation.layer(1, Layout.VECTORS)

    torch.testing.assert_close(
        layer(torch.tensor([[-1.0], [2.0]])), torch.tensor([[float(at_minus_one)], [float(at_two)]])
    )


@pytest.mark.parametrize("activation", [case[0] for case in CASES])
def test_input_is_left_as_it_was(activation: Activation) -> None:
    x = torch.tensor([[-1.0], [2.0]])

    activation.layer(1, Layout.VECTORS)(x)

    assert x.tolist() == [[-1.0], [2.0]]


def values_and_slopes(activation: Activation, at: Tensor) -> tuple[Tensor, Tensor]:
    x = at.double()[:, None].requires_grad_()
    y = activation.layer(1, Layout.VECTORS).double()(x)
    return y.detach()[:, 0], torch.autograd.grad(y.sum(), x)[0][:, 0]


LINE = torch.linspace(-10, 10, 2001)


def test_the_sigmoid_saturates() -> None:
    y, slope = values_and_slopes(sigmoid(), LINE)

    assert ((y > 0) & (y < 1)).all()
    torch.testing.assert_close(slope, y * (1 - y))
    assert slope[0].item() == pytest.approx(4.54e-5, abs=1e-7)
    assert slope[-1].item() == pytest.approx(4.54e-5, abs=1e-7)


def test_tanh_is_a_sigmoid_of_twice_the_input() -> None:
    """2 sigmoid(2x) - 1; with x alone, as a lecture has it, it is off by 0.30."""
    y, _ = values_and_slopes(tanh(), LINE)

    torch.testing.assert_close(y, 2 * torch.sigmoid(2 * LINE.double()) - 1, atol=1e-15, rtol=0)
    assert (y - (2 * torch.sigmoid(LINE.double()) - 1)).abs().max().item() == pytest.approx(0.30, abs=0.005)


@pytest.mark.parametrize("activation", [leaky_relu(), prelu(), elu(), selu(), softplus(), sigmoid(), tanh()])
def test_the_gradient_is_nowhere_zero(activation: Activation) -> None:
    _, slope = values_and_slopes(activation, LINE)

    assert (slope > 0).all()


def test_relu_has_no_gradient_below_zero_and_relu6_none_above_six() -> None:
    _, below = values_and_slopes(relu(), LINE[LINE < 0])
    y, above = values_and_slopes(relu6(), LINE[LINE > 6])

    assert not below.any()
    assert not above.any()
    assert (y == 6).all()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_elu_goes_to_minus_alpha_and_has_no_jump(alpha: float) -> None:
    y, _ = values_and_slopes(elu(alpha=alpha), torch.tensor([-50.0, -1e-9, 0.0, 1e-9]))

    assert y[0].item() == pytest.approx(-alpha)
    assert y[1:].abs().max() < 1e-8


def test_softplus_has_the_sigmoid_as_its_derivative() -> None:
    _, slope = values_and_slopes(softplus(), LINE)

    torch.testing.assert_close(slope, torch.sigmoid(LINE.double()))


def test_selu_keeps_mean_and_variance() -> None:
    """Klambauer et al. 2017: 30 layers of 500 with weights of variance 1 / 500 keep N(0, 1); one draw of weights."""
    generator = torch.Generator().manual_seed(0)
    layer = selu().layer(500, Layout.VECTORS)
    x = torch.randn(1000, 500, generator=generator)
    for _ in range(30):
        x = layer(x @ torch.randn(500, 500, generator=generator) / sqrt(500))

    # Measured elsewhere: -0.011 and 0.988. ReLU at this scale leaves 2^-15 of the second moment.
    assert x.mean().item() == pytest.approx(0, abs=0.05)
    assert x.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("shared", "layout", "shape"),
    [
        (False, Layout.VECTORS, (5, 3)),
        (False, Layout.MAPS, (5, 3, 2, 2)),
        (False, Layout.TOKENS, (5, 4, 3)),
        (True, Layout.MAPS, (5, 3, 2, 2)),
        (True, Layout.TOKENS, (5, 4, 3)),
    ],
)
def test_prelu_learns_a_slope_a_channel_or_one(shared: bool, layout: Layout, shape: tuple[int, ...]) -> None:
    """The gradient of a slope is the sum of the negative inputs; slopes above 1 are slopes, too (so not max(x, slope x))."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    layer = prelu(initial_slope=2.0, shared=shared).layer(3, layout)

    y = layer(x)
    y.sum().backward()

    slope = layer.get_parameter("weight")
    assert slope.tolist() == [2.0] * (1 if shared else 3)
    torch.testing.assert_close(y, torch.where(x > 0, x, 2 * x))
    negative = x.clamp(max=0).movedim(layout.feature_axis, -1).flatten(0, -2).sum(0)
    torch.testing.assert_close(slope.grad, negative.sum()[None] if shared else negative)


def test_an_initializer_leaves_the_slopes_of_prelu() -> None:
    model = linear_block(4, 3, norm=no_norm(), activation=prelu())

    initialize(model, kaiming(), torch.Generator().manual_seed(0))

    assert model.get_parameter("activation.weight").tolist() == [0.25] * 3


def maxout_of(weights: list[float], pieces: int) -> nn.Module:
    """One feature of one input, whose affine maps are w x."""
    block = linear_block(1, 1, norm=no_norm(), activation=maxout(pieces=pieces))
    block.load_state_dict({"affine.weight": torch.tensor(weights)[:, None], "affine.bias": torch.zeros(pieces)})
    return block


def test_maxout_can_be_relu_and_the_absolute_value() -> None:
    x = LINE[:, None]

    assert torch.equal(maxout_of([3.0, 0.0], 2)(x), (3 * x).relu())
    assert torch.equal(maxout_of([3.0, -3.0], 2)(x), (3 * x).abs())


def test_maxout_is_convex() -> None:
    """At the middle of two points it is at most the mean of its values there."""
    torch.manual_seed(0)
    block = linear_block(6, 4, norm=no_norm(), activation=maxout(pieces=5))
    one, other = torch.randn(2, 200, 6)

    assert (block((one + other) / 2) <= (block(one) + block(other)) / 2 + 1e-6).all()


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3, 3)])
def test_maxout_takes_the_largest_of_channels_that_are_a_third_apart(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    assert torch.equal(maxout(pieces=3).layer(2, Layout.MAPS)(x), torch.stack([x[:, :2], x[:, 2:4], x[:, 4:]]).amax(0))


def test_softmax_sums_to_one() -> None:
    """The output layer of every network, which the losses contain."""
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100

    torch.testing.assert_close(logits.softmax(1).sum(1), torch.ones(7, dtype=torch.float64))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="negative_slope must be positive and finite, got 0"):
        leaky_relu(negative_slope=0)
    with pytest.raises(ValueError, match="alpha must be positive and finite, got -1"):
        elu(alpha=-1)
    with pytest.raises(ValueError, match="initial_slope must be positive and finite, got nan"):
        prelu(initial_slope=float("nan"))
    with pytest.raises(ValueError, match="pieces must be at least 2, got 1"):
        maxout(pieces=1)
    with pytest.raises(ValueError, match="pieces must be at least 1, got 0"):
        Activation(relu().layer, pieces=0)
