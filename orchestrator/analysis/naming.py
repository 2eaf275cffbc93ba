"""The short name of a trial, which tells it apart in every table and figure: `12 adam lr=0.0063 batch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.base.groups import GROUPS
from orchestrator.base.text import word

LONGEST = 100


def trial_name(index: int, params: Mapping[str, Any]) -> str:
    """The number, and the searched values in the order of the search; of a choice its name alone, of a key its last part.

    Not unique: numbers are rounded to two digits, and what is long is cut. The trial's number is.
    """
    last = [key.rpartition(".")[2] for key in params]
    parts = [str(index)]
    for key, name in zip(params, last, strict=True):
        value = f"{params[key]:.2g}" if isinstance(params[key], float) else word(params[key])
        if key in GROUPS and value not in ("none", "default"):
            parts.append(value)
        else:
            parts.append(f"{name if last.count(name) == 1 else key}={value}")
    text = " ".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
