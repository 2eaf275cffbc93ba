"""A distributed hyperparameter experiment orchestrator for deep vision networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.serving.loading import load_model as load_model

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What is imported when it is used first: the command line answers without it."""
    if name == "load_model":
        from orchestrator.serving.loading import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
