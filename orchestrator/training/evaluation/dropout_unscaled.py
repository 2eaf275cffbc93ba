"""Dropout without its factor at test: what the weight-scaling rule is there to avoid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from orchestrator.training.evaluation.base import Evaluation, Image, Look
from orchestrator.training.evaluation.dropout import check_dropout, dropout_layers, instead


def dropout_unscaled() -> Evaluation:
    """One pass in which activations are larger than expected in training, by 1 / keep after each dropout layer.

    Where training does not scale, and test leaves the factor `keep` out, activations are too large by 1 / keep. torch scales in
    training: the same network has its weights divided by `keep` there, and so the same test multiplies by 1 / keep.

    Source: Srivastava et al. 2014, Dropout, section 4, whose rule it leaves out.
    """
    return _Unscaled()


@dataclass(frozen=True)
class _Unscaled:
    def check(self, model: nn.Module, image: Image) -> None:
        del image
        check_dropout(model)
        if any(layer.p == 1 for layer in dropout_layers(model)):
            raise ValueError("cannot leave out the factor of a dropout layer that keeps nothing (rate 1)")

    def passes(self, image_size: tuple[int, int]) -> int:
        del image_size
        return 1

    def answers(self, model: nn.Module, look: Look, stored: Tensor, first: int) -> Iterator[Tensor]:
        del first
        with instead(model, _divided):
            yield look(stored)


def _divided(layer: _DropoutNd, given: Tensor, call: int) -> Tensor:
    del call
    return given / (1 - layer.p)
