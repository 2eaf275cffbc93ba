"""What initializers are told of each parameter."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from models.initializers import NamedParameter, Role, Weight, named_parameters, weights


def roles(model: nn.Module) -> dict[str, str]:
    return {parameter.name: parameter.role.value for parameter in named_parameters(model)}


@pytest.mark.parametrize(
    ("layer", "fans"),
    [
        (nn.Linear(7, 5), (7, 5)),
        (nn.Conv2d(4, 6, 3), (36, 54)),
        (nn.Conv2d(4, 6, 3, groups=2), (18, 27)),
        (nn.Conv2d(4, 6, (1, 5)), (20, 30)),
        (nn.Conv2d(4, 4, 3, groups=4), (9, 9)),
        (nn.Conv1d(4, 6, 3), (12, 18)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (18, 27)),
    ],
)
def test_fans(layer: nn.Module, fans: tuple[int, int]) -> None:
    assert [(weight.fan_in, weight.fan_out) for weight in weights(layer)] == [fans]


def test_layers_and_norms_in_the_order_of_registration() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU(), nn.Flatten(), nn.Linear(2, 2))

    assert list(roles(model).items()) == [
        ("0.weight", "weight"),
        ("0.bias", "bias"),
        ("1.weight", "gain"),
        ("1.bias", "shift"),
        ("2.weight", "other"),
        ("4.weight", "weight"),
        ("4.bias", "bias"),
    ]


def test_attention_has_a_weight_each_for_query_key_and_value() -> None:
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)

    found = {weight.name: (tuple(weight.tensor.shape), weight.fan_in, weight.fan_out) for weight in weights(attention)}

    assert found == {f"in_proj_weight[{part}]": ((4, 4), 4, 4) for part in range(3)} | {
        "out_proj.weight": ((4, 4), 4, 4)
    }
    assert roles(attention)["in_proj_bias"] == "bias"
    assert roles(attention)["bias_k"] == roles(attention)["bias_v"] == "token"


def test_attention_with_keys_of_another_width_has_separate_projections() -> None:
    attention = nn.MultiheadAttention(4, 2, kdim=6)

    assert {weight.name: weight.fan_in for weight in weights(attention)} == {
        "q_proj_weight": 4,
        "k_proj_weight": 6,
        "v_proj_weight": 4,
        "out_proj.weight": 4,
    }


class Packed(nn.Linear):
    parameter_parts: ClassVar = {"weight": 2}
    parameter_roles: ClassVar = {"gamma": Role.GAIN}

    def __init__(self) -> None:
        super().__init__(3, 8)
        self.gamma = nn.Parameter(torch.ones(8))


@pytest.mark.parametrize("layer", [Packed(), weight_norm(Packed())])
def test_a_module_says_what_its_parameters_are(layer: nn.Module) -> None:
    assert roles(layer)["gamma"] == "gain"
    first, second = weights(layer)
    assert (first.name, second.name) == ("weight[0]", "weight[1]")
    assert (first.fan_in, first.fan_out) == (3, 4)

    with torch.no_grad():
        second.fill(torch.full((4, 3), 2.0))

    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    torch.testing.assert_close(weight[4:], torch.full((4, 3), 2.0))
    torch.testing.assert_close(weight[:4], first.tensor)


def test_a_parametrized_weight_is_visited_once_as_the_module_has_it() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(3, 2)), nn.Linear(2, 2))

    assert roles(model) == {"0.weight": "weight", "0.bias": "bias", "1.weight": "weight", "1.bias": "bias"}


def test_a_shared_parameter_is_visited_once() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight

    assert list(roles(nn.Sequential(first, second))) == ["0.weight"]


def test_the_owner_is_told() -> None:
    linear = nn.Linear(2, 2)

    (weight, bias) = named_parameters(nn.Sequential(linear))

    assert isinstance(weight, Weight)
    assert type(bias) is NamedParameter
    assert weight.module is bias.module is linear
    assert (weight.attribute, bias.attribute) == ("weight", "bias")
