"""What a comparison leaves beside its record: its page, its winner as a model where the weights are kept, and its runs in MLflow.

The record comes first. What fails afterwards is told, and loses nothing: `orchestrator sync` ships later.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.base.errors import ConfigError, NotReadyError, OrchestratorError, Problem
from orchestrator.base.layout import (
    COMPARISON,
    COMPARISON_PAGE,
    FINISHING,
    JOURNAL,
    MODEL,
    NETWORK,
    SHIPPING,
    SHIPPING_LOCK,
    UID,
)
from orchestrator.base.locks import hold
from orchestrator.base.regular import read_regular
from orchestrator.base.removal import RefusedRemovalError, opened
from orchestrator.ensembles import record
from orchestrator.ensembles.candidates import best_key
from orchestrator.ensembles.comparison import Comparison, Row, network_of
from orchestrator.ensembles.gathering import Source
from orchestrator.housekeeping.comparisons import Finishing, is_made
from orchestrator.housekeeping.loading import trial_weights
from orchestrator.journal.finding import runs_dir_option, tracking_of
from orchestrator.serving.mlmodel import MLMODEL

if TYPE_CHECKING:
    from orchestrator.ensembles.winner import Made

NOTHING: Mapping[str, bytes] = {}


def keep(
    found: Comparison,
    runs_dir: Path,
    sources: tuple[Source, ...],
    *,
    register: str | None,
    networks: Mapping[str, bytes] = NOTHING,
) -> Path:
    """Writes the record of a comparison, and before it what is wanted beside it: whoever is interrupted has `make_up` do that.

    A comparison that is kept already stays as it is.

    Args:
        register, networks: as for `finish`.

    Raises:
        NotReadyError: it cannot be written.
    """
    from orchestrator.ensembles.shipping import intent

    if is_kept(found, runs_dir):
        return record.folder_of(runs_dir, found["uid"]) / COMPARISON
    beside: dict[str, str | bytes] = {FINISHING: _finishing(made=False)}
    if register is not None or _is_tracked(sources):
        beside[SHIPPING] = intent(register)
    network = network_of(found, _winner(found))
    if network is not None and network["name"] in networks:
        beside[NETWORK] = networks[network["name"]]
    return record.write(found, runs_dir, beside)


def is_kept(found: Comparison, runs_dir: Path) -> bool:
    """Whether the record of this very comparison is there."""
    return (record.folder_of(runs_dir, found["uid"]) / COMPARISON).is_file()


def finish(
    found: Comparison,
    folder: Path,
    sources: tuple[Source, ...],
    *,
    register: str | None,
    networks: Mapping[str, bytes] = NOTHING,
) -> Iterator[str]:
    """Makes them, as far as they are not there yet, and gives a line for each.

    Args:
        folder: of the comparison, with its record.
        register: the name under which the winner is registered; None registers none.
        networks: the weights of members that the comparison made, by their names.

    Raises:
        ConfigError: the winner is to be registered, and no model can be made of it.
        NotReadyError: the winner could not be registered now.
    """
    page, why = _made(found, folder, sources, networks)
    yield page
    yield from why
    if register is not None and why:
        from orchestrator.ensembles.shipping import no_register

        no_register(folder)
        raise ConfigError(Problem("--register", why[0], register))
    if register is not None:
        from orchestrator.ensembles.registering import ALIAS
        from orchestrator.ensembles.registering import register as registered

        yield f"registered: models:/{register}@{ALIAS} is {registered(register, folder).of(register)}"
    else:
        yield from _shipped(folder, sources)


def make_up(folder: Path) -> Iterator[str]:
    """Makes what an interrupted comparison lacks, ships it and registers its winner if that was asked; a line for each.

    Raises:
        NotReadyError, CopyError, RunningElsewhereError: as for `shipping.ship`.
    """
    from orchestrator.ensembles.shipping import no_register, recorded, ship_waiting

    found = recorded(folder)
    if not (is_made(folder) and (folder / MODEL / MLMODEL).is_file()):
        page, why = _made(found, folder, _sources(found, folder), NOTHING)
        yield page
        yield from why
        if why and (name := no_register(folder)):
            yield f"  so that nothing is registered as {name}; once its weights are there, the same comparison registers it"
    yield ship_waiting(folder)


def _made(
    found: Comparison, folder: Path, sources: tuple[Source, ...], networks: Mapping[str, bytes]
) -> tuple[str, list[str]]:
    """Makes page and model; a line about the page, and why there is no model."""
    with hold(folder / SHIPPING_LOCK, f"finishes {folder.name}"):
        page = _page(found, folder, sources)
        why = _model(found, folder, networks)
        with contextlib.suppress(OSError, RefusedRemovalError), opened(folder) as inside:
            inside.write(FINISHING, _finishing(made=True, no_model=why[0].partition(": ")[2] if why else None))
    return page, why


def _finishing(*, made: bool, no_model: str | None = None) -> str:
    said: Finishing = {"format": 1, "made": made, "no_model": no_model}
    return json.dumps(said)


def _sources(found: Comparison, folder: Path) -> tuple[Source, ...]:
    """The sweeps of a recorded comparison, with the folders of those that lie here."""
    runs_dir = folder.absolute().parent.parent
    places = {sweep["uid"]: runs_dir / sweep["uid"] for sweep in found["sweeps"] if UID.fullmatch(sweep["uid"])}
    here = {uid: place for uid, place in places.items() if (place / JOURNAL).is_file()}
    return tuple(Source(one["uid"], one["metric"], one["mode"], here.get(one["uid"])) for one in found["sweeps"])


def _page(found: Comparison, folder: Path, sources: tuple[Source, ...]) -> str:
    from orchestrator.ensembles.page.build import write_page

    to = folder / COMPARISON_PAGE
    if to.is_file():
        return f"page: {to}"
    try:
        write_page(found, _images(found, sources), to)
    except (OSError, RefusedRemovalError) as error:
        return f"there is no page: {to} cannot be written ({getattr(error, 'strerror', None) or error})"
    return f"page: {to}"


def _winner(found: Comparison) -> Row:
    return next(row for row in found["rows"] if row["method"] == found["winner"])


def _model(found: Comparison, folder: Path, networks: Mapping[str, bytes]) -> list[str]:
    """Writes the winner as a model, where there is no whole one; why there is none then, and what to do."""
    from orchestrator.ensembles.winner import NoWeightsError, write_winner

    if (folder / MODEL / MLMODEL).is_file():
        return []
    row = _winner(found)
    names = [found["members"][place]["name"] for place in row["members"]]
    try:
        made = _network(found, folder, networks)
        write_winner(folder, names, record.ensemble_of(row), time_ms=found["created_ms"], made=made)
    except (NotReadyError, ConfigError) as error:
        _remove_half(folder)
        help_ = _help(found, folder.absolute().parent.parent) if isinstance(error, NoWeightsError) else []
        return [f"the winner cannot be kept as a model: {' '.join(str(error).split())[:600]}", *help_]
    return []


def _network(found: Comparison, folder: Path, networks: Mapping[str, bytes]) -> dict[str, Made]:
    """The members of the winner that are no trials. Of a single network the weights are those that were kept with the record."""
    from orchestrator.ensembles.winner import Made

    network = network_of(found, _winner(found))
    if network is None:
        members = [found["members"][place] for place in _winner(found)["members"]]
        asked = [member for member in members if "evaluate" in member or "file" in member]
        trials = {member["name"]: found["members"][member["ingredients"][0]]["name"] for member in asked}
        return {
            member["name"]: Made(None, trials[member["name"]], member.get("evaluate"), member.get("file"))
            for member in asked
        }
    try:
        weights = networks.get(network["name"]) or read_regular(folder / NETWORK)
    except OSError as error:
        raise NotReadyError(f"its weights are not there ({folder / NETWORK}: {error.strerror})") from error
    like = found["members"][network["ingredients"][0]]["name"]
    return {network["name"]: Made(weights, like, network.get("evaluate"))}


def _remove_half(folder: Path) -> None:
    """Removes what was written of a model that did not become whole."""
    with contextlib.suppress(OSError, RefusedRemovalError), opened(folder) as inside:
        inside.remove_tree(MODEL, lambda model: not model.is_file(MLMODEL))


def _help(found: Comparison, runs_dir: Path) -> list[str]:
    """What to do about weights that are not there: nothing brings them back but another training."""
    lines = ["  they come back by training alone; a sweep launched with keep_weights=N keeps those of its N best"]
    metrics = {(sweep["metric"], sweep["mode"]) for sweep in found["sweeps"]}
    values = [member["value"] for member in found["members"]]
    here = 0
    while here < len(values) and trial_weights(runs_dir, found["members"][here]["name"]) is not None:
        here += 1
    while 0 < here < len(values) and values[here - 1] == values[here]:  # of equal ones none is left out
        here -= 1
    if len(metrics) == 1 and 2 <= here < len(values):
        ((metric, mode),) = metrics
        best = f"metrics.`{best_key(metric)}` {'>=' if mode == 'max' else '<='} {values[here - 1]!r}"
        lines.append(f"  the {here:,} best have theirs, and this compares them alone:  --filter {shlex.quote(best)}")
    return lines


def _shipped(folder: Path, sources: tuple[Source, ...]) -> Iterator[str]:
    from orchestrator.ensembles.shipping import read_shipping, ship_waiting

    try:
        said = read_shipping(folder)
        if said is not None and said["shipped"]:
            yield f"{folder.name} is in MLflow already"
        elif said is not None or _is_tracked(sources):
            yield ship_waiting(folder)
    except OrchestratorError as error:
        where = runs_dir_option(folder.parent)
        yield f"not in MLflow yet ({' '.join(str(error).split())[:300]}); later:  orchestrator sync {folder.name}{where}"


def _is_tracked(sources: tuple[Source, ...]) -> bool:
    return any(source.folder is None or tracking_of(source.folder).get("kind") != "none" for source in sources)


def _images(found: Comparison, sources: tuple[Source, ...]) -> dict[int, bytes | None] | None:
    """The worst test images as PNGs, from the cache of decoded images; None where they are not on this machine."""
    from orchestrator.journal.record import read_sweep
    from orchestrator.reports.parts.images import data_uri, stored_images

    wanted = [example["id"] for example in found.get("worst", ())]
    folders = {source.uid: source.folder for source in sources}
    sweep, _, index = found["members"][0]["name"].rpartition("/")
    folder = folders.get(sweep)
    if not wanted or folder is None:
        return None
    try:
        trial = read_sweep(folder).trials.get(int(index))
    except NotReadyError:  # the folder has gone since
        return None
    stored = stored_images(trial.config, found["fingerprint"]) if trial is not None else ""
    if isinstance(stored, str):
        return None
    return {one: _png(data_uri(stored[one])[0]) if one < len(stored) else None for one in wanted}


def _png(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])
