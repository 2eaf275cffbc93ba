"""What is wrong with a comparison before anything is computed: its arguments, or a sweep at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from orchestrator.base.errors import ConfigError, NotReadyError, Problem, RunningElsewhereError
from orchestrator.base.layout import LOCK
from orchestrator.base.locks import holder
from orchestrator.base.names import check_name
from orchestrator.config.machine import check_writable
from orchestrator.ensembles.crossfitting import Temperature
from orchestrator.ensembles.gathering import Gathered, Source


def check(
    gathered: Gathered,
    temperature: str,
    budget: int | None,
    macs: int | None,
    seed: int,
    resamples: int,
    name: str | None,
) -> None:
    problems = [*_asked(temperature, budget, macs, seed, resamples, name)]
    if len(gathered.pool) < 2:
        left_out = "".join(f"; {one.name}: {one.reason}" for one in gathered.left_out[:8])
        problems.insert(0, Problem("compare", f"takes two members, there are {len(gathered.pool)}{left_out}"))
    if problems:
        raise ConfigError(problems)


def check_asked(
    temperature: str = "after",
    budget: int | None = None,
    macs: int | None = None,
    seed: int = 1,
    resamples: int = 100,
    name: str | None = None,
) -> None:
    """What is wrong with the arguments, whatever is compared.

    Raises:
        ConfigError: one is wrong; all are told.
    """
    if problems := [*_asked(temperature, budget, macs, seed, resamples, name)]:
        raise ConfigError(problems)


def _asked(
    temperature: str, budget: int | None, macs: int | None, seed: int, resamples: int, name: str | None
) -> Iterator[Problem]:
    if temperature not in get_args(Temperature):
        allowed = f"must be one of {', '.join(get_args(Temperature))}"
        yield Problem("--temperature", allowed, temperature)
    most = 2**53
    for option, value, least in (
        ("--budget", budget, 1),
        ("--macs", macs, 1),
        ("--seed", seed, 0),
        ("resamples", resamples, 100),
    ):
        if value is not None and not least <= value <= most:
            yield Problem(option, f"must be at least {least}" if value < least else f"must be at most {most}", value)
    if name is not None and (why := check_name(name)):
        yield Problem("--name", why, name)


def check_idle(sources: Sequence[Source]) -> None:
    """
    Raises:
        RunningElsewhereError: a driver works on one of the sweeps, or another process publishes something of it.
    """
    for source in sources:
        if source.folder is not None and (other := holder(source.folder / LOCK)) is not None:
            does = other.doing or f"works on {source.uid}"
            stop = f"orchestrator stop {source.uid}"
            raise RunningElsewhereError(
                f"{other} {does}; its trials are compared when it has ended: wait, or end it with `{stop}`"
            )


def check_place(runs_dir: Path) -> None:
    """
    Raises:
        NotReadyError: nothing can be written there, so that the comparison would be lost.
    """
    try:
        check_writable(runs_dir)
    except NotReadyError as error:
        why = str(error).partition(": ")[2].partition(";")[0]
        raise NotReadyError(
            f"--runs-dir={runs_dir}: {why}, and the comparison is kept there; nothing was compared"
        ) from error
