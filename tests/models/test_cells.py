"""NASNet and AmoebaNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import models
from models.cells import FOREIGN
from models.layers.activation import relu
from models.layers.cell import Cell
from models.layers.drop_path import DropPath
from models.layers.norm import batch_norm, no_norm
from models.network import Network, after_part, features_of
from tests.models.oracle import assert_same

NAMES = ("nasnet_a_mobile", "nasnet_a_large", "nasnet_a_cifar", "amoebanet_a")
TIMM = FOREIGN["nasnet"]["timm"]


def build(name: str, size: tuple[int, int], num_classes: int = 10, **own: Any) -> Network:
    model = models.create(name, num_classes=num_classes, in_channels=3, image_size=size, **own)
    assert isinstance(model, Network)
    return model


def small(name: str = "nasnet_a_cifar", size: tuple[int, int] = (8, 8), **own: Any) -> Network:
    torch.manual_seed(0)
    return build(name, size, **{"cells": 1, "filters": 4, "stem_channels": 8} | own)


def count(name: str, size: int, num_classes: int, **own: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, (size, size), num_classes, **own).parameters())


def theirs(filters: int, stem: int) -> nn.Module:
    """timm's class, six cells a stage, with other numbers of channels."""
    from timm.models.nasnet import NASNetALarge

    return NASNetALarge(num_classes=10, stem_size=stem, num_features=24 * filters)


@pytest.mark.slow
def test_nasnet_a_large_equals_timm() -> None:
    import timm

    assert_same(build("nasnet_a_large", (35, 35)), timm.create_model("nasnetalarge", num_classes=10), TIMM, 35)


@pytest.mark.slow
def test_with_the_filters_of_mobile_it_equals_timm() -> None:
    ours = build("nasnet_a_mobile", (64, 64), cells=6, skip_reduction=True)

    assert_same(ours, theirs(44, 32), TIMM, 64)


@pytest.mark.slow  # importing timm takes seconds
@pytest.mark.parametrize("size", [35, 46])
def test_with_few_filters_it_equals_timm(size: int) -> None:
    ours = build("nasnet_a_large", (size, size), filters=8, stem_channels=6)

    assert_same(ours, theirs(8, 6), TIMM, size)


@pytest.mark.parametrize(
    ("name", "size", "classes", "own", "total"),
    [
        ("nasnet_a_mobile", 224, 1000, {}, 5_289_978),  # 5.3M in table 2 of Zoph et al. 2018; this is Keras's
        ("nasnet_a_large", 331, 1000, {}, 88_753_150),  # 88.9M there, with the running statistics: 88,949,818 in Keras
    ],
)
def test_parameters_of_nasnet(name: str, size: int, classes: int, own: dict[str, Any], total: int) -> None:
    assert count(name, size, classes, **own) == total


@pytest.mark.parametrize(
    ("name", "size", "classes", "own", "millions"),
    [
        ("nasnet_a_cifar", 32, 10, {}, 3.3),  # Zoph et al. 2018, table 1
        # Real et al. 2019, tables 1 to 3.
        ("amoebanet_a", 331, 1000, {}, 86.7),
        ("amoebanet_a", 224, 1000, {"cells": 4, "filters": 50}, 5.1),
        ("amoebanet_a", 32, 10, {"stem": "cifar", "filters": 32, "stem_channels": 96}, 2.6),
        ("amoebanet_a", 32, 10, {"stem": "cifar", "filters": 36, "stem_channels": 108}, 3.2),
    ],
)
def test_parameters_of_the_papers(name: str, size: int, classes: int, own: dict[str, Any], millions: float) -> None:
    """To the last digit that the papers print."""
    assert round(count(name, size, classes, **own) / 1e6, 1) == millions


def test_parameters_of_the_largest_amoebanet() -> None:
    """469M in table 3 of Real et al. 2019; ours has 0.2 % fewer."""
    assert count("amoebanet_a", 331, 1000, filters=448) == pytest.approx(469e6, rel=0.002)


@pytest.mark.parametrize(
    ("name", "features"), [("nasnet_a_mobile", 1056), ("nasnet_a_large", 4032), ("nasnet_a_cifar", 768)]
)
def test_features_before_the_classifier_are_those_of_the_name(name: str, features: int) -> None:
    with torch.device("meta"):
        model = build(name, (64, 64))

    assert model.get_submodule("classifier").in_features == features


def test_stages_halve_the_image_and_hand_on_two_maps() -> None:
    model = small("nasnet_a_mobile", (67, 35))
    x: Any = torch.randn(2, 3, 67, 35)
    shapes = {}
    for name in ("stem", "stage1", "stage2", "stage3"):
        x = model.get_submodule(name)(x)
        shapes[name] = [tuple(each.shape[1:]) for each in x]

    assert shapes["stem"] == [(4, 17, 9), (8, 9, 5)]
    assert shapes["stage1"] == [(8, 9, 5), (24, 9, 5)]
    assert shapes["stage2"] == [(32, 5, 3), (48, 5, 3)]
    assert shapes["stage3"] == [(64, 3, 2), (96, 3, 2)]
    assert features_of(x) is x[1]


