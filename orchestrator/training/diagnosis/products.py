"""Singular values of the products W_l ... W_1 of the linear layers that follow each other, Saxe et al. 2014, arXiv:1312.6120."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 1024
"""Matrices with a longer shorter side have no singular values here, only their mean square: they take minutes."""


@dataclass(frozen=True)
class Product:
    """W_l ... W_1.

    Args:
        layers: l.
        rms: of its singular values.
        predicted: of independent random weights of the same variances; (k sigma^2)^(l/2) for square ones.
        values: the singular values, falling; none where there are too many.
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
    found: list[Product] = []
    product: Tensor | None = None
    expected = 0.0  # the mean of the squared Frobenius norm
    for weight in weights:
        if weight.ndim != 2 or (product is not None and weight.shape[1] != product.shape[0]):
            break
        matrix = weight.detach().double()
        product = matrix if product is None else matrix @ product
        square = matrix.square().mean().item()
        expected = matrix.shape[0] * square * (expected or matrix.shape[1])
        count = min(product.shape)
        values = torch.linalg.svdvals(product).tolist() if count <= LARGEST else []
        rms = math.sqrt(product.square().sum().item() / count)
        found.append(Product(len(found) + 1, rms, math.sqrt(expected / count), tuple(values)))
    return found
