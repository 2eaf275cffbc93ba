"""Which members' weights are on this machine, by network: weights of one network can be averaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.base.decode import DecodeError, read_json
from orchestrator.base.errors import OrchestratorError
from orchestrator.base.groups import OF_MODEL
from orchestrator.base.layout import trial_folder
from orchestrator.base.regular import open_regular
from orchestrator.base.targets import catalogue_targets
from orchestrator.base.upgrades import current_config, with_defaults
from orchestrator.ensembles.candidates import LeftOut, Source
from orchestrator.ensembles.pool import Pool
from orchestrator.journal.record import SweepRecord, read_sweep

LONGEST_HEADER = 2**24
ASKED = ("preprocess", "evaluate")
"""Groups that say what a network is shown of an image, and how often."""

OF_NETWORK = ("model", *OF_MODEL, *ASKED)
"""What averaged networks have in common, beside the names and shapes of their weights."""

IN_TRAINING = {"model": ("dropout", "aux_dropout"), "norm": ("momentum",)}
"""Arguments that say nothing of what a network computes when it is trained."""

SCOPE = "of soups alone"
"""How a reason begins that keeps weights from being averaged, and not a trial from being a member."""


@dataclass(frozen=True)
class Weights:
    """The weights of a member.

    Args:
        place: of the member in the pool.
        uid: of the trial as its files name it.
        network: the same for weights that can be averaged.
        epochs: so many the trial was trained.
    """

    place: int
    name: str
    path: Path
    uid: str
    config: Mapping[str, Any]
    network: str
    epochs: int


def weights_here(
    pool: Pool, sources: Sequence[Source], file: str, *, each: bool = False
) -> tuple[list[Weights], list[LeftOut]]:
    """The weights of members as the headers of their files describe them, in the order of the pool.

    Args:
        file: of a trial's folder.
        each: whether each trial is a network by itself, with its own seed and dropout.
    """
    folders = {source.uid: source.folder for source in sources if source.folder is not None}
    records: dict[str, SweepRecord] = {}
    found, left_out = [], []
    for place, member in enumerate(pool.members):
        sweep, _, index = member.name.rpartition("/")
        folder = folders.get(sweep)
        if folder is None or not (path := trial_folder(folder, int(index)) / file).is_file():
            continue
        try:
            if sweep not in records:
                records[sweep] = read_sweep(folder)
            record = records[sweep]
            trial = record.trials[int(index)]
            config = current_config(trial.config)
            uid = f"{record.opened.uid_in_files}/{index}"
            network = member.name if each else _network(config, path)
            found.append(Weights(place, member.name, path, uid, config, network, trial.epoch))
        except (OrchestratorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            why = " ".join(f"{error}".split())[:300]
            left_out.append(LeftOut(member.name, f"{SCOPE}: its weights cannot be used ({why})"))
    return found, left_out


def _network(config: Mapping[str, Any], path: Path) -> str:
    """
    Raises:
        ValueError: the file has no header, or the configuration something else than a part.
    """
    parts: list[Any] = [_shapes(path)]
    for group in OF_NETWORK:
        ours = config[group].get("_target_") in catalogue_targets()
        passed_over = IN_TRAINING.get(group, ()) if ours else ()
        parts.append({key: value for key, value in with_defaults(config[group]).items() if key not in passed_over})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _shapes(path: Path) -> dict[str, Any]:
    """Name -> type and shape of each tensor, as the header of a safetensors file says."""
    with open(open_regular(path), "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"its header has {length:,} bytes")
        header = file.read(length)
    try:
        said = read_json(header)
        return {name: [one["dtype"], one["shape"]] for name, one in said.items() if name != "__metadata__"}
    except (DecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError("it is not a whole safetensors file") from error
