"""Hydra's override grammar: from text to values and domains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from orchestrator.base.build import mismatch
from orchestrator.space import Choice, Domain, Interval, Range

USUAL = "usual"  # in a search space: the range in the choice's own `search:` block
SWEEPS = "choice(a, b), range(start, stop, step), interval(low, high), tag(log, interval(low, high))"

NO_ORDER = "shuffle() and sort() have no meaning here: the sampler decides the order"

SPACE_BLOCKS = ("space", "when")
"""Blocks of a search or an experiment that hold what is searched: always, and under a condition."""

SEARCH_BLOCKS = (*SPACE_BLOCKS, "fixed")
"""Blocks of a search: those, and the values for which it is meant."""

_PARSER = OverridesParser.create()


def parse(text: str) -> Override:
    """One override.

    Raises:
        ValueError: with the reason in one line.
    """
    key, _, value = text.partition("=")
    if not value.isascii() and not re.search(r"""['"\\(){}\[\],]""", value):
        text = f"{key}='{value}'"  # the grammar knows other letters only in quotes
    try:
        return _PARSER.parse_override(text)
    except HydraException as error:
        if "=" not in text:
            raise ValueError(f"has no value; write {text}=VALUE") from error
        reason = str(error.__cause__ or "").splitlines()
        why = reason[0] if reason and reason[0] != "None" else "is a bracket or a quotation mark left open?"
        raise ValueError(f"cannot be read: {why}") from error


def to_domain(sweep: object, names: Iterable[str] | None = None) -> Domain:
    """The domain that a sweep of Hydra's grammar describes; `names` are what glob() chooses from.

    Raises:
        ValueError: the domain makes no sense, or the grammar's shuffle, sort or an unknown tag is used.
    """
    if isinstance(sweep, Choice):
        return sweep
    if isinstance(sweep, Glob):
        if names is None:
            raise ValueError("glob() chooses among the files of a group; a value has choice(), range() or interval()")
        found = sweep.filter(list(names))
        if not found:
            raise ValueError(f"matches none of {', '.join(sorted(names))}")
        return Choice(tuple(sorted(found)))
    if getattr(sweep, "shuffle", False):
        raise ValueError(NO_ORDER)
    tags: set[str] = getattr(sweep, "tags", set())
    if tags - {"log"} or (tags and not isinstance(sweep, IntervalSweep)):
        raise ValueError(f"tag({', '.join(sorted(tags))}, ...): the only tag is log, on an interval()")
    if isinstance(sweep, IntervalSweep):
        low, high = cast("float", sweep.start), cast("float", sweep.end)
        return Interval(low, high, log="log" in tags, integer=isinstance(low, int) and isinstance(high, int))
    if isinstance(sweep, RangeSweep):
        return Range(*(cast("float", number) for number in (sweep.start, sweep.stop, sweep.step)))
    assert isinstance(sweep, ChoiceSweep)
    return Choice(tuple(value for item in sweep.list for value in _choice_values(item)))


def orders(text: str) -> bool:
    """Whether a sweep is written with shuffle() or sort(), which Hydra would carry out at once."""
    return re.search(r"\b(shuffle|sort)\s*\(", text) is not None


def _choice_values(item: object) -> Sequence[Any]:
    if isinstance(item, RangeSweep):
        return to_domain(item).grid()
    return [plain(item)]


def typed(override: Override) -> str:
    """The value as it was typed."""
    return (override.input_line or "").partition("=")[2]


def as_annotated(override: Override, annotation: Any) -> Any:
    """The fixed value of an override; what looks like a number stays text where only text is wanted (`name=2026`)."""
    value = plain(override.value())
    if isinstance(value, str | list | dict) or not mismatch(value, annotation) or mismatch(typed(override), annotation):
        return value
    return typed(override)


def plain(value: Any) -> Any:
    """A parsed value without Hydra's own types."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    return value


def written_sweep(key: str, text: object) -> Any:
    """A sweep written in a YAML; ValueError where it is none."""
    if text == USUAL:
        return USUAL
    if not isinstance(text, str):
        raise ValueError(f"must be {USUAL} or a sweep: {SWEEPS}")
    override = parse(f"{key}={text}")
    if not override.is_sweep_override() or orders(text):
        raise ValueError(f"must be {USUAL} or a sweep: {SWEEPS}")
    return override.value()
