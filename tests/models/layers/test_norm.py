"""Normalizations: what they compute, against formulas and against each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import RefusedError
from models.layers.norm import (
    Norm,
    batch_norm,
    group_norm,
    groups_for,
    instance_norm,
    layer_norm,
    local_response_norm,
    no_norm,
    weight_norm,
)
from models.layers.place import Layout, Place

VECTORS, MAPS, TOKENS = (Place(layout) for layout in (Layout.VECTORS, Layout.MAPS, Layout.TOKENS))


@pytest.fixture
def maps() -> Tensor:
    """(N, C, H, W) with a mean and a spread of its own for each channel."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 6, 4, 3, generator=generator) * torch.arange(1, 7).view(6, 1, 1) + 3


def test_no_norm_adds_nothing() -> None:
    assert isinstance(no_norm().layer(4, MAPS), nn.Identity)


def test_batch_norm_of_maps_is_over_batch_and_positions(maps: Tensor) -> None:
    out = batch_norm().layer(6, MAPS)(maps)

    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var((0, 2, 3), correction=0), torch.ones(6), atol=1e-4, rtol=0)


def test_batch_norm_of_vectors_follows_its_formula() -> None:
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])

    out = batch_norm(eps=1.0).layer(2, VECTORS)(x)

    # (x - mean) / sqrt(variance + eps): variances are 1 and 100.
    expected = torch.tensor([[-1 / 2**0.5, -10 / 101**0.5], [1 / 2**0.5, 10 / 101**0.5]])
    torch.testing.assert_close(out, expected)


def test_batch_norm_momentum_is_the_weight_of_the_new_batch() -> None:
    layer = batch_norm(momentum=0.25).layer(1, VECTORS)

    layer(torch.tensor([[2.0], [6.0]]))

    assert isinstance(layer, nn.BatchNorm1d)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.running_mean.item() == 0.25 * 4
    assert layer.running_var.item() == 0.75 * 1 + 0.25 * 8  # torch takes the unbiased variance here


def test_batch_norm_gives_its_shift_as_mean_and_its_gain_as_spread(maps: Tensor) -> None:
    layer = batch_norm(eps=1e-12).layer(6, MAPS)
    gain, shift = torch.arange(1.0, 7.0), torch.arange(6.0) - 3
    layer.load_state_dict({"weight": gain, "bias": shift}, strict=False)

    out = layer(maps)

    torch.testing.assert_close(out.mean((0, 2, 3)), shift, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), gain)


def test_batch_norm_recovers_the_identity() -> None:
    """At gain sqrt(v + eps) and shift mu: Ioffe and Szegedy 2015, section 3."""
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5 + 2
    layer = batch_norm(eps=1e-3).layer(3, VECTORS).double()
    layer.load_state_dict({"weight": (x.var(0, correction=0) + 1e-3).sqrt(), "bias": x.mean(0)}, strict=False)

    torch.testing.assert_close(layer(x), x, atol=1e-14, rtol=0)


def test_batch_norm_in_evaluation_sees_neither_the_batch_nor_changes(maps: Tensor) -> None:
    layer = batch_norm().layer(6, MAPS)
    layer(maps)
    before = {name: value.clone() for name, value in layer.eval().state_dict().items()}

    assert torch.equal(layer(maps)[:1], layer(maps[:1]))
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_batch_norm_of_maps_has_the_variance_of_all_positions_over_one_less(maps: Tensor) -> None:
    """m = 5 * 4 * 3 values a channel: the moving average takes m / (m - 1) times the variance that training divides by."""
    layer = batch_norm(momentum=1.0).layer(6, MAPS)

    layer(maps)

    assert isinstance(layer.running_var, Tensor)
    torch.testing.assert_close(layer.running_var, maps.var((0, 2, 3), correction=0) * 60 / 59)


