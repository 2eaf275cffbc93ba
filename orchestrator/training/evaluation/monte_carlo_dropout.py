"""Monte-Carlo dropout: the mean prediction over random masks, an ensemble of thinned networks.

Paper: Gal and Ghahramani 2016, Dropout as a Bayesian approximation, section 4, arXiv:1506.02142.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from orchestrator.training.device import derive_seed
from orchestrator.training.evaluation.base import Evaluation, Image, Look
from orchestrator.training.evaluation.drawn import uniform
from orchestrator.training.evaluation.dropout import check_dropout, instead


def monte_carlo_dropout(*, masks: int = 10, seed: int = 0) -> Evaluation:
    """Averages the probabilities of `masks` passes, each with masks of its own for every image and dropout layer.

    A mask follows from the seed, its number, the layer and the image's place among those evaluated: it is the same however
    the images are divided into batches, and on every device.

    Args:
        seed: the engine gives one that follows from the trial's.

    Raises:
        ValueError: `masks` is not from 1 to 10,000. (When a network is there) it has no dropout.
    """
    if not 1 <= masks <= 10_000:
        raise ValueError(f"masks must be from 1 to 10000, got {masks}")
    return _MonteCarlo(masks, seed)


@dataclass(frozen=True)
class _MonteCarlo:
    masks: int
    seed: int

    def check(self, model: nn.Module, image: Image) -> None:
        del image
        check_dropout(model)

    def passes(self, image_size: tuple[int, int]) -> int:
        del image_size
        return self.masks

    def answers(self, model: nn.Module, look: Look, stored: Tensor, first: int) -> Iterator[Tensor]:
        for number in range(self.masks):

            def rule(layer: _DropoutNd, given: Tensor, call: int, number: int = number) -> Tensor:
                if len(given) != len(stored):
                    raise ValueError(
                        f"needs dropout layers that get one row for each of {len(stored)} images, got {len(given)}"
                    )
                drawn = uniform(derive_seed(self.seed, f"mask {number} of layer {call}"), first, _shape(layer, given))
                keep = 1 - layer.p
                return given * (drawn < keep).to(given.device, given.dtype) / (keep or 1)

            with instead(model, rule):
                answer = look(stored)
            yield answer


def _shape(layer: _DropoutNd, given: Tensor) -> tuple[int, ...]:
    """Of the masks: of every number, or, where a layer drops whole channels, of these."""
    if isinstance(layer, nn.Dropout):
        return tuple(given.shape)
    return (*given.shape[:2], *(1 for _ in given.shape[2:]))
