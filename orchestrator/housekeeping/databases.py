"""`orchestrator status --check`: whether SQLite finds the databases of a folder of sweeps whole. Nothing is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.layout import JOURNAL
from orchestrator.base.secrets import redact
from orchestrator.housekeeping.overview import Overview
from orchestrator.stores.opening import local_path, store_settings
from orchestrator.stores.runs import UnavailableError
from orchestrator.stores.schema import connect, unavailable_if_it_fails
from orchestrator.stores.sqlite_read import database_problems, foreign_parts


@dataclass(frozen=True)
class Checked:
    """One database.

    Args:
        what: the database, for people.
        problems: what is wrong with it; empty where it is whole.
        looked_at: whether it could be looked at from here; a server's cannot.
    """

    what: str
    problems: Sequence[str] = ()
    looked_at: bool = True

    @property
    def lines(self) -> list[str]:
        """One line, or one and a line a problem."""
        if not self.looked_at:
            return [f"not checked  {self.what}: the server's database is not at hand"]
        return [f"{'damaged' if self.problems else 'whole':<13}{self.what}", *(f"{'':<13}{p}" for p in self.problems)]


def check_databases(sweeps: Sequence[Overview]) -> Iterator[Checked]:
    """Checks the journals of sweeps, and each MLflow store that they went to, once.

    Reads every page, which takes about a second a gigabyte.
    """
    for sweep in sweeps:
        journal = sweep.folder / JOURNAL
        problems = [sweep.damage] if sweep.damage else _problems(journal)
        yield Checked(f"journal of {sweep.folder.name}", problems)
    addresses: dict[str, Path | None] = {}
    for sweep in sweeps:
        settings = store_settings(sweep.outline.record.opening if sweep.outline else None, sweep.folder)
        addresses.setdefault(str(settings["uri"]), local_path(settings))
    for address, path in addresses.items():
        if path is not None:
            yield Checked(f"MLflow store {path}", _problems(path, of_store=True))
        elif address.startswith("http"):
            yield Checked(f"MLflow server {redact(address)}", looked_at=False)


def _problems(path: Path, *, of_store: bool = False) -> list[str]:
    try:
        with unavailable_if_it_fails("it cannot be read"), contextlib.closing(connect(path)) as db:
            return database_problems(db) + (foreign_parts(db) if of_store else [])
    except UnavailableError as error:
        return [redact(str(error))]
