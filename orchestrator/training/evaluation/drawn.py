"""Random numbers of images, which follow from a seed and an image's place: the same however images are divided into batches."""

from __future__ import annotations

import torch
from torch import Tensor

from orchestrator.training.device import derive_seed, generator

BLOCK = 64
"""Places whose numbers one generator draws: to make one for each would take longer than the network."""


def uniform(seed: int, first: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers uniform in [0, 1) for the places from `first`, one row each; a row depends on the seed and its place alone."""
    count, *others = shape
    blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
    drawn = [torch.rand(BLOCK, *others, generator=generator(derive_seed(seed, "block", block))) for block in blocks]
    return torch.cat(drawn)[first - blocks.start * BLOCK :][:count]


def subsets(seed: int, first: int, count: int, *, of: int, size: int) -> Tensor:
    """Random sets of `size` of the numbers 0, 1, ..., `of` - 1 for the places from `first`: int64 [count, size].

    In every `of` places that follow each other from a multiple of `of` on, each number is chosen equally often. The set of a
    place is part of its larger sets.
    """
    places = torch.arange(first, first + count)
    cycles = torch.div(places, of, rounding_mode="floor")
    start = int(cycles[0])
    orders = uniform(seed, start, (int(cycles[-1]) - start + 1, of)).argsort(1)
    within = (places[:, None] + torch.arange(size)) % of
    return orders[cycles - start].gather(1, within)
