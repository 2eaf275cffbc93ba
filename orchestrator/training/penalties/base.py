"""What a penalty is to the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

Penalty: TypeAlias = Callable[[nn.Module], Tensor]
"""From the model to a scalar that is added to the loss before the gradient is taken; `train/loss` does not contain it."""
