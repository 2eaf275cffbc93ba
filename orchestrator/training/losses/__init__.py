"""Training losses, one a file. A target takes its own settings and gives a `Loss`.

Validation and test always report the plain cross-entropy, so that trials with different losses can be compared.
"""

from orchestrator.training.losses.base import Loss
from orchestrator.training.losses.cross_entropy import cross_entropy

__all__ = ["Loss", "cross_entropy"]
