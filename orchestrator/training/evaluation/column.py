"""One column of a fractal network alone, a plain network of its own depth.

Paper: Larsson et al. 2017, FractalNet: Ultra-Deep Neural Networks without Residuals, arXiv:1605.07648, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.fractalnet import FractalBlock, FractalNetwork
from orchestrator.training.evaluation.base import Evaluation, Image, Look


def column(*, column: int = 1) -> Evaluation:
    """One pass in which each block is one of its columns alone, as in training where columns are dropped globally.

    Args:
        column: 1 is the shallowest, of one convolution in each block; column c has 2^(c-1).

    Raises:
        ValueError: `column` is below 1. (When a network is there) it is no fractal network, or has fewer columns.
    """
    if column < 1:
        raise ValueError(f"column must be at least 1, the shallowest, got {column}")
    return _Column(column)


@dataclass(frozen=True)
class _Column:
    column: int

    def check(self, model: nn.Module, image: Image) -> None:
        del image
        if not isinstance(model, FractalNetwork):
            raise ValueError("needs a fractal network, which has columns; set model=fractalnet or evaluate=single_crop")
        if self.column > model.columns:
            raise ValueError(f"column must be at most {model.columns}, the columns of this network, got {self.column}")

    def passes(self, image_size: tuple[int, int]) -> int:
        del image_size
        return 1

    def answers(self, model: nn.Module, look: Look, stored: Tensor, first: int) -> Iterator[Tensor]:
        del first
        blocks = [module for module in model.modules() if isinstance(module, FractalBlock)]
        handles = [block.register_forward_pre_hook(self._alone) for block in blocks]
        try:
            yield look(stored)
        finally:
            for handle in handles:
                handle.remove()

    def _alone(self, block: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        assert isinstance(block, FractalBlock)
        return (given[0], block.only(self.column))
