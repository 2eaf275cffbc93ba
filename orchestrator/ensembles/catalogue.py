"""The methods that a comparison tries: the choices of `conf/ensemble`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base import yaml_files
from orchestrator.base.build import build
from orchestrator.base.errors import ConfigError, Problem, nearest
from orchestrator.base.groups import ENSEMBLE
from orchestrator.base.layout import CONF
from orchestrator.ensembles.methods import Method

BASELINE = "best_single"
"""What every method is compared with; it is always tried."""

SEEDS = "seeds"
"""The deep ensemble of one configuration, with which a hyper-deep one is compared, too."""


@dataclass(frozen=True)
class Choice:
    """A method with the arguments of its YAML.

    Args:
        described: the first line of the file, without its comment sign.
    """

    name: str
    described: str
    method: Method


def names() -> list[str]:
    """All choices, in alphabetical order."""
    return sorted(path.stem for path in (CONF / ENSEMBLE).glob("*.yaml"))


def chosen(wanted: Sequence[str] | None = None) -> list[Choice]:
    """The choices of these names in alphabetical order, and the baseline; None means all but those on request.

    Raises:
        ConfigError: one is no choice; all are told.
    """
    known = names()
    unknown = [name for name in dict.fromkeys(wanted or ()) if name not in known]
    if unknown or (wanted is not None and not wanted):
        listed = "orchestrator list ensemble"
        problems = [
            Problem(
                "--methods", "is no method", name, nearest=nearest(name, known), known=tuple(known), listed_by=listed
            )
            for name in unknown
        ]
        raise ConfigError(problems or [Problem("--methods", "names no method", known=tuple(known), listed_by=listed)])
    if wanted is not None:
        return [_read(CONF / ENSEMBLE / f"{name}.yaml") for name in known if name in {*wanted, BASELINE}]
    everything = [_read(CONF / ENSEMBLE / f"{name}.yaml") for name in known]
    return [choice for choice in everything if not getattr(choice.method, "on_request", False)]


def _read(path: Path) -> Choice:
    method: Method = build(yaml_files.read(path))
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Choice(path.stem, first.removeprefix("#").strip().removesuffix("."), method)
