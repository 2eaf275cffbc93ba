"""An ensemble as a model of MLflow, in the manner of `mlmodel.py`: the files that `mlflow.pyfunc.save_model` would write.

MLmodel                          the loader module, the signature, what Python it needs; last, so that a model is whole
data/model.json                  each member's network, classes and statistics of its preprocessing; how they are pooled
data/member-00000.safetensors    the weights of the first member, as its trial keeps them; and so on
data/stacked.safetensors         the coefficients, of a stacked ensemble
code/orchestrator.zip            our own code
requirements.txt, *.yaml, input_example.json, serving_input_example.json, README.md

Nothing in it is pickled. `pooled.py` is what loads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.base.decode import DecodeError
from orchestrator.base.errors import NotReadyError
from orchestrator.base.inputs import is_complete
from orchestrator.base.pooling import Ensemble
from orchestrator.base.upgrades import current_config
from orchestrator.serving import pooled as reading
from orchestrator.serving.archive import write_archive
from orchestrator.serving.choosing import crops
from orchestrator.serving.example import example_files, readme_of_ensemble
from orchestrator.serving.mlmodel import ARCHIVE, DATA, MLMODEL, environment, inputs_of, mlmodel, network_of
from orchestrator.serving.pooled import DescribedEnsemble, Pooled, member_file
from orchestrator.serving.pyfunc import DESCRIPTION, DescribedTrial, stamp

LOADER = "orchestrator.serving.pooled"

Member = tuple[str, Path, Mapping[str, Any]]
"""The name of a trial, the file with its weights, and its configuration."""


def write_ensemble(to: Path, members: Sequence[Member], ensemble: Ensemble, *, name: str, time_ms: int) -> None:
    """Writes an ensemble as a model into `to`.

    Args:
        to: a folder that is not there yet, or holds what a kill left of this.
        members: in the order of the ensemble's weights, as in `ensemble.members`.
        name: of the comparison, for people.
        time_ms: when the ensemble was made: the same ensemble is the same files.

    Raises:
        NotReadyError: the weights of a member are not there, or do not say how its images are preprocessed; or the folder cannot
            be written.
    """
    said = _described(name, members, ensemble)
    try:
        (to / DATA).mkdir(parents=True, exist_ok=True)
        (to / ARCHIVE).parent.mkdir(exist_ok=True)
        for place, (_, weights, _) in enumerate(members):
            _put(weights, to / DATA / member_file(place))
        if ensemble.pooling == "stacked":
            contents = _coefficients(name, ensemble)
            (to / DATA / reading.STACKED).write_bytes(contents)
            said["pooled"]["stacked"] = hashlib.sha256(contents).hexdigest()
        _check(said)
        said["sha256"] = stamp(said)
        _write_texts(to, said, time_ms)
    except OSError as error:
        raise NotReadyError(f"the model cannot be written to {to} ({error.strerror or error})") from error


def _described(name: str, members: Sequence[Member], ensemble: Ensemble) -> DescribedEnsemble:
    pooled: Pooled = {
        "pooling": ensemble.pooling,
        "weights": [float(weight) for weight in ensemble.weights],
        "temperature": float(ensemble.temperature),
        "member_temperatures": [float(one) for one in ensemble.member_temperatures],
        "stacked": None,
    }
    described = [_member(*member) for member in members]
    return {"format": 1, "kind": "ensemble", "name": name, "members": described, "pooled": pooled, "sha256": "0" * 64}


def _check(said: DescribedEnsemble) -> None:
    """What is written can be read: an ensemble that cannot be is told here, and not to whoever loads it."""
    try:
        reading.check_described(said)
    except DecodeError as error:
        raise NotReadyError(f"the ensemble {said['name']} cannot be written as a model: {error}") from error


def _member(name: str, weights: Path, config: Mapping[str, Any]) -> DescribedTrial:
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotReadyError(
            f"the weights of {name} are not there ({weights}: {error.strerror}), so that no model can be made of the ensemble;"
            f" this trains the trial again:  orchestrator train from={name}"
        ) from error
    inputs = inputs_of(weights)
    if inputs is None or not is_complete(inputs):
        raise NotReadyError(
            f"the weights of {name} do not say how its images were preprocessed: an earlier version wrote them, or a"
            " preprocessing of your own did it; no model can be made of an ensemble with it"
        )
    config = current_config(config)
    network: Any = network_of(config)
    return {"trial": name, "network": network, "inputs": inputs, "crops": crops(config["data"]), "weights": digest}


def _put(weights: Path, to: Path) -> None:
    """A second name of the trial's file, which is never changed, so that retention is free to remove that one; or a copy."""
    from orchestrator.stores.artifacts import put
    from orchestrator.stores.runs import Artifact, RefusedError, UnavailableError

    try:
        put(Artifact(to.name, path=weights.absolute()), to.parent)
    except (RefusedError, UnavailableError) as error:
        raise NotReadyError(f"the model cannot be written: {error}") from error


def _coefficients(name: str, ensemble: Ensemble) -> bytes:
    import torch

    from orchestrator.training.checkpoint import pack

    found = {reading.COEFFICIENTS: ensemble.coefficients_mKK, reading.INTERCEPT: ensemble.intercept_K}
    tensors = {key: torch.tensor(one, dtype=torch.float64) for key, one in found.items()}
    return pack(tensors, {"uid": name}, stamp=True)


def _write_texts(to: Path, said: DescribedEnsemble, time_ms: int) -> None:
    """Everything but the weights; the MLmodel last."""
    inputs = said["members"][0]["inputs"]
    description = json.dumps(said, indent=1)
    example, about_example = example_files(inputs)
    written = {f"{DATA}/{DESCRIPTION}": description, **example}
    weights = sum((to / DATA / member_file(place)).stat().st_size for place in range(len(said["members"])))
    size = weights + sum(len(text.encode()) for text in written.values())
    written |= environment() | {"README.md": readme_of_ensemble(said["name"], inputs, len(said["members"]))}
    written[MLMODEL] = mlmodel(inputs, about_example, size, time_ms, written, loader=LOADER)
    write_archive(to / ARCHIVE)
    for file, text in written.items():
        (to / file).write_text(text, encoding="utf-8")
