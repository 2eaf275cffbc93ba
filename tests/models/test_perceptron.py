"""Rosenblatt's cross-coupled and series-coupled perceptrons."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import models
from models.layers.activation import sigmoid
from models.layers.norm import batch_norm, no_norm
from models.perceptron import perceptron

SHAPE = {"num_classes": 3, "in_channels": 1, "image_size": (2, 3)}
WIDTH = 4
IMAGES = torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0))


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.create(name, **SHAPE, width=WIDTH)  # type: ignore[arg-type]


def test_parameters_by_hand() -> None:
    """Cross-coupled adds the weights from 6 sensory units to the second group, and from the first group to 3 responses."""
    series = 6 * 4 + 4 + 4 * 4 + 4 + 4 * 3 + 3

    totals = [sum(p.numel() for p in built(name).parameters()) for name in ("series_coupled", "cross_coupled")]

    assert totals == [series, series + 6 * 4 + 4 * 3]


def test_cross_coupled_without_its_skips_is_series_coupled() -> None:
    cross, series = built("cross_coupled"), built("series_coupled")
    second, responses = cross.get_submodule("stage1.second.affine"), cross.get_submodule("classifier")
    assert isinstance(second, nn.Linear)
    assert isinstance(responses, nn.Linear)
    with torch.no_grad():
        second.weight[:, :6] = 0  # from the sensory units
        responses.weight[:, :4] = 0  # from the first group
        copies = {
            "stage1.affine.weight": cross.get_parameter("stage1.first.affine.weight"),
            "stage1.affine.bias": cross.get_parameter("stage1.first.affine.bias"),
            "stage2.affine.weight": second.weight[:, 6:],
            "stage2.affine.bias": second.bias,
            "classifier.weight": responses.weight[:, 4:],
            "classifier.bias": responses.bias,
        }
        series.load_state_dict(copies)

        torch.testing.assert_close(cross(IMAGES), series(IMAGES))


def test_without_the_connections_between_the_groups_only_cross_coupled_sees_the_image() -> None:
    """The skips carry the signal on: what a residual network has them for."""

    def spread_over_images(model: nn.Module, coupling: Tensor) -> float:
        with torch.no_grad():
            coupling.zero_()
            logits: Tensor = model(IMAGES)
        return logits.std(0).max().item()

    cross, series = built("cross_coupled"), built("series_coupled")

    assert spread_over_images(series, series.get_parameter("stage2.affine.weight")) == 0
    assert spread_over_images(cross, cross.get_parameter("stage1.second.affine.weight")[:, 6:]) > 0.01


def test_the_own_norm_and_activation_may_be_named() -> None:
    torch.manual_seed(0)
    named = perceptron(**SHAPE, width=WIDTH, norm=no_norm(), activation=sigmoid())  # type: ignore[arg-type]

    torch.testing.assert_close(named(IMAGES), built("cross_coupled")(IMAGES), rtol=0, atol=0)


def test_batch_norm_takes_the_place_of_the_biases() -> None:
    names = dict(perceptron(**SHAPE, norm=batch_norm()).named_parameters())  # type: ignore[arg-type]

    assert not [name for name in names if name.endswith("affine.bias")]


def test_dropout_is_before_the_responses() -> None:
    model = perceptron(**SHAPE, dropout=0.25)  # type: ignore[arg-type]

    assert model.parts == ("flatten", "stage1", "dropout", "classifier")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"coupling": "back"}, "coupling must be one of series, cross, got back"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"stem": "cifar"}, "cross_coupled takes no stem: it has no convolutions"),
    ],
)
def test_own_values_are_checked(own: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create("cross_coupled", **SHAPE, **own)  # type: ignore[arg-type]
