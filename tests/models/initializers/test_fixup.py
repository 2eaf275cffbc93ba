"""Fixup: which layers are 0, and how the others are scaled."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.checks import RefusedError
from models.initializers import initialize
from models.initializers.fixup import fixup
from models.layers.activation import relu
from models.layers.norm import no_norm, weight_norm
from models.layers.residual import residual_branches
from models.layers.units import Slot, Style, basic_unit
from models.resnet import resnet_cifar


def network() -> nn.Module:
    model = resnet_cifar(num_classes=3, in_channels=1, image_size=(8, 8), depth=20, width=32, norm=no_norm())
    initialize(model, fixup(), torch.Generator().manual_seed(0))
    return model


def test_the_classifier_and_the_last_layer_of_each_branch_are_zero_and_the_first_is_scaled() -> None:
    model = network()

    assert not model.get_parameter("classifier.weight").any()
    branches = list(residual_branches(model))
    assert len(branches) == 9
    for branch in branches:
        first, last = (one for one in branch.parameters() if one.ndim == 4)
        assert not last.any()
        # L = 9 branches of m = 2 layers: Kaiming's times 9^(-1/2); 9,216 draws or more, 3 % are 4 sigma
        fan_in = first[0].numel()
        assert first.std().item() == pytest.approx(math.sqrt(2 / fan_in) / 3, rel=0.03)


def test_gain_and_biases_are_those_of_kaiming_where_it_is_not_zero() -> None:
    models = [network(), network()]
    initialize(models[1], fixup(gain=1.0, bias_value=0.5), torch.Generator().manual_seed(0))
    (relu_first, _), (first, last) = (
        [one for one in next(iter(residual_branches(model))).parameters() if one.ndim == 4] for model in models
    )
    torch.testing.assert_close(first, relu_first / math.sqrt(2))
    assert not last.any()
    assert all((value == 0.5).all() for name, value in models[1].named_parameters() if name.endswith("bias"))


def test_every_residual_block_begins_as_its_shortcut() -> None:
    model = network().eval()
    features = torch.rand(2, 32, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.get_submodule("stage1")(features), features)


def test_a_gate_is_not_the_last_layer_of_a_branch() -> None:
    style = Style(no_norm(), relu(), "A", se_reduction=2)
    model = nn.Sequential(basic_unit(Slot(4, 4, 1), style), nn.Flatten(), nn.Linear(4, 2))
    initialize(model, fixup(), torch.Generator().manual_seed(0))
    (branch,) = residual_branches(model)
    zero = [name for name, one in branch.named_parameters() if one.ndim == 4 and not one.any()]
    assert zero == ["1.affine.weight"]


def test_a_network_without_branches_is_told_what_to_choose() -> None:
    with pytest.raises(RefusedError, match=r"fixup needs residual branches, .* choose model=resnet_cifar"):
        initialize(nn.Linear(2, 2), fixup(), torch.Generator())


def test_weight_normalization_is_refused() -> None:
    model = resnet_cifar(num_classes=3, in_channels=1, image_size=(8, 8), depth=8, norm=weight_norm())
    with pytest.raises(RefusedError, match=r"fixup sets weights to 0, which have no direction .* choose norm=none"):
        initialize(model, fixup(), torch.Generator())