def through_batch_norm(weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    x = torch.randn(16, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return F.batch_norm(x @ weight.T + bias, None, None, training=True, eps=eps)


NO_EPS = 1e-300
"""Lost in any variance; torch takes no 0."""

WEIGHT = torch.randn(4, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
NO_BIAS = torch.zeros(4, dtype=torch.float64)


@pytest.mark.parametrize(("eps", "tolerance"), [(NO_EPS, 1e-14), (1e-5, 2e-6)])
@pytest.mark.parametrize("scale", [2.0, 100.0])
def test_batch_norm_does_not_see_the_scale_of_the_weights(scale: float, eps: float, tolerance: float) -> None:
    """BN(a W x) = BN(W x), Ioffe and Szegedy 2015, section 3.3; eps is small against a variance of 20."""
    change = through_batch_norm(scale * WEIGHT, NO_BIAS, eps) - through_batch_norm(WEIGHT, NO_BIAS, eps)

    assert change.abs().max() <= tolerance


def test_the_gradient_of_scaled_weights_is_divided_by_the_scale() -> None:
    target = torch.randn(16, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def gradient(weight: Tensor) -> Tensor:
        weight = weight.clone().requires_grad_()
        return torch.autograd.grad((through_batch_norm(weight, NO_BIAS, NO_EPS) * target).sum(), weight)[0]

    torch.testing.assert_close(gradient(8 * WEIGHT), gradient(WEIGHT) / 8)


def test_a_bias_before_batch_norm_has_no_effect() -> None:
    bias = torch.tensor([3.0, -1.0, 0.5, 100.0], dtype=torch.float64)

    torch.testing.assert_close(
        through_batch_norm(WEIGHT, bias, 1e-5), through_batch_norm(WEIGHT, NO_BIAS, 1e-5), atol=1e-11, rtol=0
    )


def test_batch_norm_derivatives() -> None:
    """Worked out from y = g n + b with n = (x - mu) / s, s = sqrt(v + eps), over the m examples of a batch:

    db = sum dy; dg = sum dy n; dx = g / s (dy - db / m - n dg / m).
    """
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(9, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    layer = batch_norm(eps=1e-3).layer(3, VECTORS).double()
    layer.load_state_dict({"weight": torch.tensor([2.0, -1.0, 0.5]), "bias": torch.ones(3)}, strict=False)

    layer(x).backward(dy)

    gain, shift = layer.weight, layer.bias
    s = (x.var(0, correction=0) + 1e-3).sqrt()
    n = (x - x.mean(0)) / s
    torch.testing.assert_close(shift.grad, dy.sum(0))
    torch.testing.assert_close(gain.grad, (dy * n).sum(0))
    torch.testing.assert_close(x.grad, gain / s * (dy - dy.sum(0) / 9 - n * (dy * n).sum(0) / 9))


def test_layer_norm_of_maps_is_over_channels_and_positions(maps: Tensor) -> None:
    torch.testing.assert_close(layer_norm().layer(6, MAPS)(maps), F.layer_norm(maps, (6, 4, 3)))


def test_layer_norm_of_vectors_is_over_features() -> None:
    x = torch.tensor([[1.0, 3.0], [10.0, 30.0]])

    out = layer_norm(eps=1e-12).layer(2, VECTORS)(x)

    torch.testing.assert_close(out, torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]))


def test_one_group_is_layer_norm(maps: Tensor) -> None:
    one = group_norm(num_groups=1)

    torch.testing.assert_close(one.layer(6, MAPS)(maps), F.layer_norm(maps, (6, 4, 3)))
    torch.testing.assert_close(one.layer(6, VECTORS)(maps[..., 0, 0]), F.layer_norm(maps[..., 0, 0], (6,)))


def test_a_group_for_each_channel_is_instance_norm(maps: Tensor) -> None:
    torch.testing.assert_close(group_norm(num_groups=6).layer(6, MAPS)(maps), F.instance_norm(maps))


def test_layer_norm_of_tokens_is_over_the_features_of_each(maps: Tensor) -> None:
    tokens = maps.flatten(2).transpose(1, 2)

    torch.testing.assert_close(layer_norm().layer(6, TOKENS)(tokens), F.layer_norm(tokens, (6,)))


def test_group_norm_of_tokens_is_over_the_groups_of_each() -> None:
    tokens = torch.tensor([[[1.0, 3.0, 10.0, 30.0], [5.0, 1.0, 0.0, 2.0]]])

    out = group_norm(num_groups=2, eps=1e-12).layer(4, TOKENS)(tokens)

    torch.testing.assert_close(out, torch.tensor([[[-1.0, 1.0, -1.0, 1.0], [1.0, -1.0, -1.0, 1.0]]]))


def test_batch_norm_of_tokens_is_over_batch_and_tokens() -> None:
    tokens = torch.tensor([[[1.0, 10.0], [3.0, 30.0]], [[1.0, 30.0], [3.0, 10.0]]])

    out = batch_norm(eps=1e-12).layer(2, TOKENS)(tokens)

    torch.testing.assert_close(out, torch.tensor([[[-1.0, -1.0], [1.0, 1.0]], [[-1.0, 1.0], [1.0, -1.0]]]))


def test_a_norm_after_the_activation_cannot_absorb_the_bias() -> None:
    with pytest.raises(ValueError, match="after the activation cannot absorb the bias before it"):
        Norm(no_norm().layer, absorbs_bias=True, after_activation=True)


@pytest.mark.parametrize("norm", [layer_norm(), group_norm(num_groups=2), instance_norm(), local_response_norm()])
@pytest.mark.parametrize("training", [True, False])
def test_all_but_batch_norm_treat_each_example_by_itself(norm: Norm, training: bool, maps: Tensor) -> None:
    layer = norm.layer(6, MAPS).train(training)

    torch.testing.assert_close(layer(maps)[:1], layer(maps[:1]))


def test_instance_norm_is_over_the_positions_of_each_channel(maps: Tensor) -> None:
    tokens = maps.flatten(2).transpose(1, 2)
    expected = (maps - maps.mean((2, 3), keepdim=True)) / (maps.var((2, 3), correction=0, keepdim=True) + 0.1).sqrt()

    torch.testing.assert_close(instance_norm(eps=0.1).layer(6, MAPS)(maps), expected)
    torch.testing.assert_close(
        instance_norm(eps=0.1).layer(6, TOKENS)(tokens), expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=0
    )


def test_instance_norm_has_a_gain_and_a_shift_a_channel() -> None:
    assert {name: len(p) for name, p in instance_norm().layer(6, MAPS).named_parameters()} == {"weight": 6, "bias": 6}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("norm", "place", "shape"),
    [
        (instance_norm(), MAPS, (4, 6, 1, 1)),
        (instance_norm(), TOKENS, (4, 1, 6)),
        (group_norm(num_groups=6), MAPS, (4, 6, 1, 1)),
        (group_norm(), VECTORS, (4, 1)),
    ],
)
def test_no_variance_over_one_value(norm: Norm, place: Place, shape: tuple[int, ...], training: bool) -> None:
    layer = norm.layer(6 if 6 in shape else 1, place).train(training)

    with pytest.raises(RefusedError, match=r"(instance|group) normalization has no variance over"):
        layer(torch.zeros(shape))


def test_two_positions_are_enough_for_instance_norm() -> None:
    out = instance_norm(eps=1e-12).layer(1, MAPS)(torch.tensor([[[[1.0, 5.0]]]]))

    torch.testing.assert_close(out, torch.tensor([[[[-1.0, 1.0]]]]))


def test_instance_norm_of_vectors_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"over the positions of a map, and vectors have none; use norm=layer"):
        instance_norm().layer(6, VECTORS)


def test_local_response_norm_follows_the_formula_of_the_paper(maps: Tensor) -> None:
    """b_i = a_i / (k + alpha * sum of a_j^2, |j - i| <= n / 2)^beta: Krizhevsky et al. 2012, section 3.3."""
    squares = maps.square()
    expected = torch.stack(
        [maps[:, i] / (2 + 0.1 * squares[:, max(0, i - 2) : i + 3].sum(1)) ** 0.75 for i in range(6)], 1
    )
    norm = local_response_norm(alpha=0.1)

    torch.testing.assert_close(norm.layer(6, MAPS)(maps), expected)
    last, expected_last = maps.movedim(1, -1), expected.movedim(1, -1)
    torch.testing.assert_close(norm.layer(6, TOKENS)(last.flatten(1, 2)), expected_last.flatten(1, 2))
    torch.testing.assert_close(norm.layer(6, VECTORS)(last[:, 0, 0]), expected_last[:, 0, 0])


def test_local_response_norm_has_no_parameters_and_comes_after_the_activation_by_default() -> None:
    assert not list(local_response_norm().layer(6, MAPS).parameters())
    assert local_response_norm().after_activation
    assert not local_response_norm(after_activation=False).after_activation


def weight_normalized(linear: nn.Module) -> tuple[nn.Module, Tensor, Tensor]:
    """The linear layer, its lengths g and directions v."""
    wrapped = weight_norm().wrap(linear)
    return wrapped, *wrapped.get_submodule("parametrizations.weight").parameters()


def test_weight_norm_has_a_length_for_each_output_and_starts_from_the_same_weights() -> None:
    linear = nn.Linear(7, 4)
    before = linear.weight.detach().clone()

    wrapped, g, v = weight_normalized(linear)

    assert (tuple(g.shape), tuple(v.shape)) == ((4, 1), (4, 7))
    torch.testing.assert_close(wrapped.weight, before)
    torch.testing.assert_close(g.detach()[:, 0], before.norm(dim=1))


def test_weight_norm_gradients() -> None:
    """dg = dw . v / |v|; dv = g / |v| (dw - (dw . u) u) with u = v / |v|: Salimans and Kingma 2016, equation 3."""
    torch.manual_seed(0)
    wrapped, g, v = weight_normalized(nn.Linear(7, 4, dtype=torch.float64))
    v.data.mul_(3)  # so that |v| is not g
    dw = torch.randn(4, 7, dtype=torch.float64)

    (wrapped.weight * dw).sum().backward()

    length = v.detach().norm(dim=1, keepdim=True)
    u = v.detach() / length
    along = (dw * u).sum(1, keepdim=True)
    torch.testing.assert_close(g.grad, along)
    torch.testing.assert_close(v.grad, g.detach() / length * (dw - along * u))
    assert isinstance(v.grad, Tensor)
    assert (v.grad * v.detach()).sum(1).abs().max() < 1e-15 * 7


@pytest.mark.slow  # torch.optim imports torch's compiler
def test_plain_gradient_steps_never_shorten_the_direction() -> None:
    torch.manual_seed(0)
    wrapped, _, v = weight_normalized(nn.Linear(7, 4, dtype=torch.float64))
    x, y = torch.randn(32, 7, dtype=torch.float64), torch.randn(32, 4, dtype=torch.float64)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.3)
    lengths = [v.detach().norm(dim=1)]
    for _ in range(20):
        optimizer.zero_grad()
        F.mse_loss(wrapped(x), y, reduction="sum").div(32).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        lengths.append(v.detach().norm(dim=1))

    growth = torch.stack(lengths).diff(dim=0)
    assert (growth >= 0).all()
    assert (growth[0] > 0).all()


