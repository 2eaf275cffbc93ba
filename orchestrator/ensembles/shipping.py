"""Ships a comparison to MLflow; what a store does not take now stays in the comparison's folder, for `orchestrator sync`.

Runs are found by the comparison's uid before they are made, so that shipping again changes nothing. They carry no `sweep_uid`: a
sweep's `verify`, `delete` and shared view look at runs with that alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from orchestrator.base.decode import DecodeError, check, read_json
from orchestrator.base.errors import NotReadyError, RunningElsewhereError
from orchestrator.base.layout import COMPARISON, SHIPPING, SHIPPING_LOCK, UID
from orchestrator.base.locks import hold
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import opened
from orchestrator.base.secrets import bare_address, redact
from orchestrator.ensembles import record
from orchestrator.ensembles.comparison import Comparison
from orchestrator.ensembles.runs import UID_TAGS, writes
from orchestrator.housekeeping.comparisons import comparisons_in, is_made
from orchestrator.journal.finding import name_of, runs_dir_option, tracking_of
from orchestrator.journal.place import CopyError
from orchestrator.stores.opening import local_store, open_client
from orchestrator.stores.runs import RunWrite, UnavailableError
from orchestrator.stores.settling import settle
from orchestrator.tracking.sync import sync

if TYPE_CHECKING:
    from orchestrator.stores.client import ClientStore

EXPERIMENT = "comparisons"
"""The experiment of a comparison of which no sweep lies here."""


class Shipping(TypedDict):
    """What `shipping.json` says.

    Args:
        uri: of the store; None for that of the first sweep.
        register: the name under which the winner is to be registered.
    """

    format: Literal[1]
    uri: str | None
    register: str | None
    shipped: bool


def ship(comparison: Comparison, folder: Path, uri: str | None = None) -> str:
    """Makes the runs of a comparison in MLflow, and returns what was shipped, in words.

    Args:
        folder: of the comparison, with its record, its page and its winner as a model, as far as they are there.
        uri: of a store or server; None for that of the first sweep that lies here, or the runs folder's own.

    Raises:
        NotReadyError: the store does not take it; nothing is lost.
        CopyError: the runs folder is a copy of another.
        RunningElsewhereError: another process ships it.
    """
    with kept(folder, uri=uri), opened_store(comparison, folder, uri) as store:
        return ship_into(store, comparison, folder)


def ship_waiting(folder: Path) -> str:
    """Ships a comparison by its record to where it was meant for, and registers its winner if that was asked.

    Raises:
        NotReadyError, CopyError, RunningElsewhereError: as for `ship`.
    """
    said = read_shipping(folder)
    if said is not None and said["register"] is not None:
        from orchestrator.ensembles.registering import register

        registered = register(said["register"], folder, said["uri"], late=True)
        return f"{folder.name} shipped; its winner is {registered.of(said['register'])}"
    return ship(recorded(folder), folder, said and said["uri"])


def waiting(runs_dir: Path, sweep_uid: str) -> list[Path]:
    """The folders of comparisons of a sweep that are not finished, or that MLflow has not taken yet, the oldest first."""
    found = []
    for folder in reversed(comparisons_in(runs_dir)):
        with contextlib.suppress(NotReadyError):
            said = read_shipping(folder)
            of = [sweep["uid"] for sweep in recorded(folder)["sweeps"]]
            waits = not is_made(folder) or (said is not None and not said["shipped"])
            if waits and sweep_uid in of:
                found.append(folder)
    return found


def intent(register: str | None) -> str:
    """What `shipping.json` says of a comparison that is about to be shipped."""
    said: Shipping = {"format": 1, "uri": None, "register": register, "shipped": False}
    return json.dumps(said)


def no_register(folder: Path) -> str | None:
    """Takes back that the winner is to be registered; returns the name that was wanted."""
    with hold(folder / SHIPPING_LOCK, f"ships {folder.name}"):
        said = read_shipping(folder)
        if said is None or said["shipped"] or said["register"] is None:
            return None
        _write(folder, {**said, "register": None})
        return said["register"]


def recorded(folder: Path) -> Comparison:
    """The record in the folder of a comparison.

    Raises:
        NotReadyError: it cannot be read, or is something else.
    """
    found = record.read(folder / COMPARISON)
    if found["uid"] != folder.name:
        raise NotReadyError(f"{folder / COMPARISON} is of the comparison {found['uid']}; give the folder that name")
    return found


def read_shipping(folder: Path) -> Shipping | None:
    """Where a comparison is to be shipped; None where nobody asked for that.

    Raises:
        NotReadyError: what is there is something else.
    """
    path = folder / SHIPPING
    try:
        said: Shipping = read_json(read_regular(path))
        check(said, Shipping)
    except FileNotFoundError:
        return None
    except (OSError, DecodeError) as error:
        raise NotReadyError(f"{path} cannot be used ({error}); remove it, and ship the comparison again") from error
    return said


@contextlib.contextmanager
def kept(folder: Path, *, uri: str | None, register: str | None = None) -> Iterator[None]:
    """While the block ships a comparison nobody else does, and it is marked as waiting until the block has succeeded."""
    with hold(folder / SHIPPING_LOCK, f"ships {folder.name}"):
        before = read_shipping(folder)
        said: Shipping = {
            "format": 1,
            "uri": None if uri is None else bare_address(uri),
            "register": register or (before and before["register"]),
            "shipped": False,
        }
        _write(folder, said)
        try:
            yield
        except CopyError:
            raise
        except (NotReadyError, UnavailableError) as error:
            later = f"orchestrator sync {folder.name}{runs_dir_option(folder.parent)}"
            again = f"it is kept in {folder}, and `{later}` ships it later"
            raise NotReadyError(f"the comparison was not shipped whole: {redact(str(error))}; {again}") from error
        _write(folder, {**said, "shipped": True})


@contextlib.contextmanager
def opened_store(comparison: Comparison, folder: Path, uri: str | None) -> Iterator[ClientStore]:
    """The store, with the comparison's runs found in it.

    Raises:
        UnavailableError: it does not answer.
        CopyError, NotReadyError: the runs folder is a copy, or cannot be written.
    """
    runs_dir = folder.absolute().parent.parent
    settings, experiment = _home(comparison, runs_dir)
    if uri is not None:
        settings = {"uri": uri}
    if settings["uri"] == local_store(runs_dir)["uri"]:
        settle(runs_dir)
        settings = local_store(runs_dir)
    with contextlib.closing(open_client(settings, experiment, UID_TAGS)) as store:
        store.open()
        store.find(comparison["uid"])
        yield store


def ship_into(store: ClientStore, comparison: Comparison, folder: Path) -> str:
    """The runs of a comparison in an open store; the comparison's own is finished last, when all others are.

    Raises:
        UnavailableError, NotReadyError: not now.
    """
    _sync_sweeps(comparison, folder.absolute().parent.parent)
    whole, ensembles = writes(comparison, folder)
    refused = store.write([_begun(whole)])
    refused += store.write(ensembles)
    refused += [text for text in store.write([whole]) if text not in refused]
    shipped = f"{folder.name} shipped with {len(ensembles)} ensembles"
    return f"{shipped}; {len(refused)} writes were refused: {refused[0]}" if refused else shipped


def _sync_sweeps(comparison: Comparison, runs_dir: Path) -> None:
    """Ships what the comparison published in the journals of its sweeps: `verify` would find them behind.

    Raises:
        NotReadyError: a store does not take it.
    """
    for sweep in comparison["sweeps"]:
        folder = runs_dir / sweep["uid"]
        if UID.fullmatch(sweep["uid"]) and tracking_of(folder).get("kind", "none") != "none":
            with contextlib.suppress(RunningElsewhereError):  # its own tracker ships it
                sync(folder, log=lambda line: None)


def _begun(whole: RunWrite) -> RunWrite:
    """The same run before its end: the others lie below it."""
    return replace(whole, artifacts=[], metrics=[], params={}, status=None, end_ms=None)


def _home(comparison: Comparison, runs_dir: Path) -> tuple[Mapping[str, Any], str]:
    """The store and the experiment of the first sweep that lies here; the runs folder's own where none does."""
    for sweep in comparison["sweeps"]:
        folder = runs_dir / sweep["uid"]
        name = name_of(folder) if UID.fullmatch(sweep["uid"]) else None
        if name is not None:
            settings = tracking_of(folder)
            store = settings if settings.get("uri") else local_store(runs_dir)
            return store, str(settings.get("experiment") or name)
    return local_store(runs_dir), EXPERIMENT


def _write(folder: Path, said: Shipping) -> None:
    try:
        with opened(folder) as inside:
            inside.write(SHIPPING, json.dumps(said))
    except OSError as error:
        raise NotReadyError(f"{folder / SHIPPING} cannot be written ({error.strerror})") from error