def test_a_probe_sees_the_features_of_a_stage() -> None:
    assert after_part(small().eval(), torch.randn(2, 3, 8, 8), "stage2").shape == (2, 48)


def test_drop_path_grows_linearly_over_the_cells() -> None:
    model = build("nasnet_a_cifar", (8, 8), cells=2, filters=4, drop_path=0.4)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]

    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])


def test_the_cell_after_a_reduction_may_read_past_it() -> None:
    """Of cells A and B, a reduction and cell C, the node 1 of C is the output of B, or of A."""
    for skips in (False, True):
        seen = inputs_and_output_of_cells(small(cells=2, skip_reduction=skips, drop_path=0.0).eval())
        last, reduction = seen["stage1.cells.1"], seen["stage2.reduction"]
        first, second = seen["stage2.cells.0"], seen["stage2.cells.1"]
        assert reduction[0] is last[2]
        assert first[0] is reduction[2]
        assert first[1] is (reduction[1] if skips else reduction[0])
        assert second[1] is reduction[2]


def inputs_and_output_of_cells(model: nn.Module) -> dict[str, tuple[torch.Tensor, ...]]:
    """Name of a cell -> its two inputs and its output, for some images."""
    seen: dict[str, tuple[torch.Tensor, ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Cell):
            module.register_forward_hook(lambda _, args, out, name=name: seen.update({name: (*args, out)}))
    model(torch.randn(2, 3, 8, 8))
    return seen


def test_width_scales_all_channels() -> None:
    model = small(width=2.0)

    assert model.get_submodule("classifier").in_features == 2 * 96
    assert model.get_submodule("stem.conv.affine").out_channels == 16


def test_dropout_is_before_the_classifier() -> None:
    assert small(dropout=0.3).get_submodule("dropout").p == 0.3
    assert "dropout" not in small(dropout=0.0).parts


@pytest.mark.parametrize(("name", "eps"), [("nasnet_a_mobile", 1e-3), ("nasnet_a_cifar", 1e-5)])
def test_its_own_norm_and_activation_named_give_the_same(name: str, eps: float) -> None:
    images = torch.randn(2, 3, 35, 35)
    named = small(name, (35, 35), norm=batch_norm(eps=eps), activation=relu(), drop_path=0.0, dropout=0.0)

    assert torch.equal(named(images), small(name, (35, 35), drop_path=0.0, dropout=0.0)(images))


def test_without_a_norm_what_feeds_it_has_a_bias() -> None:
    model = small(norm=no_norm())
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]

    assert all((conv.bias is None) == (conv.groups > 1) for conv in convs)


@pytest.mark.parametrize(("name", "minimum"), [("nasnet_a_mobile", 35), ("nasnet_a_cifar", 5)])
def test_smallest_image(name: str, minimum: int) -> None:
    """The last stage has 2x2 positions; one pixel less, and it has one."""
    model = small(name, (minimum, minimum))

    def positions(size: int) -> int:
        x: Any = torch.randn(2, 3, size, size)
        for part in ("stem", "stage1", "stage2", "stage3"):
            x = model.get_submodule(part)(x)
        return int(x[1].shape[2])

    assert model(torch.randn(2, 3, minimum, minimum)).shape == (2, 10)
    assert positions(minimum) == 2
    assert positions(minimum - 1) == 1
    with pytest.raises(ValueError, match=rf"needs at least {minimum}x{minimum} images, got {minimum}x{minimum - 1}"):
        small(name, (minimum, minimum - 1))


def test_a_cell_that_reads_no_input_is_a_network_too() -> None:
    """A sampler may come to it; its logits are the same for all images."""
    model = small(normal_cell="|none~0|", normal_output=None).eval()

    first, second = model(torch.randn(2, 3, 8, 8))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"cells": 0}, "cells must be at least 1, got 0"),
        ({"filters": 3}, "filters must be at least 4, got 3"),
        ({"stem_channels": 0}, "stem_channels must be at least 1, got 0"),
        ({"stem": "vgg"}, "stem must be one of imagenet, cifar, got vgg"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\), got 1.0"),
        (
            {"normal_cell": "|sep_conv_9x9~0|"},
            "normal_cell: node 2 has the unknown operation 'sep_conv_9x9'; did you mean sep",
        ),
        (
            {"reduction_cell": "|sep_conv_3x3~2|"},
            "reduction_cell: node 2 takes node 2, but only nodes 0 to 1 come before",
        ),
        ({"normal_output": (7,)}, "normal_cell: the output holds node 7; there are 0 to 6"),
        ({"normal_output": ()}, "normal_cell: the output holds no node; there are 0 to 6"),
    ],
)
def test_values_outside_their_range_are_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**own)