@pytest.mark.parametrize(
    ("num_features", "num_groups", "layout", "groups"),
    [
        (64, 8, Layout.MAPS, 8),
        (100, 8, Layout.VECTORS, 5),  # 6, 7 and 8 do not divide 100
        (100, 32, Layout.VECTORS, 25),
        (7, 4, Layout.MAPS, 1),
        (4, 32, Layout.MAPS, 4),
        (4, 32, Layout.VECTORS, 2),  # a group of one feature would always give 0
        (1, 8, Layout.MAPS, 1),
        (1, 8, Layout.VECTORS, 1),
        (4, 32, Layout.TOKENS, 2),
    ],
)
def test_groups_adapt_to_the_channels(num_features: int, num_groups: int, layout: Layout, groups: int) -> None:
    assert groups_for(num_features, num_groups, layout) == groups


NORMS = {
    "none": no_norm(),
    "batch": batch_norm(),
    "layer": layer_norm(),
    "group": group_norm(),
    "instance": instance_norm(),
    "weight": weight_norm(),
    "local_response": local_response_norm(),
}


def test_batch_and_instance_norm_alone_absorb_the_bias() -> None:
    assert {name for name, norm in NORMS.items() if norm.absorbs_bias} == {"batch", "instance"}


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="eps must be positive and finite, got 0"):
        batch_norm(eps=0)
    with pytest.raises(ValueError, match="eps must be positive and finite, got -1"):
        layer_norm(eps=-1)
    with pytest.raises(ValueError, match=r"momentum must be in \(0, 1\], got 0"):
        batch_norm(momentum=0)
    with pytest.raises(ValueError, match=r"momentum must be in \(0, 1\], got 1.5"):
        batch_norm(momentum=1.5)
    with pytest.raises(ValueError, match="num_groups must be at least 1, got 0"):
        group_norm(num_groups=0)
    with pytest.raises(ValueError, match="eps must be positive and finite, got 0"):
        group_norm(eps=0)
    with pytest.raises(ValueError, match="eps must be positive and finite, got 0"):
        instance_norm(eps=0)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        local_response_norm(size=0)
    for name in ("alpha", "beta", "k"):
        with pytest.raises(ValueError, match=f"{name} must be positive and finite, got 0"):
            local_response_norm(**{name: 0})  # type: ignore[arg-type]
