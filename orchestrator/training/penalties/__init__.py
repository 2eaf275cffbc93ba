"""Penalties added to the loss, one a file. A target takes its own settings and gives a `Penalty`."""

from orchestrator.training.penalties.base import ActivationPenalty, Activations, Penalty, WeightPenalty
from orchestrator.training.penalties.elastic_net import elastic_net
from orchestrator.training.penalties.l1 import l1
from orchestrator.training.penalties.l2 import l2
from orchestrator.training.penalties.norms import NormPenalty, refuse_decay_twice

__all__ = [
    "ActivationPenalty",
    "Activations",
    "NormPenalty",
    "Penalty",
    "WeightPenalty",
    "elastic_net",
    "l1",
    "l2",
    "refuse_decay_twice",
]
