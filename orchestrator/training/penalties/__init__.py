"""Penalties added to the loss, one a file. A target takes its own settings and gives a `Penalty`."""

from orchestrator.training.penalties.base import ActivationPenalty, Activations, Penalty, WeightPenalty
from orchestrator.training.penalties.l2 import l2

__all__ = ["ActivationPenalty", "Activations", "Penalty", "WeightPenalty", "l2"]
