"""Training losses, one a file. A target takes its own settings and gives a `Loss`.

Validation and test always report the plain cross-entropy, so that trials with different losses can be compared.
"""

from orchestrator.training.losses.base import Batch, Loss, as_loss, of_logits
from orchestrator.training.losses.cross_entropy import cross_entropy
from orchestrator.training.losses.hinge import hinge

__all__ = ["Batch", "Loss", "as_loss", "cross_entropy", "hinge", "of_logits"]
