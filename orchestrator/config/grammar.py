"""Hydra's override grammar: from text to values and domains."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep, Sweep
from hydra.errors import HydraException

from orchestrator.base.build import mismatch
from orchestrator.base.errors import nearest
from orchestrator.base.plain import why_not_plain
from orchestrator.space import Choice, Domain, Interval, Range

USUAL = "usual"  # in a search space: the range in the choice's own `search:` block
SWEEPS = "choice(a, b), range(start, stop, step), interval(low, high), tag(log, interval(low, high))"

NO_ORDER = "shuffle() and sort() have no meaning here: the sampler decides the order"

SPACE_BLOCKS = ("space", "when")
"""Blocks of a search or an experiment that hold what is searched: always, and under a condition."""

SEARCH_BLOCKS = (*SPACE_BLOCKS, "fixed")
"""Blocks of a search: those, and the values for which it is meant."""

MAX_LENGTH = 10_000
"""Characters of one override."""

MAX_BRACKETS = 50
"""Open brackets within each other; the parser descends for each."""

MAX_CHOICES = 10_000
"""Values of one choice."""

_PARSER = OverridesParser.create()


def parse(text: str) -> Override:
    """One override.

    Raises:
        ValueError: with the reason in one line.
    """
    if why := _unreadable(text):
        raise ValueError(why)
    key, _, value = text.partition("=")
    if not value.isascii() and not re.search(r"""['"\\(){}\[\],]""", value):
        text = f"{key}='{value}'"  # the grammar knows other letters only in quotes
    try:
        override = _PARSER.parse_override(text)
        why = why_not_plain(_innermost(override.value()))
    except Exception as error:  # the parser is Hydra's: functions such as int() and sort() raise what comes
        if "://" in key or ("://" in text and "=" not in text):
            raise ValueError("is an address without a key; write tracking.uri=ADDRESS") from error
        if "=" not in text:
            key, colon, rest = text.partition(":")
            written = f"{key}={rest.strip()}" if colon and rest and re.fullmatch(r"[\w.]+", key) else f"{text}=VALUE"
            raise ValueError(f"has no value; write {written}") from error
        raise ValueError(f"cannot be read: {_reason(error, value)}") from error
    if why:
        raise ValueError(why)
    return override


def _unreadable(text: str) -> str | None:
    """Why an override is not even parsed."""
    if len(text) > MAX_LENGTH:
        return f"has {len(text):,} characters; at most {MAX_LENGTH:,} are read"
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return f"has more than {MAX_BRACKETS} brackets within each other" if deepest > MAX_BRACKETS else None


def _reason(error: Exception, value: str) -> str:
    """In one line why the parser refused."""
    if any(value.count(opening) != value.count(closing) for opening, closing in ("()", "[]", "{}")):
        return "a bracket is left open, or closed twice; put the whole in quotation marks, as in  'KEY=interval(1,2)'"
    if value.count("'") % 2 or value.count('"') % 2:
        return "a quotation mark is left open"
    if "=" in value and not re.search(r"[(\[{'\"]", value):
        return f"a value with = in it stands in quotation marks:  KEY='\"{value}\"'"
    found = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
    lines = [line.strip() for line in str(found).splitlines() if line.strip() not in ("", "None")]
    if not lines or not isinstance(error, HydraException | ValueError):
        return f"it is neither a value nor one of {SWEEPS}"
    if letter := re.match(
        r"LexerNoViableAltException\((.+)\)$", lines[0]
    ):  # of ANTLR, which Hydra's parser is made with
        return f"the character {letter[1]} has no meaning here; a text with it stands in quotation marks"
    if re.match(r"(extraneous|mismatched|missing|no viable)", lines[0]):
        return f"it is neither a value nor one of {SWEEPS}"
    if unknown := re.match(r"Unknown function '(\w+)'", lines[0]):
        near = nearest(unknown[1], re.findall(r"(\w+)\(", SWEEPS))
        return f"there is no function {unknown[1]}" + (f"; did you mean {near}?" if near else f", but {SWEEPS}")
    return lines[0]


def _innermost(value: object) -> object:
    """What a parsed value holds, as lists and mappings."""
    if isinstance(value, ChoiceSweep):
        return [_innermost(item) for item in value.list]
    if isinstance(value, RangeSweep):
        return [value.start, value.stop, value.step]
    if isinstance(value, IntervalSweep):
        return [value.start, value.end]
    if isinstance(value, Glob):
        return [*value.include, *value.exclude]
    if isinstance(value, list):
        return [_innermost(item) for item in value]
    if isinstance(value, dict):
        return {str(plain(key)): _innermost(item) for key, item in value.items()}
    return plain(value)


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
    values: list[Any] = []
    for item in sweep.list:
        values += _choice_values(item)
        if len(values) > MAX_CHOICES:
            raise ValueError(f"has more than {MAX_CHOICES:,} values; range() and interval() have no limit")
    return Choice(tuple(values))


def orders(text: str) -> bool:
    """Whether a sweep is written with shuffle() or sort(), which Hydra would carry out at once."""
    return re.search(r"\b(shuffle|sort)\s*\(", text) is not None


def _choice_values(item: object) -> Sequence[Any]:
    if isinstance(item, RangeSweep):
        domain = to_domain(item)
        return domain.grid() if (domain.size or 0) <= MAX_CHOICES else range(MAX_CHOICES + 1)
    if isinstance(item, Sweep):
        raise ValueError("a choice holds values and range(), no other sweep")
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
