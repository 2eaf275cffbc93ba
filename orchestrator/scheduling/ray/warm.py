"""Imported by every Ray worker when it starts, so that the first trial does not wait for it."""

import orchestrator.scheduling.ray.worker
import orchestrator.training.trial  # noqa: F401
