"""What a comparison leaves beside its record: its page, its winner as a model where the weights are kept, and its runs in MLflow.

The record comes first. What fails afterwards is told, and loses nothing: `orchestrator sync` ships later.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.base.errors import ConfigError, NotReadyError, OrchestratorError, Problem
from orchestrator.base.layout import COMPARISON_PAGE
from orchestrator.base.removal import RefusedRemovalError
from orchestrator.ensembles.candidates import best_key
from orchestrator.ensembles.comparison import Comparison, network_of
from orchestrator.ensembles.gathering import Source
from orchestrator.housekeeping.loading import trial_weights

NOTHING: Mapping[str, bytes] = {}


def finish(
    found: Comparison,
    folder: Path,
    sources: tuple[Source, ...],
    *,
    register: str | None,
    networks: Mapping[str, bytes] = NOTHING,
) -> Iterator[str]:
    """Makes them, and gives a line for each.

    Args:
        folder: of the comparison, with its record.
        register: the name under which the winner is registered; None registers none.
        networks: the weights of members that the comparison made, by their names.

    Raises:
        ConfigError: the winner is to be registered, and no model can be made of it.
        NotReadyError: the winner could not be registered now.
    """
    yield _page(found, folder, sources)
    why = _model(found, folder, networks)
    yield from why
    if register is not None and why:
        raise ConfigError(Problem("--register", why[0], register))
    if register is not None:
        from orchestrator.ensembles.registering import ALIAS
        from orchestrator.ensembles.registering import register as registered

        yield f"registered: models:/{register}@{ALIAS} is {registered(register, folder).of(register)}"
    else:
        yield from _shipped(found, folder, sources)


def _page(found: Comparison, folder: Path, sources: tuple[Source, ...]) -> str:
    from orchestrator.ensembles.page.build import write_page

    to = folder / COMPARISON_PAGE
    try:
        write_page(found, _images(found, sources), to)
    except (OSError, RefusedRemovalError) as error:
        return f"there is no page: {to} cannot be written ({getattr(error, 'strerror', None) or error})"
    return f"page: {to}"


def _model(found: Comparison, folder: Path, networks: Mapping[str, bytes]) -> list[str]:
    """Writes the winner as a model; why there is none, and what to do, where there is none."""
    from orchestrator.ensembles.record import ensemble_of
    from orchestrator.ensembles.winner import Made, NoWeightsError, write_winner

    (row,) = (row for row in found["rows"] if row["method"] == found["winner"])
    members = found["members"]
    names = [members[place]["name"] for place in row["members"]]
    one = network_of(found, row)
    made = {one["name"]: Made(networks[one["name"]], members[one["ingredients"][0]]["name"])} if one is not None else {}
    try:
        write_winner(folder, names, ensemble_of(row), time_ms=found["created_ms"], made=made)
    except (NotReadyError, ConfigError) as error:
        help_ = _help(found, folder.absolute().parent.parent) if isinstance(error, NoWeightsError) else []
        return [f"the winner cannot be kept as a model: {' '.join(str(error).split())[:600]}", *help_]
    return []


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


def _shipped(found: Comparison, folder: Path, sources: tuple[Source, ...]) -> Iterator[str]:
    from orchestrator.ensembles.shipping import ship
    from orchestrator.journal.finding import runs_dir_option, tracking_of

    try:
        if any(source.folder is None or tracking_of(source.folder).get("kind") != "none" for source in sources):
            yield ship(found, folder)
    except OrchestratorError as error:
        where = runs_dir_option(folder.parent)
        yield f"not in MLflow yet ({' '.join(str(error).split())[:300]}); later:  orchestrator sync {folder.name}{where}"


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
