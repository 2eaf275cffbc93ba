"""Orthogonal initialization: singular values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.initializers import initialize
from models.initializers.orthogonal import orthogonal


@pytest.mark.parametrize(
    "layer", [nn.Linear(20, 20), nn.Linear(30, 20), nn.Linear(20, 30), nn.Conv2d(4, 50, 3), nn.Conv2d(4, 20, 3)]
)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_all_singular_values_are_the_scale(layer: nn.Conv2d | nn.Linear, scale: float) -> None:
    initialize(layer, orthogonal(scale=scale), torch.Generator().manual_seed(0))

    values = torch.linalg.svdvals(layer.weight.detach().flatten(1))

    torch.testing.assert_close(values, torch.full_like(values, scale), atol=1e-5, rtol=0)


def test_a_product_of_square_layers_stays_orthogonal() -> None:
    layers = nn.Sequential(*(nn.Linear(20, 20, bias=False) for _ in range(8)))
    initialize(layers, orthogonal(), torch.Generator().manual_seed(0))
    x = torch.eye(20)

    with torch.no_grad():
        product = layers(x)

    torch.testing.assert_close(product @ product.T, torch.eye(20), atol=1e-5, rtol=0)


def test_scale_is_checked() -> None:
    with pytest.raises(ValueError, match="scale must be positive and finite, got 0"):
        orthogonal(scale=0)
