"""Optimizers, one a file. A target takes the model's parameters and its own settings and gives a `torch.optim.Optimizer`."""

from orchestrator.training.optimizers.adam import adam
from orchestrator.training.optimizers.adamw import adamw
from orchestrator.training.optimizers.rmsprop import rmsprop
from orchestrator.training.optimizers.sgd import sgd

__all__ = ["adam", "adamw", "rmsprop", "sgd"]
