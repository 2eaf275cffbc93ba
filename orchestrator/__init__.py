"""A distributed hyperparameter experiment orchestrator for deep vision networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.analysis.frames import epochs as epochs
    from orchestrator.analysis.frames import results as results
    from orchestrator.serving.loading import load_model as load_model

__version__ = "0.1.0"

__all__ = ["__version__", "epochs", "load_model", "results"]

PUBLIC = {
    "load_model": "orchestrator.serving.loading",
    "results": "orchestrator.analysis.frames",
    "epochs": "orchestrator.analysis.frames",
}
"""Public name -> the module that has it."""


def __getattr__(name: str) -> Any:
    """What is imported when it is used first: the command line answers without it."""
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With what is not imported yet, so that an editor or a notebook offers it; without what this file needs itself."""
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
