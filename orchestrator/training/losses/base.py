"""What a loss is to the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the logits [N, K] and the class ids [N] of a batch to their mean loss, a scalar."""
