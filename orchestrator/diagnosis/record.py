"""What a diagnosis found as JSON: numbers and names, without the pictures."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from orchestrator.reports.tables import to_json


def as_json(found: object) -> str:
    """What is not finite is null."""
    return to_json(plain(found))


def plain(found: object) -> Any:
    """Dataclasses as dicts, without the fields that are left out of their own text."""
    if is_dataclass(found):
        return {one.name: plain(getattr(found, one.name)) for one in fields(found) if one.repr}
    if isinstance(found, list | tuple):
        return [plain(one) for one in found]
    if isinstance(found, dict):
        return {str(key): plain(value) for key, value in found.items()}
    return found
