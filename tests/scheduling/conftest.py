from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def composed() -> dict[str, Any]:
    from orchestrator.config.planning import plan

    overrides = ["data=synthetic", "model.width=12", "model.hidden=1", "batch_size=16", "search=none", "trials=1"]
    return dict(plan(overrides).base)


@pytest.fixture
def trial_config(composed: dict[str, Any]) -> dict[str, Any]:
    """A complete configuration of a trial that trains in milliseconds."""
    return dict(composed)
