"""What a network returns: logits, or the logits of a main classifier and of auxiliary ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """Main and auxiliary outputs of one network; a network without auxiliary classifiers returns a tensor instead.

    A network that has auxiliary classifiers in training only may return a tensor in evaluation.

    Args:
        main: logits (N, num_classes); evaluation and predictions look at these alone.
        auxiliary: further logits (N, num_classes), each of which is trained on the same labels.
        auxiliary_weight: what the loss of each auxiliary output is multiplied by before it is added to the main one;
            0.3 in Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842, section 5.
    """

    main: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    auxiliary_weight: float = 0.3


def main_output(outputs: Tensor | Outputs) -> Tensor:
    """The logits (N, num_classes) that predictions are made from."""
    return outputs.main if isinstance(outputs, Outputs) else outputs
