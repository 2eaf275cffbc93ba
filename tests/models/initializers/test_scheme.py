"""Which parameters a scheme reaches, and what it gives them."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from models.initializers import Role, Scheme, initialize, weights
from models.initializers.kaiming import kaiming
from models.initializers.orthogonal import orthogonal
from models.initializers.xavier import xavier
from models.layers.norm import no_norm
from models.layers.residual import residual_branches
from models.resnet import resnet_cifar


def test_biases_are_zero_and_norm_layers_are_left() -> None:
    conv, norm, linear = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)
    nn.init.constant_(norm.weight, 7)
    nn.init.constant_(norm.bias, 8)

    initialize(nn.Sequential(conv, norm, nn.Flatten(), linear), kaiming(), torch.Generator())

    for layer in (conv, linear):
        assert layer.bias is not None
        assert layer.bias.tolist() == [0] * layer.weight.shape[0]
    assert norm.weight.tolist() == [7, 7, 7]
    assert norm.bias.tolist() == [8, 8, 8]


def test_layers_are_drawn_in_order_from_one_generator() -> None:
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)

    initialize(nn.Sequential(first, second), kaiming(), torch.Generator().manual_seed(5))

    twin = torch.Generator().manual_seed(5)
    for layer, fan_in in ((first, 3), (second, 4)):
        expected = torch.empty(layer.weight.shape).normal_(0, (2 / fan_in) ** 0.5, generator=twin)
        assert torch.equal(layer.weight, expected)


def test_weights_still_take_gradients() -> None:
    model = nn.Linear(3, 2)

    initialize(model, kaiming(), torch.Generator())

    assert model.weight.is_leaf
    assert model.weight.requires_grad


def test_no_scheme_leaves_the_weights_and_the_generator() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    generator = torch.Generator()
    state = generator.get_state()

    initialize(model, None, generator)

    assert torch.equal(model.weight, before)
    assert torch.equal(generator.get_state(), state)


def test_meta_models_are_left_alone() -> None:
    model = nn.Linear(3, 2, device="meta")
    generator = torch.Generator()
    state = generator.get_state()

    initialize(model, kaiming(), generator)

    assert torch.equal(generator.get_state(), state)


def test_weight_normalized_layers_get_the_weight_that_was_drawn() -> None:
    plain, normalized = nn.Linear(30, 20), weight_norm(nn.Linear(30, 20))

    for layer in (plain, normalized):
        initialize(layer, kaiming(), torch.Generator().manual_seed(0))

    torch.testing.assert_close(normalized.weight, plain.weight)


def test_a_scheme_may_look_at_images() -> None:
    def mean_of_images(model: nn.Module, generator: torch.Generator, images: Tensor | None) -> None:
        assert images is not None
        for parameter in model.parameters():
            parameter.fill_(images.mean())

    scheme: Scheme = mean_of_images
    model = nn.Linear(2, 2)

    initialize(model, scheme, torch.Generator(), torch.full((4, 2), 3.0))

    assert model.weight.tolist() == [[3, 3], [3, 3]]


class Tokens(nn.Module):
    """A class token, positions, attention over them, and a parameter that nothing is known of."""

    parameter_roles: ClassVar = {"class_token": Role.TOKEN, "positions": Role.POSITION}

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.full((1, 1, 64), 7.0))
        self.positions = nn.Parameter(torch.full((1, 100, 64), 7.0))
        self.temperature = nn.Parameter(torch.tensor(7.0))
        self.attention = nn.MultiheadAttention(64, 4)


def test_in_projections_tokens_and_positions_are_drawn_and_the_unknown_is_left() -> None:
    model = Tokens()
    nn.init.constant_(model.attention.in_proj_bias, 7.0)

    initialize(model, xavier(), torch.Generator().manual_seed(0))

    # Query, key and value each have fan-in 64 and fan-out 64; taken as one matrix, the fan-out would be 192.
    for matrix in (*model.attention.in_proj_weight.detach().split(64), model.attention.out_proj.weight.detach()):
        assert matrix.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)  # 4096 draws: within 4.5 sigma
    assert model.attention.in_proj_bias.tolist() == [0] * 192
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert 0 < model.class_token.abs().max().item() < 0.02 * 5
    assert model.temperature.item() == 7


def test_each_matrix_of_an_in_projection_is_orthogonal() -> None:
    model = Tokens()

    initialize(model, orthogonal(), torch.Generator().manual_seed(0))

    for matrix in model.attention.in_proj_weight.detach().split(64):
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(64), atol=1e-5, rtol=0)


def test_a_branch_is_initialized_by_itself() -> None:
    """What a zero initialization of residual branches does."""

    def last_of_each_branch_zero(model: nn.Module, generator: torch.Generator, images: Tensor | None) -> None:
        for branch in residual_branches(model):
            *_, last = weights(branch)
            last.fill(torch.zeros(()))

    model = resnet_cifar(num_classes=3, in_channels=1, image_size=(8, 8), depth=8, width=4, norm=no_norm())

    initialize(model, last_of_each_branch_zero, torch.Generator())

    zero = [name for name, parameter in model.named_parameters() if parameter.ndim > 1 and not parameter.any()]
    assert zero == [f"stage{stage}.0.branch.1.affine.weight" for stage in (1, 2, 3)]
