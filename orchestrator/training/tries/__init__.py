"""Tries of parts of a configuration and of its network, and what they find; `orchestrator.training.preflight` makes them."""
