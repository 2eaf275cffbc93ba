"""Squeeze and excitation: Hu et al. 2018, Squeeze-and-Excitation Networks, arXiv:1709.01507."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from models import checks
from models.layers.activation import Activation
from models.layers.place import Layout


class SqueezeExcite(nn.Module):
    """Each channel of (N, C, H, W) times a factor in (0, 1) that depends on the means of all channels.

    Args:
        squeezed: features between the two fully connected layers, which are 1x1 convolutions here.
        activation: between the two.
        gate: makes the factors; the paper's sigmoid where absent.
    """

    def __init__(
        self, num_features: int, squeezed: int, *, activation: Activation, gate: nn.Module | None = None
    ) -> None:
        super().__init__()
        checks.at_least("squeezed", squeezed, 1)
        self.factors = nn.Sequential(
            OrderedDict[str, nn.Module](
                pool=nn.AdaptiveAvgPool2d(1),
                reduce=nn.Conv2d(num_features, squeezed * activation.pieces, 1),
                activation=activation.layer(squeezed, Layout.MAPS),
                expand=nn.Conv2d(squeezed, num_features, 1),
                gate=nn.Sigmoid() if gate is None else gate,
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.factors(x)
        return out
