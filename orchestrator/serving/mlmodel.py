"""The best trial of a sweep as a model of MLflow: the files that `mlflow.pyfunc.save_model` would write, without MLflow.

MLmodel                          the loader module, the signature, what Python it needs
data/model.json                  the network's configuration, the classes, the statistics of the preprocessing
data/best.safetensors            the weights, as the trial keeps them
code/orchestrator.zip            our own code, so that the model loads where this project is not installed
requirements.txt, *.yaml         the packages beside it
input_example.json, serving_input_example.json, README.md

Nothing in it is pickled, and neither MLflow nor torch is imported to write it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.base.decode import DecodeError, read_json
from orchestrator.base.errors import NotReadyError
from orchestrator.base.groups import OF_MODEL
from orchestrator.base.inputs import Inputs, checked_inputs, is_complete, unique_names
from orchestrator.base.layout import BEST, trial_folder
from orchestrator.base.upgrades import current_config
from orchestrator.journal.record import SweepRecord, TrialRecord
from orchestrator.serving.archive import write_archive
from orchestrator.serving.choosing import best_trial, crops
from orchestrator.serving.example import example_files, readme
from orchestrator.serving.pyfunc import DESCRIPTION, FORMAT, stamp

LOADER = "orchestrator.serving.pyfunc"
ARCHIVE = "code/orchestrator.zip"
DATA = "data"
MLMODEL = "MLmodel"
NETWORK = ("model", *OF_MODEL, "transfer", "seed")
"""What of a trial's configuration makes the network."""

EVALUATE = "evaluate"
"""How it is asked, which is said where it is not the ordinary inference."""

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pyyaml", "safetensors", "torch")
MAX_HEADER = 100_000_000


def write_model(folder: Path, record: SweepRecord, to: Path) -> list[tuple[str, Path]]:
    """Writes the model of the best trial into `to`; (artifact name `model/...`, file) of each of its files.

    The weights are those that the trial keeps, not a copy. Empty where no trial is best yet, none of its weights are kept, or
    they do not say all that is to be known: those of earlier versions, and where preprocessing is the user's own.

    Args:
        folder: of the sweep.
        record: of the sweep as it is now.
        to: a folder that is not there yet, or is empty.

    Raises:
        OSError: it cannot be written.
    """
    try:
        trial = record.trials[best_trial(folder, record)]
    except NotReadyError:
        return []
    weights = trial_folder(folder, trial.index) / BEST
    inputs = inputs_of(weights)
    if inputs is None or not is_complete(inputs):
        return []
    (to / DATA).mkdir(parents=True)
    (to / ARCHIVE).parent.mkdir()
    written = {f"{DATA}/{DESCRIPTION}": _description(record, trial, inputs, weights)}
    example, about_example = example_files(inputs)
    written |= example
    size = weights.stat().st_size + sum(len(text.encode()) for text in written.values())
    written |= environment() | {"README.md": readme(f"{record.uid}/{trial.index}", inputs)}
    written[MLMODEL] = mlmodel(inputs, about_example, size, record.last_ms, written)
    for name, text in written.items():
        (to / name).write_text(text, encoding="utf-8")
    write_archive(to / ARCHIVE)
    files = {name: to / name for name in (*written, ARCHIVE)} | {f"{DATA}/{BEST}": weights}
    return [(f"model/{name}", path) for name, path in sorted(files.items())]


def inputs_of(weights: Path) -> Inputs | None:
    """What the network was told of its images, from the header of its weights; None where that is not all there."""
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = read_json(file.read(length)) if length <= MAX_HEADER else {}
        return checked_inputs(read_json(header["__metadata__"]["state"])["inputs"])
    except (OSError, DecodeError, KeyError, TypeError):
        return None


def _description(record: SweepRecord, trial: TrialRecord, inputs: Inputs, weights: Path) -> str:
    config = current_config(trial.config)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    said: dict[str, Any] = {
        "format": FORMAT,
        "trial": f"{record.uid}/{trial.index}",
        "network": network_of(config),
        "inputs": inputs,
        "crops": crops(config["data"]),
        "weights": digest,
    }
    return json.dumps(said | {"sha256": stamp(said)}, indent=1)


def network_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial's configuration makes its network, and how that is asked."""
    return {key: config[key] for key in (*NETWORK, *((EVALUATE,) if config[EVALUATE] else ()))}


def mlmodel(
    inputs: Inputs,
    example: Mapping[str, Any],
    size: int,
    time_ms: int,
    others: Mapping[str, str],
    *,
    loader: str = LOADER,
) -> str:
    """The file `MLmodel`.

    Args:
        size: of the weights, the description and the example in bytes.
        others: the texts of the other files, of which the model has its identity.
    """
    import yaml

    columns = [{"type": "double", "name": name, "required": True} for name in unique_names(inputs["classes"])]
    image = {"name": "image", "type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}
    identity = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
    model = {
        "flavors": {
            "python_function": {
                "code": ARCHIVE,
                "data": DATA,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": loader,
                "python_version": platform.python_version(),
                "streamable": False,
            }
        },
        "is_signature_from_type_hint": False,
        "metadata": {
            "image": f"bytes of an image file in base64, or uint8 [{_shape(inputs)}]",
            "classes": len(inputs["classes"]),
        },
        "mlflow_version": _version("mlflow"),
        "model_id": None,
        "model_size_bytes": size,
        "model_uuid": identity[:32],
        "prompts": None,
        "saved_input_example_info": dict(example),
        "signature": {"inputs": json.dumps([image]), "outputs": json.dumps(columns), "params": None},
        "type_hint_from_example": False,
        "utc_time_created": datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return yaml.safe_dump(model, default_flow_style=False)


def environment() -> dict[str, str]:
    """The packages that the model needs, in the three ways in which MLflow says it."""
    import yaml

    requirements = [f"{name}=={_version(name)}" for name in REQUIREMENTS]
    python = platform.python_version()
    tools = [f"{name}=={version}" if (version := _installed(name)) else name for name in ("pip", "setuptools", "wheel")]
    pip = tools[0]
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", pip.replace("==", "<="), {"pip": requirements}],
        "name": "mlflow-env",
    }
    virtual = {"python": python, "build_dependencies": tools, "dependencies": ["-r requirements.txt"]}
    return {
        "requirements.txt": "\n".join(requirements),
        "conda.yaml": yaml.safe_dump(conda, default_flow_style=False),
        "python_env.yaml": yaml.safe_dump(virtual, sort_keys=False),
    }


def _version(name: str) -> str:
    """The version of an installed package as an index knows it: without the build (`2.15.0+cpu`)."""
    return (_installed(name) or "0").partition("+")[0]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _shape(inputs: Inputs) -> str:
    return f"N, {inputs['height']}, {inputs['width']}, {inputs['channels']}"
