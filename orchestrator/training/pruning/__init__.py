"""Networks of which some weights are zero for ever: which ones, and how they stay so."""

from orchestrator.training.pruning.base import Pruned, Pruning, prunable
from orchestrator.training.pruning.lottery_ticket import lottery_ticket

__all__ = ["Pruned", "Pruning", "lottery_ticket", "prunable"]
