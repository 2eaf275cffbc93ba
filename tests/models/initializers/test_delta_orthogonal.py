"""Delta-orthogonal initialization: an isometry of maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.checks import RefusedError
from models.initializers import initialize
from models.initializers.delta_orthogonal import delta_orthogonal


@pytest.mark.parametrize(
    "conv",
    [nn.Conv2d(6, 10, 3, padding=1, bias=False), nn.Conv2d(6, 12, 3, padding=1, groups=3, bias=False)],
    ids=["plain", "grouped"],
)
def test_property_the_norm_of_every_position_is_kept(conv: nn.Conv2d) -> None:
    initialize(conv, delta_orthogonal(), torch.Generator().manual_seed(0))
    images = torch.randn(4, 6, 5, 7, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        found = conv(images)

    torch.testing.assert_close(found.norm(dim=1), images.norm(dim=1))


def test_all_but_the_middle_of_the_kernel_is_zero() -> None:
    conv = nn.Conv2d(6, 4, (3, 5))
    initialize(conv, delta_orthogonal(scale=2.0), torch.Generator().manual_seed(0))

    middle = conv.weight[:, :, 1, 2].detach().clone()
    torch.testing.assert_close(middle @ middle.T, 4 * torch.eye(4))
    conv.weight.data[:, :, 1, 2] = 0
    assert not conv.weight.any()


def test_a_linear_layer_is_orthogonal() -> None:
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten(), nn.Linear(20, 20))
    initialize(model, delta_orthogonal(), torch.Generator().manual_seed(0))
    layer = model[2]
    assert isinstance(layer, nn.Linear)
    values = torch.linalg.svdvals(layer.weight.detach())
    torch.testing.assert_close(values, torch.ones(20))


@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.Conv2d(3, 3, 1)], ids=["linear", "1x1"])
def test_a_network_in_which_it_is_orthogonal_is_told_so(model: nn.Module) -> None:
    with pytest.raises(RefusedError, match="choose init=orthogonal"):
        initialize(model, delta_orthogonal(), torch.Generator().manual_seed(0))
