"""Drop-path: the branch of a residual unit is left out for some of the examples of a mini-batch."""

from __future__ import annotations

from torch import Tensor, nn

from models import checks


class DropPath(nn.Module):
    """In training 0 for each example with probability `drop_prob`, else x / (1 - drop_prob); in evaluation x.

    The expectation is x, so that evaluation needs no factor. Each example is drawn by itself: Huang et al. 2016, Deep
    Networks with Stochastic Depth, arXiv:1603.09382, in the form of Larsson et al. 2017 and of the EfficientNets.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        checks.probability("drop_prob", drop_prob)
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        kept = 1 - self.drop_prob
        mask = x.new_empty((len(x),) + (1,) * (x.dim() - 1)).bernoulli_(kept)
        return x * mask.div_(kept)

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob}"
