"""A distributed hyperparameter experiment orchestrator for deep vision networks."""

__version__ = "0.1.0"
