"""Singular values of the products W_l ... W_1 of the linear layers that follow each other, Saxe et al. 2014, arXiv:1312.6120."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 1024
"""Where a matrix has a longer shorter side there are no singular values, only their mean square: they would take minutes."""

PROBES = 256


@dataclass(frozen=True)
class Product:
    """W_l ... W_1.

    Args:
        layers: l.
        rms: of its singular values.
        predicted: of independent random weights of the same variances; (k sigma^2)^(l/2) for square ones.
        values: the singular values, falling; none where matrices are large.
    """

    layers: int
    rms: float
    predicted: float
    values: tuple[float, ...]

    @property
    def most(self) -> float | None:
        return self.values[0] if self.values else None

    @property
    def median(self) -> float | None:
        count = len(self.values)
        return (self.values[(count - 1) // 2] + self.values[count // 2]) / 2 if count else None


def products(weights: Sequence[Tensor]) -> list[Product]:
    """Of the first matrices that fit each other; none where the first is no matrix.

    Args:
        weights: of all layers in the order of computation, (outputs, inputs, *kernel).
    """
    chain = _chain(weights)
    large = any(min(matrix.shape) > LARGEST for matrix in chain)
    found: list[Product] = []
    product: Tensor | None = None
    expected = 0.0  # the mean of the squared Frobenius norm
    for matrix in chain:
        if product is None:
            inputs = matrix.shape[1]
            product = _probes(inputs, matrix) if large else torch.eye(inputs, dtype=matrix.dtype, device=matrix.device)
            expected = float(inputs)
        product = matrix @ product
        expected *= matrix.shape[0] * matrix.square().mean().item()
        count = min(matrix.shape[0], inputs)
        square = product.square().sum().item()
        values = () if large else tuple(torch.linalg.svdvals(product).tolist())
        found.append(Product(len(found) + 1, math.sqrt(square / count), math.sqrt(expected / count), values))
    return found


def _chain(weights: Sequence[Tensor]) -> list[Tensor]:
    """The first matrices that fit each other, in float64."""
    chain: list[Tensor] = []
    for weight in weights:
        if weight.ndim != 2 or (chain and weight.shape[1] != chain[-1].shape[0]):
            break
        chain.append(weight.detach().double())
    return chain


def _probes(inputs: int, like: Tensor) -> Tensor:
    """Random vectors instead of all: the sum of squares of what becomes of them is that of the product, within about 1 %."""
    drawn = torch.randn(inputs, PROBES, generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    return drawn.to(like.device) / math.sqrt(PROBES)
