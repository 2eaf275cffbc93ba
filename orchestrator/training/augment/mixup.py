"""Mixup: convex combinations of pairs of examples of a batch, images and labels alike.

Paper: Zhang et al. 2018, mixup: Beyond empirical risk minimization, arXiv:1710.09412.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestrator.training.augment import Augment

PROPOSALS = 12


def mixup(*, alpha: float = 0.2) -> Augment:
    """Mixes each example with another one of its batch, with a weight from Beta(alpha, alpha).

    Raises:
        ValueError: `alpha` is not in (0, 100].
    """
    if not 0 < alpha <= 100:
        raise ValueError(f"alpha must be more than 0 and at most 100, got {alpha:g}")
    return _Mixup(alpha)


@dataclass(frozen=True)
class _Mixup:
    alpha: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        return images

    def mix(self, images: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        count = len(images)
        weight_N = draw_beta(count, self.alpha, generator).to(images.device)
        other_N = torch.randperm(count, generator=generator, device=generator.device).to(images.device)
        weight = weight_N[:, None, None, None]
        targets_NK = F.one_hot(labels, classes).to(torch.float32)
        mixed = weight * images + (1 - weight) * images[other_N]
        return mixed, weight_N[:, None] * targets_NK + (1 - weight_N[:, None]) * targets_NK[other_N]


def draw_beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """`count` numbers from Beta(alpha, alpha), float32, on the generator's device: x / (x + y) of two gamma variables.

    A gamma variable of a small shape a underflows: it is one of shape a + 1 times U^(1/a), and logarithms are subtracted.
    """
    device = generator.device
    uniform_2N = torch.rand(2, count, dtype=torch.float64, generator=generator, device=device)
    x_N, y_N = _log_gamma(2 * count, alpha + 1, generator).view(2, count) + uniform_2N.log() / alpha
    return torch.sigmoid(x_N - y_N).float()


def _log_gamma(count: int, shape: float, generator: torch.Generator) -> Tensor:
    """Logarithms of gamma variables of a shape of at least 1; float64.

    Source: Marsaglia and Tsang 2000, A simple method for generating gamma variables. More than 95 % of the proposals are
    accepted, so that the last of twelve is taken unseen once in 10^15 times.
    """
    size, device = (PROPOSALS, count), generator.device
    normal_TN = torch.randn(size, dtype=torch.float64, generator=generator, device=device)
    uniform_TN = torch.rand(size, dtype=torch.float64, generator=generator, device=device)
    scale = shape - 1 / 3
    base_TN = 1 + normal_TN / math.sqrt(9 * scale)
    log_TN = 3 * base_TN.clamp(min=1e-300).log()
    accepted_TN = (base_TN > 0) & (uniform_TN.log() < normal_TN**2 / 2 + scale * (1 - log_TN.exp() + log_TN))
    accepted_TN[-1] = True
    first_1N = accepted_TN.int().argmax(0, keepdim=True)
    return math.log(scale) + log_TN.gather(0, first_1N)[0]
