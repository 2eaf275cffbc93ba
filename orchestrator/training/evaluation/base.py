"""What a way of evaluation is, and the mean of its answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

# N images, K classes

Look = Callable[[Tensor], Tensor]
"""From images as they are stored, [N, C, H, W], to the logits [N, K] of the network, which is in evaluation mode."""

Image = tuple[int, int, int]
"""The shape (C, H, W) of an image."""


@runtime_checkable
class Evaluation(Protocol):
    """Several answers of one network about each image, or one that differs from the ordinary inference."""

    def check(self, model: nn.Module, image: Image) -> None:
        """Leaves the network, its mode and the generators of random numbers as they are.

        Args:
            model: may be on the meta device.

        Raises:
            ValueError: it makes no sense for this network, or for such images.
        """

    def passes(self, image_size: tuple[int, int]) -> int:
        """How often an image goes through the network."""

    def answers(self, model: nn.Module, look: Look, stored: Tensor, first: int) -> Iterator[Tensor]:
        """The logits [N, K] of each pass.

        Args:
            look: asks the model.
            stored: [N, C, H, W].
            first: the place of the first image among those that are evaluated; the others follow it.
        """


def averaged(
    evaluation: Evaluation,
    model: nn.Module,
    look: Look,
    stored: Tensor,
    first: int,
    beat: Callable[[], None] = lambda: None,
) -> Tensor:
    """Logarithms of the mean probabilities over all passes, float32 [N, K]; summed in float64, so that all are finite.

    Args:
        beat: called after every pass.
    """
    total, passes = None, 0
    for answer in evaluation.answers(model, look, stored, first):
        said = torch.log_softmax(answer.double(), 1)
        total = said if total is None else torch.logaddexp(total, said)
        passes += 1
        beat()
    assert total is not None, "an evaluation gives at least one answer"
    return (total - math.log(passes)).float()
