"""What a resume takes from the journal: the plan of before, the sampler's first configuration, the time used up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config import resuming
from orchestrator.config.plan import SweepPlan
from orchestrator.journal.record import SweepRecord


def checked(
    record: SweepRecord, new: SweepPlan, *, more: int | None = None, trials: int | None = None
) -> tuple[SweepPlan, dict[str, Any]]:
    """The plan with which the sweep goes on, and its changes; see `config.resuming.checked`.

    Raises:
        ConfigError: something differs that may not.
    """
    old = SweepPlan.from_json(record.plan)
    return resuming.checked(old, new, suggested=record.configurations, more=more, trials=trials)


def first_config_index(record: SweepRecord, changes: Mapping[str, Any]) -> int:
    """The first configuration that the sampler of a resumed sweep suggests itself."""
    if "space" in changes or "sampler" in changes:
        return record.configurations
    return record.resumes[-1].first_config_index if record.resumes else 0


def spent_s(record: SweepRecord) -> float:
    """How much of its time budget a sweep has used, its last session included."""
    return (record.spent_ms + record.last_ms - record.session_ms) / 1000
