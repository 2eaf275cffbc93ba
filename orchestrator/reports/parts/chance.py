"""What guessing comes to, so that a trial that learned nothing can be told from a poor one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.base.recorded import read_plan
from orchestrator.journal.record import SweepRecord, is_number

ERRORS = 3.0
"""So many standard errors of a share above that of guessing are still chance: the best of many epochs is looked at."""

NEAR = 0.02
"""A loss this close to that of guessing, as a share of it, is chance."""


def facts(record: SweepRecord) -> Mapping[str, Any]:
    """What planning found out about the data and the machine; empty where the journal holds no plan."""
    found = read_plan(record.plan).get("facts") if record.plan else None
    return found if isinstance(found, Mapping) else {}


def guess(metric: str, classes: int) -> float:
    """The value of a metric where all classes are equally likely and one is guessed."""
    if metric.endswith("top5_accuracy"):
        return min(5 / classes, 1.0)
    return 1 / classes if metric.endswith("accuracy") else math.log(classes)


def chance_level(metric: str, classes: int, examples: int) -> float:
    """The value up to which (a loss: from which on) nothing was learned.

    Of a share: that of guessing and three standard errors of `examples` guesses; of a loss: 2 % below that of guessing.
    """
    expected = guess(metric, classes)
    if metric.endswith("accuracy"):
        return expected + ERRORS * math.sqrt(expected * (1 - expected) / examples)
    return expected * (1 - NEAR)


def chance_of(record: SweepRecord) -> float | None:
    """The level of a sweep's objective; None where its journal does not say how many classes there are."""
    found = facts(record)
    classes, examples = found.get("num_classes"), found.get("train" if "train/" in record.opened.metric else "val")
    if not (is_number(classes) and is_number(examples) and classes >= 2 and examples >= 1):
        return None
    return chance_level(record.opened.metric, int(classes), int(examples))


def vanished(value: object, level: float | None, mode: str) -> bool:
    """Whether a trial's best value is that of guessing, or worse."""
    if level is None or not is_number(value):
        return False
    return value <= level if mode == "max" else value >= level
