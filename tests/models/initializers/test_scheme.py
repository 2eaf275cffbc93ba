"""Which layers a scheme reaches, and with which fans."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from models.initializers import Scheme, initialize
from models.initializers.kaiming import kaiming
from models.initializers.scheme import Affine, fans


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(7, 5), (7, 5)),
        (nn.Conv2d(4, 6, 3), (36, 54)),
        (nn.Conv2d(4, 6, 3, groups=2), (18, 27)),
        (nn.Conv2d(4, 6, (1, 5)), (20, 30)),
        (nn.Conv2d(4, 4, 3, groups=4), (9, 9)),
    ],
)
def test_fans(layer: Affine, expected: tuple[int, int]) -> None:
    assert fans(layer) == expected


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
