"""Nearest neighbours among the examples, by their pixels and by the features of each layer."""

from __future__ import annotations

import torch
from torch import Tensor


def features(outputs: Tensor) -> Tensor:
    """Vectors [N, features] of a layer's outputs: of maps the mean over all positions, of tokens that over the tokens."""
    if outputs.ndim == 4:
        return outputs.mean((2, 3))
    return outputs.mean(1) if outputs.ndim == 3 else outputs.flatten(1)


def nearest(features_ND: Tensor, count: int = 1) -> Tensor:
    """The places [N, count] of the nearest other examples by Euclidean distance, the nearest first."""
    vectors = features_ND.double()
    squares = vectors.square().sum(1)
    distances = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    distances.fill_diagonal_(torch.inf)
    return distances.topk(min(count, len(vectors) - 1), dim=1, largest=False).indices


def accuracy(features_ND: Tensor, labels: Tensor) -> float:
    """The share of examples whose nearest other example is of their class."""
    return float((labels[nearest(features_ND)[:, 0]] == labels).double().mean())
