"""The norms of the parameters as penalties on the loss: what l1, l2 and elastic_net have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Chosen = Literal["weights", "all"]


@dataclass(frozen=True)
class NormPenalty:
    """absolute * sum |w| + squared * sum w^2.

    Args:
        parameters: of those that are trained, `weights` leaves biases and the scales of norms free (those of fewer than two
            dimensions).
    """

    absolute: float
    squared: float
    parameters: Chosen

    def __call__(self, model: nn.Module) -> Tensor:
        least = 0 if self.parameters == "all" else 2
        chosen = [p for p in model.parameters() if p.ndim >= least and p.requires_grad]
        parts = []
        if self.squared or not self.absolute:
            parts.append(self.squared * torch.stack([p.square().sum() for p in chosen]).sum())
        if self.absolute:
            parts.append(self.absolute * torch.stack([p.abs().sum() for p in chosen]).sum())
        return parts[0] + parts[1] if len(parts) == 2 else parts[0]


def require_strength(strength: float) -> None:
    """Check a strength.

    Raises:
        ValueError: it is negative.
    """
    if strength < 0:
        raise ValueError(f"strength must be at least 0, got {strength:g}")


def refuse_decay_twice(penalty: object, optimizer: torch.optim.Optimizer) -> None:
    """Check that squares are penalized by one part only.

    Weight decay as part of the gradient is the penalty of squares under another name, with weight_decay = 2 * strength. Decoupled
    weight decay (an optimizer with a true `decoupled`, torch's own AdamW) is another thing.

    Raises:
        ValueError: the penalty has squares, and the optimizer has coupled weight decay.
    """
    if not isinstance(penalty, NormPenalty) or not penalty.squared:
        return
    for group in optimizer.param_groups:
        decoupled = getattr(optimizer, "decoupled", False) or group.get("decoupled_weight_decay", False)
        if group.get("weight_decay") and not decoupled:
            raise ValueError(
                f"penalizes squares, as optimizer.weight_decay={group['weight_decay']:g} does; set"
                " optimizer.weight_decay=0, or penalty=none (weight_decay is twice the strength of squares)"
            )
