"""The transform of the methods that turn an image, taken as one vector, by a matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# D numbers of an image: channels x height x width

MOST_DIMENSIONS = 4096
"""A matrix of more numbers than this squared (67 MB in float32) would be kept with the weights of each trial."""


@dataclass(frozen=True, eq=False)
class Projection:
    """(x - mean) matrix + offset, in float32, in the shape of the image: number after number, not a picture any more.

    Args:
        mean: float32 [D], on the CPU, as `matrix` and `offset`.
        matrix: float32 [D, D].
        offset: float32 [1].
    """

    mean: Tensor
    matrix: Tensor
    offset: Tensor
    _moved: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        if images.device not in self._moved:
            tensors = (one.to(images.device) for one in (self.mean, self.matrix, self.offset))
            self._moved[images.device] = tuple(tensors)  # type: ignore[assignment]
        mean, matrix, offset = self._moved[images.device]
        with torch.autocast(images.device.type, enabled=False):
            found_ND = (images.flatten(1).to(torch.float32) - mean) @ matrix + offset
        found = found_ND.reshape(images.shape)
        if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
            return found
        return found.contiguous(memory_format=torch.channels_last)
