"""Normalizations: what they compute, against formulas and against each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


@pytest.mark.parametrize("norm", [layer_norm(), group_norm(num_groups=2)])
def test_layer_and_group_norm_do_not_see_the_batch(norm: Norm, maps: Tensor) -> None:
    layer = norm.layer(6, MAPS)

    torch.testing.assert_close(layer(maps)[:1], layer(maps[:1]))


def test_batch_norm_absorbs_the_scale_of_the_weights(maps: Tensor) -> None:
    layer = batch_norm(eps=1e-12).layer(6, MAPS)

    torch.testing.assert_close(layer(100 * maps), layer(maps))


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
